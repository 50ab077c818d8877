/* Opening: the manifest is checked as Python's reader checks it, and then the sections that this reader needs. */
#include "kernel.h"

typedef struct {
    er_json manifest;
    er_tables tables;
    const uint8_t *document; /* the manifest's bytes */
    size_t document_size;
    const uint8_t *rest; /* one file whose whole head is read: the files behind the manifest */
    size_t rest_size;
    uint64_t head; /* one file: bytes of the whole head */
} bundle;

#if ER_ONE_FILE
static uint64_t number(const uint8_t *at, int size) {
    uint64_t found = 0;
    while (size--) found = found << 8 | at[size];
    return found;
}
#endif

static er_status parse_ids(er_json side, uint32_t major, er_id_form *form) {
    static const char *const names[] = {"none", "int", "str", "hash64"};
    er_json named = er_json_get(side, "ids");
    for (int one = 0; one < (major > 1 ? 4 : 3); one++)
        if (er_json_is(named, names[one])) {
            *form = (er_id_form)one;
            return ER_OK;
        }
    return ER_MANIFEST;
}

static er_status open_encoder(const bundle *from, er_json encoder, er_model *model) {
    const er_tables *tables = &from->tables;
    uint64_t square[] = {model->facts.d, model->facts.d}, steps;
    er_section found;
    if (er_json_is(er_json_get(encoder, "kind"), "ials")) {
        float reg;
        model->encoder = ER_IALS;
        if (!er_json_number(er_json_get(encoder, "alpha"), &model->alpha) || !(model->alpha > 0)) return ER_MANIFEST;
        if (!er_json_number(er_json_get(encoder, "reg"), &reg)) return ER_MANIFEST;
        if (!er_json_whole(er_json_get(encoder, "steps"), 64, &steps) || steps == 0) return ER_MANIFEST;
        model->steps = (uint32_t)steps;
        ER_TRY(er_find(tables, "g", "", ER_F32, 2, square, &found));
        model->root = found.data;
        return ER_OK;
    }
    if (!er_json_is(er_json_get(encoder, "kind"), "linear")) return ER_MANIFEST;
    model->encoder = ER_LINEAR;
    if (!er_json_number(er_json_get(encoder, "power"), &model->power) || !(model->power >= -4 && model->power <= 4))
        return ER_MANIFEST;
    ER_TRY(er_find_vector(tables, "w", "", ER_U8 | ER_F32, model->facts.items, &found));
    model->weights = found.data, model->weights_in_bytes = found.type == ER_U8;
    if (model->weights_in_bytes && !er_json_number(er_json_get(encoder, "weight_top"), &model->weight_top))
        return ER_MANIFEST;
    er_find_weights(model);
    if (er_json_true(er_json_get(encoder, "matrix"))) {
        ER_TRY(er_find(tables, "m", "", ER_U8 | ER_F32, 2, square, &found));
        model->matrix = found.data, model->matrix_in_bytes = found.type == ER_U8;
        if (model->matrix_in_bytes && !er_json_number(er_json_get(encoder, "matrix_scale"), &model->matrix_scale))
            return ER_MANIFEST;
    }
    if (er_json_true(er_json_get(encoder, "bias"))) {
        ER_TRY(er_find_vector(tables, "b", "", ER_F32, model->facts.d, &found));
        model->bias = found.data;
    }
    return ER_OK;
}

static er_status open_scorer(const bundle *from, er_json scorer, er_model *model) {
    er_json layers = er_json_get(scorer, "layers"), at = er_json_first(layers, '['), width;
    uint64_t products, in, before = 0;
    er_section found;
    char name[] = "h00";
    if (!er_json_is(er_json_get(scorer, "kind"), "neumf")) return ER_MANIFEST;
    if (!er_json_whole(er_json_get(scorer, "products"), model->facts.d, &products)) return ER_MANIFEST;
    model->products = (uint32_t)products, model->has_scorer = true;
    size_t count = er_json_count(layers, '[');
    if (count == 0) return ER_MANIFEST;
    if (count > ER_LAYERS) return ER_UNSUPPORTED;
    if (products) {
        ER_TRY(er_find_vector(&from->tables, "h", "", ER_F32, products, &found));
        model->product_weights = found.data;
    }
    while (er_json_next(&at, NULL, &width)) {
        uint32_t one = model->n_layers;
        if (!er_json_whole(width, ER_DIMENSIONS, &in) || in == 0) return ER_MANIFEST;
        name[er_put_number(name, 1, one)] = 0;
        uint64_t shape[] = {in, UINT64_MAX};
        ER_TRY(er_find(&from->tables, name, "w", ER_F32, 2, shape, &found));
        if (found.shape[1] > ER_DIMENSIONS || found.shape[1] == 0 || (one && before != in)) return ER_SECTION;
        er_layer *layer = &model->layers[model->n_layers++];
        *layer = (er_layer){.weights = found.data, .in = (uint32_t)in, .out = (uint32_t)found.shape[1]};
        ER_TRY(er_find_vector(&from->tables, name, "b", ER_F32, layer->out, &found));
        layer->bias = found.data, before = layer->out;
        if (layer->out > model->widest) model->widest = layer->out;
    }
    uint32_t half = model->layers[0].in / 2;
    return before == 1 && model->layers[0].in == 2 * half && model->products + half <= model->facts.d ? ER_OK
                                                                                                      : ER_SECTION;
}

