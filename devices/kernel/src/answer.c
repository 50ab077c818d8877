/* Requests: what is given is checked, lists become a bit an item, and the best k are stored in the caller's arrays. */
#include "kernel.h"

/* The parts of `work`; with a NULL memory, the bytes that they take. */
static size_t lay_out(const er_model *model, uint8_t *memory, er_work *work) {
    er_arena arena = {.memory = memory, .size = memory ? SIZE_MAX / 2 : 0};
    uint32_t items = model->facts.items, tile = er_tile(model), d = model->facts.d;
    work->out = er_take(&arena, ((uint64_t)items + 7) / 8);
    work->query.values = er_take(&arena, (uint64_t)d * sizeof(float));
    work->query.codes = er_take(&arena, d);
    work->row = er_take(&arena, (uint64_t)d * sizeof(float));
    work->spare = er_take(&arena, (uint64_t)er_spare(model) * sizeof(float));
    work->tile = er_take(&arena, (uint64_t)((items < tile ? items : tile) + ER_BEHIND) * sizeof(er_cell));
    return arena.used;
}

size_t er_work_size(const er_model *model) {
    er_work work;
    return lay_out(model, NULL, &work);
}

static er_status begin(const er_model *model, uint32_t k, void *memory, size_t size, er_work *work) {
    if (k < 1 || k > model->facts.items) return ER_K;
    if ((uintptr_t)memory % 8) return ER_ALIGNMENT;
    if (memory == NULL || size < lay_out(model, memory, work)) return ER_MEMORY;
    memset(work->out, 0, (model->facts.items + 7) / 8);
    memset(work->query.codes, 0, (model->facts.d + 7) / 8 * 8);
    work->query.scored = true;
    return ER_OK;
}

static er_status check_rows(const er_model *model, const int32_t *rows, size_t n) {
    for (size_t one = 0; one < n; one++)
        if (rows[one] < 0 || (uint32_t)rows[one] >= model->facts.items) return ER_ROW;
    return ER_OK;
}

static bool is_out(const uint8_t *out, int32_t row) { return out[row >> 3] >> (row & 7) & 1; }

static void mark(uint8_t *out, const int32_t *rows, size_t n) {
    for (size_t one = 0; one < n; one++) out[rows[one] >> 3] |= (uint8_t)(1u << (rows[one] & 7));
}

/* Leave out all but the allowed items, those of the history, and the excluded ones. */
static er_status limit(const er_model *model, const er_request *request, er_work *work) {
    ER_TRY(check_rows(model, request->exclude, request->n_exclude));
    if (request->allow) {
        ER_TRY(check_rows(model, request->allow, request->n_allow));
        memset(work->out, 255, (model->facts.items + 7) / 8);
        for (size_t one = 0; one < request->n_allow; one++)
            work->out[request->allow[one] >> 3] &= (uint8_t)~(1u << (request->allow[one] & 7));
    }
    mark(work->out, request->exclude, request->n_exclude);
    return ER_OK;
}

