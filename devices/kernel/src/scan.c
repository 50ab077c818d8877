/* Scores of the catalogue, a tile of rows at a time. Products of integers are exact. */
#include "kernel.h"

#include "vectors.h"
#include "wide.h"

uint32_t er_tile(const er_model *model) {
    er_layout layout = model->items.layout;
    return layout == ER_CSC ? ER_STRETCH : layout == ER_BLOCKED ? ER_TILE : ER_TILE_OF_ROWS;
}

/* To the nearest whole number, to even from the middle, for numbers below 2^22. */
static float nearest(float value) {
    const float shift = 12582912.0f;
    volatile float shifted = value + shift;
    return shifted - shift;
}

bool er_query_of_values(const er_model *model, er_work *work) {
    er_query *query = &work->query;
    uint32_t d = model->facts.d;
    float largest = 0;
    bool is_finite = true;
    for (uint32_t at = 0; at < d; at++) {
        float size = query->values[at] < 0 ? -query->values[at] : query->values[at];
        largest = size > largest ? size : largest;
        is_finite = is_finite && size <= 3.40282347e38f;
    }
    query->exponent = 0, query->scale = 1;
    if (!is_finite) return false; /* of a damaged table: its scores are refused */
    /* As Python's runtime does: vectors far from 1 are multiplied by a power of two, and their scores divided. */
    if (largest > 0 && (largest >= 4294967296.0f || largest < 1.16415322e-10f)) {
        while (largest >= 1) largest *= 0.5f, query->exponent++;
        while (largest < 0.5f) largest *= 2, query->exponent--;
        for (uint32_t at = 0; at < d; at++) query->values[at] = er_scaled(query->values[at], -query->exponent);
    }
    if (!model->items.integer) return true;
    query->scale = largest / 127;
    if (query->scale < 1.17549435e-38f) query->scale = 1.17549435e-38f;
    for (uint32_t at = 0; at < d; at++) query->codes[at] = (int8_t)nearest(query->values[at] / query->scale);
    return true;
}

float er_scaled(float value, int exponent) {
    for (; exponent > 0; exponent--) value *= 2;
    for (; exponent < 0; exponent++) value *= 0.5f;
    return value;
}

bool er_query_of_row(const er_model *model, er_work *work, const er_table *table, uint32_t row) {
    er_query *query = &work->query;
    uint32_t d = model->facts.d;
    float scale = er_row_scale(table, row);
    er_row(table, row, query->values);
    if (table->integer && model->items.integer) {
        for (uint32_t at = 0; at < d; at++) query->codes[at] = (int8_t)query->values[at];
        query->scale = scale, query->exponent = 0;
    }
    if (table->integer)
        for (uint32_t at = 0; at < d; at++) query->values[at] *= scale;
    return (table->integer && model->items.integer) || er_query_of_values(model, work);
}

/* Add n inputs of a layer, of which `first` is the first, to its outputs. */
static void add_layer(const er_layer *layer, uint32_t first, const float *in, uint32_t n, float *out) {
    for (uint32_t one = 0; one < n; one++)
        er_add(out, layer->weights + (size_t)(first + one) * layer->out, in[one], layer->out);
}

/* The scorer's first layer on the user's half, which all items share: work->spare. */
void er_begin_scorer(const er_model *model, er_work *work) {
    const er_layer *first = &model->layers[0];
    if (!model->has_scorer) return;
    memcpy(work->spare, first->bias, first->out * sizeof(float));
    add_layer(first, 0, work->query.values + model->products, first->in / 2, work->spare);
}