/* The factor of inverse norms, which version 1.0 keeps in a graph: the longest of them is that of the shortest row. */
static er_status norm_factor(er_model *model, uint8_t *scratch) {
    uint32_t most = 0;
    for (uint32_t row = 1; row < model->facts.items; row++)
        if (model->norms[row] > model->norms[most]) most = row;
    float *values = (float *)scratch;
    er_row(&model->lookup, most, values);
    double squares = 0, half = er_half(model->norms[most]), root = 1;
    for (uint32_t at = 0; at < model->facts.d; at++) squares += (double)values[at] * values[at];
    if (!(squares > 0 && squares < 1e300)) {
        model->norm_factor = 1;
        return squares == 0 ? ER_OK : ER_TABLES;
    }
    while (root * root < squares) root *= 2;
    while (root * root > squares) root /= 2;
    for (int step = 0; step < 8; step++) root = (root + squares / root) / 2;
    model->norm_factor = (float)(1 / (root * half));
    return ER_OK;
}

static er_status open_popular(const bundle *from, er_json encoder, er_model *model) {
    char name[32] = "popular_items";
    er_section found;
    if (encoder.at && !er_json_null(encoder)) {
        er_json named = er_json_get(encoder, "empty_history");
        if (er_json_null(named)) return ER_OK;
        if (er_json_text(named, name, sizeof name) == SIZE_MAX) return ER_MANIFEST;
    } else if (!er_has(&from->tables, name)) {
        return ER_OK;
    }
    ER_TRY(er_find_vector(&from->tables, name, "", ER_U16 | ER_U32, UINT64_MAX, &found));
    if (found.shape[0] > INT32_MAX) return ER_SECTION;
    model->popular = found.data, model->n_popular = (uint32_t)found.shape[0],
    model->popular_wide = found.type == ER_U32;
    for (uint32_t one = 0; one < model->n_popular; one++)
        if ((model->popular_wide ? ((const uint32_t *)found.data)[one] : ((const uint16_t *)found.data)[one]) >=
            model->facts.items)
            return ER_TABLES;
    return ER_OK;
}

/* Continue without memory, so that a refusal comes before the caller gives more, and that all of it is counted. */
#define ER_TRY_ON(call)                                                                                                \
    do {                                                                                                               \
        er_status er_tried = (call);                                                                                   \
        if (er_tried != ER_OK && er_tried != ER_MEMORY) return er_tried;                                               \
    } while (0)