/* Items that may come back. */
static uint32_t left(const er_model *model, const er_work *work) {
    uint32_t items = model->facts.items, out = 0;
    for (uint32_t first = 0; first < items; first += 32) {
        uint32_t bits;
        memcpy(&bits, work->out + first / 8, sizeof bits); /* whole words: er_take rounds up */
        if (items - first < 32) bits &= (1u << (items - first)) - 1;
        bits -= bits >> 1 & 0x55555555u;
        bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
        out += ((bits + (bits >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
    }
    return items - out;
}

static bool finite(float value) { return value - value == 0; }

/* The query of a request; *n_history is the number of its distinct items, whose bits are set, and 0 without one. */
static er_status subject(const er_model *model, const er_request *request, er_work *work, bool *is_empty) {
    const er_facts *facts = &model->facts;
    int given = (request->user >= 0) + (request->history != NULL) + (request->vector != NULL);
    *is_empty = false;
    if (given != 1 || request->user < -1) return ER_REQUEST;
    if ((facts->users > 0) != (request->user >= 0) || (request->vector && !facts->takes_vectors)) return ER_REQUEST;
    if (request->user >= 0) {
        if ((uint32_t)request->user >= facts->users) return ER_ROW;
        if (!er_query_of_row(model, work, &model->users, (uint32_t)request->user)) return ER_TABLES;
    } else {
        if (request->vector) {
            for (uint32_t at = 0; at < facts->d; at++)
                if (!finite(request->vector[at])) return ER_VECTOR;
            memcpy(work->query.values, request->vector, facts->d * sizeof(float));
        } else {
            ER_TRY(check_rows(model, request->history, request->n_history));
            mark(work->out, request->history, request->n_history);
            uint32_t count = facts->items - left(model, work);
            *is_empty = count == 0;
            ER_TRY(er_encoded(model, work, count, work->query.values));
        }
        if (!er_query_of_values(model, work)) return ER_TABLES;
    }
    er_begin_scorer(model, work);
    return ER_OK;
}

/* The best items so far: a heap with the worst at its root, in the caller's arrays. */
typedef struct {
    int32_t *items;
    float *scores;
    uint32_t k, n;
    const er_model *model;
    float rarity;   /* 0: scores stay as they are */
    float *factors; /* of weights in bytes; 0 where it is not computed yet */
} best;

static bool worse(const best *heap, uint32_t one, float score, int32_t item) {
    return heap->scores[one] < score || (heap->scores[one] == score && heap->items[one] > item);
}

/* Put an item at a place from which its children are moved up as long as they are worse. */
static void sink(best *heap, uint32_t at, float score, int32_t item) {
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= heap->n) break;
        if (child + 1 < heap->n && worse(heap, child + 1, heap->scores[child], heap->items[child])) child++;
        if (!worse(heap, child, score, item)) break;
        heap->scores[at] = heap->scores[child], heap->items[at] = heap->items[child];
        at = child;
    }
    heap->scores[at] = score, heap->items[at] = item;
}

/* A score as the rarity changes it, which never makes it larger. */
static float by_rarity(const best *heap, float score, int32_t item) {
    float own = 0, *factor = &own;
    if (heap->model->weights_in_bytes) factor = &heap->factors[((const uint8_t *)heap->model->weights)[item]];
    if (*factor == 0) *factor = er_rarity(heap->model, (uint32_t)item, heap->rarity);
    return score > 0 ? score * *factor : score / *factor;
}

static void push(best *heap, float score, int32_t item) {
    if (heap->rarity != 0 && (heap->n < heap->k || score >= heap->scores[0])) score = by_rarity(heap, score, item);
    if (score != score) return; /* found by their number afterwards */
    if (heap->n == heap->k) {
        if (worse(heap, 0, score, item)) sink(heap, 0, score, item);
        return;
    }
    uint32_t at = heap->n++;
    while (at) {
        uint32_t parent = (at - 1) / 2;
        if (worse(heap, parent, score, item)) break;
        heap->scores[at] = heap->scores[parent], heap->items[at] = heap->items[parent];
        at = parent;
    }
    heap->scores[at] = score, heap->items[at] = item;
}

/* Best first, with finished scores; a number that is not finite, or an item too few, is an error. */
static er_status finish(const er_work *work, best *heap, uint32_t wanted, float factor, uint32_t *found,
                        er_status wrong) {
    *found = heap->n;
    for (uint32_t end = heap->n; end > 1; end--) {
        float score = heap->scores[0];
        int32_t item = heap->items[0];
        heap->n = end - 1;
        sink(heap, 0, heap->scores[end - 1], heap->items[end - 1]);
        heap->scores[end - 1] = score, heap->items[end - 1] = item;
    }
    for (uint32_t one = 0; one < *found; one++) {
        heap->scores[one] = er_scaled(heap->scores[one] * factor, work->query.exponent);
        if (!finite(heap->scores[one])) return wrong;
    }
    return *found == wanted ? ER_OK : wrong;
}

/* Push the rows of a tile that are not out. */
static void push_tile(best *heap, const er_work *work, uint32_t first, uint32_t rows) {
    for (uint32_t start = 0; start < rows; start += 16) {
        uint32_t end = rows - start < 16 ? rows : start + 16;
        if (heap->n == heap->k) {
            float least = heap->scores[0];
            int any = 0;
            for (uint32_t row = start; row < end; row++) any |= work->tile[row].score >= least;
            if (!any) continue;
        }
        for (uint32_t row = start; row < end; row++)
            if (!is_out(work->out, (int32_t)(first + row))) push(heap, work->tile[row].score, (int32_t)(first + row));
    }
}

static void push_rows(const er_model *model, er_work *work, best *heap, const uint16_t *norms, uint32_t first,
                      uint32_t rows) {
    er_scan(model, work, first, rows);
    for (uint32_t row = 0; norms && row < rows; row++) work->tile[row].score *= er_half(norms[first + row]);
    push_tile(heap, work, first, rows);
}

/* Every row, a tile at a time. With bounds, block by block: the last have the highest, and are read first. */
static void push_all(const er_model *model, er_work *work, best *heap, const uint16_t *norms) {
    const er_table *table = &model->items;
    uint32_t tile = er_tile(model), first = 0, rows = table->rows, one = 0;
#if ER_BOUNDS
    const float *bounds = model->bounds ? model->bounds + (norms ? table->n_blocks : 0) : NULL;
    if (bounds) er_query_lengths(model, &work->query, work->row), one = table->n_blocks - 1;
#endif
    do {
#if ER_BOUNDS
        if (bounds) {
            const er_block *block = &table->blocks[one];
            float bound = bounds[one] * work->row[block->width - 1] * 1.0001f; /* above the rounding of sums */
            if (heap->n == heap->k && bound < heap->scores[0]) continue;
            first = block->first, rows = block->rows;
        }
#endif
        for (uint32_t left = rows; left;) {
            uint32_t few = left < tile ? left : tile;
            push_rows(model, work, heap, norms, first + (rows - left), few);
            left -= few;
        }
    } while (one--);
}

static er_status rank_popular(const er_model *model, er_work *work, uint32_t k, int32_t *items, float *scores,
                              uint32_t *found) {
    *found = 0;
    for (uint32_t one = 0; one < model->n_popular && *found < k; one++) {
        int32_t row = model->popular_wide ? (int32_t)((const uint32_t *)model->popular)[one]
                                          : ((const uint16_t *)model->popular)[one];
        if (is_out(work->out, row)) continue;
        items[(*found)++] = row;
        mark(work->out, &row, 1);
    }
    for (int32_t row = 0; (uint32_t)row < model->facts.items && *found < k; row++)
        if (!is_out(work->out, row)) items[(*found)++] = row;
    for (uint32_t one = 0; one < *found; one++) scores[one] = 0;
    return ER_OK;
}

er_status er_recommend(const er_model *model, const er_request *request, uint32_t k, int32_t *items, float *scores,
                       uint32_t *found, void *memory, size_t size) {
    er_work work;
    bool is_empty;
    float factors[256] = {0};
    ER_TRY(begin(model, k, memory, size, &work));
    float rarity = request->rarity;
    if (rarity != 0 && !(rarity * rarity <= 4 && model->least_weight < model->most_weight)) return ER_RARITY;
    ER_TRY(subject(model, request, &work, &is_empty));
    ER_TRY(limit(model, request, &work));
    if (is_empty) return model->popular ? rank_popular(model, &work, k, items, scores, found) : ER_EMPTY;
    if (request->history)
        mark(work.out, request->history, request->n_history); /* an allow-list may have cleared them */
    best heap = {.items = items, .scores = scores, .k = k, .model = model, .rarity = rarity, .factors = factors};
    uint32_t wanted = left(model, &work);
    if (wanted > k) wanted = k;
    if (request->allow && model->lookup.layout != ER_CSC &&
        (uint64_t)request->n_allow * model->facts.d <= model->facts.items) {
        for (size_t one = 0; one < request->n_allow; one++) {
            if (is_out(work.out, request->allow[one])) continue;
            mark(work.out, &request->allow[one], 1); /* a repetition counts once */
            push(&heap, er_score_row(model, &work, &model->lookup, (uint32_t)request->allow[one]), request->allow[one]);
        }
    } else {
        push_all(model, &work, &heap, NULL);
    }
    return finish(&work, &heap, wanted, 1, found, request->vector ? ER_SCORES : ER_TABLES);
}

er_status er_similar(const er_model *model, int32_t item, const er_request *request, uint32_t k, int32_t *items,
                     float *scores, uint32_t *found, void *memory, size_t size) {
    er_work work;
    if (model->norms == NULL) return ER_NO_SIMILAR;
    ER_TRY(begin(model, k, memory, size, &work));
    ER_TRY(check_rows(model, &item, 1));
    ER_TRY(limit(model, request, &work));
    mark(work.out, &item, 1);
    work.query.scored = false;
    if (!er_query_of_row(model, &work, &model->lookup, (uint32_t)item)) return ER_TABLES;
    best heap = {.items = items, .scores = scores, .k = k};
    uint32_t wanted = left(model, &work);
    push_all(model, &work, &heap, model->norms);
    float own = er_half(model->norms[item]) * model->norm_factor * model->norm_factor;
    return finish(&work, &heap, wanted < k ? wanted : k, own, found, ER_TABLES);
}

er_status er_popular(const er_model *model, const er_request *request, uint32_t k, int32_t *items, float *scores,
                     uint32_t *found, void *memory, size_t size) {
    er_work work;
    if (model->popular == NULL) return ER_NO_POPULAR;
    ER_TRY(begin(model, k, memory, size, &work));
    ER_TRY(limit(model, request, &work));
    return rank_popular(model, &work, k, items, scores, found);
}

er_status er_score(const er_model *model, const er_request *request, const int32_t *rows, size_t n, float *scores,
                   void *memory, size_t size) {
    er_work work;
    bool is_empty;
    ER_TRY(begin(model, 1, memory, size, &work));
    ER_TRY(subject(model, request, &work, &is_empty));
    ER_TRY(check_rows(model, rows, n));
    bool by_stretch = model->lookup.layout == ER_CSC && !model->has_scorer; /* a search of each row would take longer */
    for (uint32_t first = 0; by_stretch && first < model->facts.items; first += ER_STRETCH) {
        uint32_t few = model->facts.items - first < ER_STRETCH ? model->facts.items - first : ER_STRETCH;
        er_scan(model, &work, first, few);
        for (size_t one = 0; one < n; one++)
            if ((uint32_t)rows[one] - first < few) scores[one] = work.tile[(uint32_t)rows[one] - first].score;
        if (few < ER_STRETCH) break;
    }
    for (size_t one = 0; one < n; one++) {
        if (!by_stretch) scores[one] = er_score_row(model, &work, &model->lookup, (uint32_t)rows[one]);
        scores[one] = er_scaled(scores[one], work.query.exponent);
        if (!finite(scores[one])) return request->vector ? ER_SCORES : ER_TABLES;
    }
    return ER_OK;
}

er_status er_encode(const er_model *model, const er_request *request, float *vector, void *memory, size_t size) {
    er_work work;
    if (!model->facts.takes_vectors) return ER_NO_ENCODE;
    if (request->history == NULL || request->vector || request->user != -1) return ER_REQUEST;
    ER_TRY(begin(model, 1, memory, size, &work));
    ER_TRY(check_rows(model, request->history, request->n_history));
    mark(work.out, request->history, request->n_history);
    return er_encoded(model, &work, model->facts.items - left(model, &work), vector);
}