static float scorer(const er_model *model, const er_work *work, const float *item) {
    const er_layer *first = &model->layers[0];
    uint32_t half = first->in / 2;
    float *now = work->spare + model->widest, *next = now + model->widest, score = 0;
    memcpy(now, work->spare, first->out * sizeof(float));
    add_layer(first, half, item + model->products, half, now);
    for (uint32_t number = 1; number < model->n_layers; number++) {
        const er_layer *layer = &model->layers[number];
        memcpy(next, layer->bias, layer->out * sizeof(float));
        for (uint32_t in = 0; in < layer->in; in++)
            if (now[in] > 0) add_layer(layer, in, now + in, 1, next);
        float *before = now;
        now = next, next = before;
    }
    for (uint32_t at = 0; at < model->products; at++)
        score += work->query.values[at] * model->product_weights[at] * item[at];
    return score + now[0];
}

float er_score_row(const er_model *model, er_work *work, const er_table *table, uint32_t row) {
    const er_query *query = &work->query;
    uint32_t d = model->facts.d;
    if (query->scored && model->has_scorer) {
        er_scaled_row(table, row, work->row);
        return scorer(model, work, work->row);
    }
    er_row(table, row, work->row);
    if (table->integer) {
        int32_t sum = 0;
        for (uint32_t at = 0; at < d; at++) sum += (int32_t)work->row[at] * query->codes[at];
        return (float)sum * er_row_scale(table, row) * query->scale;
    }
    float sum = 0;
    for (uint32_t at = 0; at < d; at++) sum += work->row[at] * query->values[at];
    return sum;
}

/* Add the products of a block's columns of numbers, from `first` on, to n sums. */
static void add_floats(const er_table *table, const er_block *block, const er_query *query, uint32_t first, uint32_t n,
                       bool wide, float *out) {
    const float *singles = (const float *)table->values + block->start + first;
    const uint16_t *halves = (const uint16_t *)table->values + block->start + first;
#if ER_WIDE
    if (wide && block->bits == 32) er_columns_f32_wide(singles, block->rows, block->width, query->values, n, out);
    else if (wide) er_columns_f16_wide(halves, block->rows, block->width, query->values, n, out);
    if (wide) return;
#endif
    if (block->bits == 32) er_columns_f32(singles, block->rows, block->width, query->values, n, out);
    else er_columns_f16(halves, block->rows, block->width, query->values, n, out);
    (void)wide;
}

/* Sums of n rows of a block, from `first` on: `zero` and the products of their codes with the query's. */
static void sum_codes(const er_table *table, const er_block *block, const er_query *query, uint32_t first, uint32_t n,
                      bool wide, int32_t zero, int32_t *out) {
    const uint8_t *codes = (const uint8_t *)table->values + block->start + first;
    uint32_t width = block->width, shared = 8 / block->bits, columns = (width + shared - 1) / shared;
#if ER_WIDE
    if (wide) {
        uint32_t many = n / ER_WIDE_ROWS * ER_WIDE_ROWS;
        if (shared == 1) er_codes_8(codes, block->rows, columns, width, query->codes, many, zero, out);
        else if (shared == 2) er_codes_4(codes, block->rows, columns, width, query->codes, many, zero, out);
        else er_codes_2(codes, block->rows, columns, width, query->codes, many, zero, out);
        codes += many, out += many, n -= many;
    }
#endif
    for (uint32_t row = 0; row < n; row++) out[row] = zero;
    if (shared == 1) er_columns_u8(codes, block->rows, width, query->codes, n, out);
    for (uint32_t part = 0; shared > 1 && part < shared && part * columns < width; part++) {
        uint32_t own = width - part * columns < columns ? width - part * columns : columns;
        er_columns_part(codes, block->rows, own, query->codes + part * columns, n, part * block->bits, block->bits,
                        out);
    }
    (void)wide;
}

/* Rows first .. first + n - 1 of a block whose columns lie together. */
static void scan_columns(const er_table *table, const er_block *block, const er_query *query, uint32_t first,
                         uint32_t n, bool wide, er_cell *out) {
    if (!table->integer) {
        for (uint32_t row = 0; row < n; row++) out[row].score = 0;
        add_floats(table, block, query, first, n, wide, &out->score);
        return;
    }
    int32_t zero = 0;
    for (uint32_t at = 0; at < block->width; at++) zero += query->codes[at];
    zero *= block->bits == 8 ? -128 : block->bits == 4 ? -8 : -3;
    sum_codes(table, block, query, first, n, wide, zero, &out->sum);
}