/* All but the signature; the model and what it points to are taken from the arena. */
static er_status parse(const bundle *from, const er_source *source, er_arena *arena, const er_model **opened) {
    er_json manifest = from->manifest, items = er_json_get(manifest, "items"), users = er_json_get(manifest, "users");
    er_json encoder = er_json_get(manifest, "encoder"), scorer = er_json_get(manifest, "scorer"), at, key, graph;
    const er_tables *tables = &from->tables;
    er_section found;
    uint64_t d, rollback = 0, head;
    er_facts facts = {0};
    ER_TRY(er_parse_version(manifest, &facts.major, &facts.minor));
    ER_TRY(er_check_files(manifest, &head));
    if (from->head && from->document_size + head != from->head) return ER_HEAD;
    ER_TRY(er_check_sections(er_json_get(manifest, "sections"), tables, ER_MAX_SECTIONS));
    for (at = er_json_first(er_json_get(manifest, "graphs"), '{'); er_json_next(&at, &key, &graph);)
        ER_TRY(er_check_sections(er_json_get(graph, "tensors"), tables, ER_MAX_TENSORS));
    ER_TRY(er_check_about(manifest));
    er_json index = er_json_get(manifest, "rollback_index");
    if (index.at && !er_json_whole(index, ((uint64_t)1 << 53) - 1, &rollback)) return ER_MANIFEST;
    if (rollback < source->min_rollback_index) return ER_ROLLBACK;
    facts.rollback_index = rollback;
    if (!er_json_whole(er_json_get(manifest, "d"), UINT32_MAX, &d) || d == 0) return ER_MANIFEST;
    if (d > ER_DIMENSIONS) return ER_UNSUPPORTED;
    facts.d = (uint32_t)d;
    er_json precision = er_json_get(manifest, "precision"), layout = er_json_get(manifest, "layout");
    if (precision.at == NULL || *precision.at != '"' || layout.at == NULL || *layout.at != '"') return ER_MANIFEST;
    bool has_users = users.at && *users.at == '{';
    if (!has_users && !er_json_null(users)) return ER_MANIFEST;
    if (has_users != er_json_null(encoder) || (!has_users && (encoder.at == NULL || *encoder.at != '{')))
        return ER_MANIFEST;
    facts.takes_vectors = er_json_get(er_json_get(manifest, "graphs"), "encode").at != NULL;
    if (has_users && facts.takes_vectors) return ER_MANIFEST;
    if (!has_users && !facts.takes_vectors && er_json_is(er_json_get(encoder, "kind"), "ials")) return ER_MANIFEST;
    facts.has_similar = er_json_get(er_json_get(manifest, "graphs"), "similar").at != NULL;

    er_model *model = er_take(arena, sizeof *model), nothing;
    if (model == NULL) model = &nothing;
    memset(model, 0, sizeof *model);
    model->facts = facts;
    bool has_scorer = scorer.at && !er_json_null(scorer), by_column = !has_scorer, second = er_has(tables, "l");
    if (second && !er_json_is(layout, "csc")) return ER_MANIFEST;
    er_table *into[] = {&model->items, second ? &model->lookup : NULL, has_users ? &model->users : NULL};
    for (int one = 0; one < 3; one++) {
        char name[] = {"ilu"[one], 0};
        if (into[one] == NULL) continue;
        ER_TRY_ON(er_open_table(tables, name, one == 2 ? users : items, precision, second && one == 0, facts.d,
                                by_column && one == 0, facts.major, into[one], arena));
    }
    if (model->users.layout == ER_CSC) return ER_MANIFEST;
    if (!second) model->lookup = model->items;
    if (arena->used > arena->size) return ER_MEMORY;
    if (model->items.rows != model->lookup.rows || model->items.integer != model->lookup.integer) return ER_SECTION;
    model->facts.items = model->items.rows, model->facts.users = model->users.rows;
    er_table *sides[] = {&model->lookup, &model->users};
    for (int side = 0; side < 1 + has_users; side++) {
        er_ids *ids = &model->ids[side];
        ER_TRY(parse_ids(side ? users : items, facts.major, &ids->form));
        ids->rows = sides[side]->rows, ids->n_blocks = sides[side]->n_blocks, ids->rows_of = sides[side]->blocks;
        ER_TRY_ON(er_open_ids(tables, side ? ER_USER : ER_ITEM, facts.major, ids, arena));
    }
    model->facts.item_ids = model->ids[0].form, model->facts.user_ids = model->ids[1].form;
    if (!has_users) ER_TRY(open_encoder(from, encoder, model));
    if (has_scorer) ER_TRY(open_scorer(from, scorer, model));
    ER_TRY(open_popular(from, encoder, model));
    model->facts.has_popular = model->popular != NULL;
    if (er_has(tables, "item_titles")) {
        ER_TRY(er_open_titles(tables, model->facts.items, &model->titles, &model->title_offsets));
        model->facts.has_titles = 1;
    }
    ER_TRY(er_open_attributes(tables, er_json_get(manifest, "item_attributes"), model, arena));
    if (facts.has_similar) {
        ER_TRY(er_find_vector(tables, "n", "", ER_F16, model->facts.items, &found));
        model->norms = found.data;
        if (facts.major > 1) {
            ER_TRY(er_find_vector(tables, "nf", "", ER_F32, 1, &found));
            model->norm_factor = *(const float *)found.data;
        } else {
            uint8_t *scratch = er_take(arena, facts.d * sizeof(float));
            if (scratch == NULL) return ER_MEMORY;
            ER_TRY(norm_factor(model, scratch));
        }
    }
#if ER_BOUNDS
    bool bounded = model->items.layout == ER_ELL ? d <= ER_SORTED : model->items.layout == ER_BLOCKED && by_column;
    if (bounded && !has_scorer && model->items.n_blocks > 1 && model->items.rows >= ER_LARGE) {
        float *bounds = er_take(arena, 2 * (uint64_t)model->items.n_blocks * sizeof *bounds);
        if (bounds == NULL) return ER_MEMORY;
        er_find_bounds(model, bounds);
        model->bounds = bounds;
    }
#endif
#if ER_WIDE
    model->wide = er_has_wide();
#endif
    *opened = model;
    return arena->used > arena->size ? ER_MEMORY : ER_OK;
}

#if ER_ONE_FILE
/* The head of one file: where the manifest is, and where the tables are. */
static er_status open_one(const er_source *source, uint8_t *arena, size_t arena_size, size_t *taken, bundle *from) {
    const uint8_t *file = source->tables.data;
    size_t size = source->tables.size;
    *taken = 0;
    if (size < 8 || memcmp(file, "edgerecB", 8) != 0) return ER_BUNDLE;
    if (size < 24) return ER_HEAD;
    uint64_t major = number(file + 8, 2), stored = number(file + 12, 4), whole = number(file + 16, 4),
             own = number(file + 20, 4);
    if (major > ER_MAX_MAJOR) return ER_VERSION;
    if (major < ER_MAX_MAJOR || own > whole || whole > ER_MAX_HEAD_BYTES || stored > whole || stored > size - 24)
        return ER_HEAD;
    uint64_t tables_at = (24 + stored + 63) / 64 * 64;
    if (tables_at > size) return ER_HEAD;
    for (uint64_t at = 24 + stored; at < tables_at; at++)
        if (file[at]) return ER_HEAD;
    from->head = whole, from->document_size = (size_t)own;
    from->tables.data = file + tables_at, from->tables.size = size - tables_at;
    if (stored == whole) {
        from->document = file + 24;
    } else {
        size_t wanted = (size_t)(source->trusted ? whole : own); /* the rest is not read otherwise */
        *taken = wanted;
        if (arena == NULL || wanted > arena_size) return ER_MEMORY;
        uint8_t *out = arena + (arena_size - wanted);
        if (!er_inflate(file + 24, (size_t)stored, out, wanted, wanted == whole)) return ER_HEAD;
        from->document = out;
    }
    from->rest = from->document + own, from->rest_size = (size_t)(whole - own);
    return ER_OK;
}
#endif

#if ER_SHA256
static er_status check_sha256(const char *digits, const void *data, size_t size) {
    uint8_t digest[32];
    er_sha256(data, size, digest);
    for (int at = 0; at < 64; at++)
        if (digits[at] != "0123456789abcdef"[at % 2 ? digest[at / 2] & 15 : digest[at / 2] >> 4]) return ER_ALTERED;
    return digits[64] ? ER_ALTERED : ER_OK;
}
#endif

#if ER_SIGNATURES
static const char SIGNATURE[] = ",\"signature\":{\"key\":\"\",\"value\":\"\"}}\n";

static bool digits_of(const uint8_t *text, uint8_t *bytes, int count) {
    for (int at = 0; at < 2 * count; at++) {
        uint8_t letter = text[at];
        bool is_digit = letter >= '0' && letter <= '9';
        if (!is_digit && !(letter >= 'a' && letter <= 'f')) return false;
        uint8_t value = (uint8_t)(letter - (is_digit ? '0' : 'a' - 10));
        bytes[at / 2] = (uint8_t)(at % 2 ? bytes[at / 2] | value : value << 4);
    }
    return true;
}