static uint32_t column(const er_table *table, size_t at) {
    return table->wide_columns ? ((const uint16_t *)table->columns)[at] : ((const uint8_t *)table->columns)[at];
}

/* Rows of `count` values, or of as many as pointers say, at `index` of the block and their columns at `place`. */
#define ER_ROWS(TYPE, COLUMN, SUM, QUERY, VALUE)                                                                       \
    {                                                                                                                  \
        const TYPE *values = (const TYPE *)table->values + block->start + index;                                       \
        const COLUMN *columns = (const COLUMN *)table->columns + place;                                                \
        for (uint32_t row = 0; row < n; row++) {                                                                       \
            uint32_t own = pointers ? (uint32_t)(pointers[row + 1] - pointers[row]) : count;                           \
            SUM sum = 0;                                                                                               \
            for (uint32_t one = 0; one < own; one++) sum += VALUE(values[one]) * QUERY[columns[one]];                  \
            *(SUM *)(void *)&out[row] = sum;                                                                           \
            values += own, columns += own;                                                                             \
        }                                                                                                              \
        return;                                                                                                        \
    }
#define ER_SIGNED(code) ((int32_t)(code) - 128)

static void sparse(const er_table *table, const er_block *block, const er_query *query, size_t index, size_t place,
                   uint32_t count, const int32_t *pointers, uint32_t n, er_cell *out) {
#ifdef __wasm__ /* the rows that a page has most */
    if (!table->wide_columns && block->bits == 8) ER_ROWS(uint8_t, uint8_t, int32_t, query->codes, ER_SIGNED)
#elif !defined(__OPTIMIZE_SIZE__)
    if (!table->wide_columns && block->bits == 32) ER_ROWS(float, uint8_t, float, query->values, ER_ITSELF)
    if (!table->wide_columns && block->bits == 16) ER_ROWS(uint16_t, uint8_t, float, query->values, er_half_inline)
    if (!table->wide_columns && block->bits == 8) ER_ROWS(uint8_t, uint8_t, int32_t, query->codes, ER_SIGNED)
#endif
    for (uint32_t row = 0; row < n; row++) {
        uint32_t own = pointers ? (uint32_t)(pointers[row + 1] - pointers[row]) : count;
        int32_t sum = 0;
        float score = 0;
        for (uint32_t one = 0; one < own; one++, index++, place++) {
            float value = er_value(table, block, index);
            uint32_t at = column(table, place);
            if (table->integer) sum += (int32_t)value * query->codes[at];
            else score += value * query->values[at];
        }
        if (table->integer) out[row].sum = sum;
        else out[row].score = score;
    }
}

static er_cell masked(const er_table *table, const er_block *block, const er_query *query, uint32_t row) {
    const uint8_t *mask = table->mask + (size_t)row * ((table->d + 7) / 8);
    size_t index = (size_t)(row - block->first) * block->width;
    uint32_t rank = 0;
    float score = 0;
    int32_t sum = 0;
    for (uint32_t at = 0; at < table->d && rank < block->width; at++) {
        if (!(mask[at >> 3] >> (at & 7) & 1)) continue;
        float value = er_value(table, block, index + rank++);
        if (table->integer) sum += (int32_t)value * query->codes[at];
        else score += value * query->values[at];
    }
    er_cell found;
    if (table->integer) found.sum = sum;
    else found.score = score;
    return found;
}