/* The last 228 bytes are the signature of all before them, by one of the trusted keys. */
static er_status check_signature(const uint8_t *document, size_t size, const er_source *source) {
    uint8_t key[32], value[64], fingerprint[32];
    if (size < 228) return ER_UNSIGNED;
    const uint8_t *end = document + size - 228;
    bool formed = memcmp(end, SIGNATURE, 21) == 0 && memcmp(end + 85, SIGNATURE + 21, 11) == 0 &&
                  memcmp(end + 224, SIGNATURE + 32, 4) == 0;
    if (!formed || !digits_of(end + 21, key, 32) || !digits_of(end + 96, value, 64)) return ER_UNSIGNED;
    for (size_t one = 0; one < source->n_trusted; one++) {
        er_sha256(source->trusted[one], 32, fingerprint);
        if (memcmp(fingerprint, key, 32) == 0)
            return er_ed25519(source->trusted[one], document, size - 228, value) ? ER_OK : ER_SIGNATURE;
    }
    return ER_UNSIGNED;
}

/* Every file of a signed bundle, compared by size and sha256. */
static er_status check_all(const bundle *from, const er_source *source) {
    char name[256], other[256], sha256[65], ignored[65];
    uint64_t size, before;
    for (size_t one = 1;; one++) {
        er_json entry = er_file_entry(from->manifest, one);
        er_bytes content = {NULL, 0};
        if (entry.at == NULL) return ER_OK;
        if (!er_parse_file(entry, name, &size, sha256)) return ER_MANIFEST;
        if (from->rest) { /* in the order of their names */
            uint64_t at = 0;
            for (size_t number = 1; (entry = er_file_entry(from->manifest, number)).at; number++)
                if (er_parse_file(entry, other, &before, ignored) && er_compare_names(other, name) < 0) at += before;
            if (at + size > from->rest_size) return ER_HEAD;
            content = (er_bytes){from->rest + at, (size_t)size};
        }
        for (size_t number = 0; number < source->n_files && from->rest == NULL; number++)
            if (er_compare_names(source->files[number].name, name) == 0) content = source->files[number].bytes;
        if (content.data == NULL) return ER_FILE;
        if (content.size != size) return ER_SIZE;
        ER_TRY(check_sha256(sha256, content.data, content.size));
    }
}
#endif

er_status er_open(const er_source *source, void *memory, size_t size, size_t *need, const er_model **model) {
    bundle from = {.document = source->manifest.data, .document_size = source->manifest.size};
    size_t taken = 0, usable = size & ~(size_t)7;
    char name[256], sha256[65];
    uint64_t tables_size;
    *need = size, *model = NULL;
    if ((uintptr_t)memory % 8 || (uintptr_t)source->tables.data % 8) return ER_ALIGNMENT;
    if (source->tables.data == NULL) return ER_BUNDLE;
    if (source->trusted && !ER_SIGNATURES) return ER_NO_SIGNATURES;
    if (source->verify && !ER_SHA256) return ER_NO_SHA256;
    from.tables = (er_tables){.data = source->tables.data, .size = source->tables.size};
#if ER_ONE_FILE
    if (from.document == NULL) {
        er_status status = open_one(source, memory, usable, &taken, &from);
        taken = (taken + 7) & ~(size_t)7;
        if (status == ER_MEMORY) *need = taken + sizeof(er_model) + 1024;
        ER_TRY(status);
    }
#endif
    if (from.document == NULL) return ER_HEAD;
#if ER_SIGNATURES
    if (source->trusted) ER_TRY(check_signature(from.document, from.document_size, source));
#endif
    ER_TRY(er_json_object((const char *)from.document, from.document_size, &from.manifest));
    if (!er_parse_file(er_json_get(from.manifest, "tables"), name, &tables_size, sha256)) {
        uint32_t major, minor;
        ER_TRY(er_parse_version(from.manifest, &major, &minor));
        return ER_MANIFEST;
    }
    from.tables.sections = er_json_get(from.manifest, "sections");
    if (from.tables.size != tables_size) return ER_SIZE;
    er_arena arena = {.memory = memory, .size = usable > taken ? usable - taken : 0};
    er_status status = parse(&from, source, &arena, model);
    if (status == ER_MEMORY || status == ER_OK) *need = arena.used + taken;
    if (status != ER_OK) *model = NULL;
    ER_TRY(status);
#if ER_SHA256
    if (source->verify || source->trusted) status = check_sha256(sha256, from.tables.data, (size_t)from.tables.size);
#endif
#if ER_SIGNATURES
    if (source->trusted && status == ER_OK) status = check_all(&from, source);
#endif
    if (status != ER_OK) *model = NULL;
    return status;
}

er_facts er_facts_of(const er_model *model) { return model->facts; }

void er_close(const er_model *model) { memset((void *)(uintptr_t)model, 0, sizeof *model); }