static void scan_runs(const er_table *table, const er_query *query, uint32_t first, uint32_t n, er_cell *out) {
    uint32_t bits = table->blocks[0].bits, entries = bits == 4 ? ER_RUN / 2 : ER_RUN;
    for (uint32_t row = 0; row < n; row++)
        if (table->integer) out[row].sum = 0;
        else out[row].score = 0;
    for (uint32_t run = 0; run < table->n_runs; run++) {
        if (table->run_stretch[run] != first / ER_STRETCH) continue;
        const uint16_t *rows = table->run_rows + (size_t)run * ER_RUN;
        uint32_t at = column(table, run);
        er_block block = {.bits = bits, .start = (size_t)run * entries, .stored = entries};
        if (table->integer) {
            int32_t weight = query->codes[at];
            for (uint32_t one = 0; one < ER_RUN && weight; one++)
                out[rows[one]].sum += weight * (int32_t)er_value(table, &block, one);
        } else {
            float weight = query->values[at];
            for (uint32_t one = 0; one < ER_RUN && weight != 0; one++)
                out[rows[one]].score += weight * er_value(table, &block, one);
        }
    }
}

/* Sums become scores; sixteen at a time are copied first, since compilers do not vectorise a union that is read and
   written in one place. */
static void scale_evenly(er_cell *out, uint32_t n, float scale, float by) {
    uint32_t row = 0;
#ifndef __OPTIMIZE_SIZE__
    for (; row + 16 <= n; row += 16) {
        int32_t sums[16];
        memcpy(sums, out + row, sizeof sums);
        for (uint32_t one = 0; one < 16; one++) out[row + one].score = (float)sums[one] * scale * by;
    }
#endif
    for (; row < n; row++) out[row].score = (float)out[row].sum * scale * by;
}

static void scale_sums(const er_table *table, const er_block *block, const er_query *query, uint32_t first, uint32_t n,
                       er_cell *out) {
    float by = query->scale; /* not in memory that `out` might be */
    if (table->row_scales == NULL) {
        scale_evenly(out, n, table->factors[table->n_factors == 1 ? 0 : block - table->blocks], by);
    } else if (table->byte_scales) {
        const uint8_t *roots = (const uint8_t *)table->row_scales + first;
        float top = table->factors[0] / 4294967296.0f;
        for (uint32_t row = 0; row < n; row++) {
            float square = (float)roots[row] * (float)roots[row];
            out[row].score = (float)out[row].sum * (square * square * top) * by;
        }
    } else {
        for (uint32_t row = 0; row < n; row++)
            out[row].score = (float)out[row].sum * er_row_scale(table, first + row) * by;
    }
}

void er_scan(const er_model *model, er_work *work, uint32_t first, uint32_t rows) {
    const er_table *table = &model->items;
    const er_query *query = &work->query;
    bool by_scorer = query->scored && model->has_scorer;
    if (by_scorer || (table->layout == ER_BLOCKED && !table->by_column)) {
        for (uint32_t row = 0; row < rows; row++) work->tile[row].score = er_score_row(model, work, table, first + row);
        return;
    }
    if (table->layout == ER_CSC) {
        scan_runs(table, query, first, rows, work->tile);
        if (table->integer) scale_sums(table, table->blocks, query, first, rows, work->tile);
        return;
    }
    er_cell *out = work->tile;
    for (const er_block *block = er_block_of(table, first); rows; block++) {
        uint32_t inside = first - block->first, n = block->rows - inside;
        if (n > rows) n = rows;
        size_t index = (size_t)inside * block->width;
        if (table->layout == ER_BLOCKED) {
            scan_columns(table, block, query, inside, n, model->wide, out);
        } else if (table->layout == ER_CSR) {
            const int32_t *pointers = table->pointers + first;
            sparse(table, block, query, (size_t)pointers[0], (size_t)pointers[0], 0, pointers, n, out);
        } else if (table->layout == ER_ELL) {
            sparse(table, block, query, index, block->columns + index, block->width, NULL, n, out);
        } else {
            for (uint32_t row = 0; row < n; row++) out[row] = masked(table, block, query, first + row);
        }
        if (table->integer) scale_sums(table, block, query, first, n, out);
        out += n, first += n, rows -= n;
    }
}
