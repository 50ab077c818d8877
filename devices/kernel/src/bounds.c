/* The longest row of each block of a large catalogue. A score is at most the product of two lengths (Cauchy and
   Schwarz), and a row of w values meets only the query's first w, or at most its w largest where values may stand
   anywhere: a block whose bound is below the k-th best score is not read. */
#include "kernel.h"

#if ER_BOUNDS

#ifdef __OPTIMIZE_SIZE__
enum { SLICE = 1 };
#else
enum { SLICE = 256 };
#endif

/* Not the square root: a number at least as large, by a part in a million at most. */
static float root_above(float square) {
#ifdef __wasm__ /* an instruction */
    return __builtin_sqrtf(square) * 1.000001f;
#else
    if (!(square > 0)) return square == 0 ? 0 : square; /* of what is no number: itself, which skips nothing */
    union {
        float value;
        uint32_t bits;
    } guess = {.value = square};
    guess.bits = (guess.bits >> 1) + 0x1fbd1df5u;
    for (int step = 0; step < 4; step++) guess.value = 0.5f * (guess.value + square / guess.value);
    return guess.value * 1.000001f;
#endif
}

#define ER_SQUARES(TYPE, VALUE)                                                                                        \
    {                                                                                                                  \
        for (uint32_t at = 0; at < block->width; at++) {                                                               \
            const TYPE *column = (const TYPE *)table->values + block->start + (size_t)at * block->rows + first;        \
            for (uint32_t row = 0; row < n; row++) squares[row] += (float)(VALUE) * (float)(VALUE);                    \
        }                                                                                                              \
        return;                                                                                                        \
    }

/* Squares of rows first .. first + n - 1 of a block, as decoded values without scales. */
static void squares_of(const er_table *table, const er_block *block, uint32_t first, uint32_t n, float *squares) {
    for (uint32_t row = 0; row < n; row++) squares[row] = 0;
#ifndef __OPTIMIZE_SIZE__
    if (table->by_column && block->bits == 32) ER_SQUARES(float, column[row])
    if (table->by_column && block->bits == 8) ER_SQUARES(uint8_t, column[row] - 128)
#endif
    for (uint32_t row = 0; row < n; row++) {
        size_t step = table->by_column ? block->rows : 1;
        size_t index = table->by_column ? first + row : (size_t)(first + row) * block->width;
        for (uint32_t at = 0; at < block->width; at++, index += step) {
            float value = er_value(table, block, index);
            squares[row] += value * value;
        }
    }
}

/* `bounds` of the table: of products, and then of cosines without the factor of inverse norms. */
void er_find_bounds(const er_model *model, float *bounds) {
    const er_table *table = &model->items;
    float squares[SLICE];
    for (uint32_t one = 0; one < table->n_blocks; one++) {
        const er_block *block = &table->blocks[one];
        float of_products = 0, of_cosines = 0;
        for (uint32_t first = 0; first < block->rows; first += SLICE) {
            uint32_t n = block->rows - first < SLICE ? block->rows - first : SLICE;
            squares_of(table, block, first, n, squares);
            for (uint32_t row = 0; row < n; row++) {
                float length = root_above(squares[row]) * er_row_scale(table, block->first + first + row);
                float cosine = model->norms ? length * er_half(model->norms[block->first + first + row]) : 0;
                if (!(length <= of_products)) of_products = length;
                if (!(cosine <= of_cosines)) of_cosines = cosine;
            }
        }
        bounds[one] = of_products, bounds[table->n_blocks + one] = of_cosines;
    }
}

/* Lengths of the query as each width of block meets it, into `lengths` (d): the i-th is of i + 1 values. */
void er_query_lengths(const er_model *model, const er_query *query, float *lengths) {
    float sum = 0;
    for (uint32_t at = 0; at < model->facts.d; at++) {
        float value = model->items.integer ? (float)query->codes[at] * query->scale : query->values[at];
        uint32_t place = at;
        value *= value;
        if (model->items.layout != ER_BLOCKED) /* the largest first */
            for (; place && lengths[place - 1] < value; place--) lengths[place] = lengths[place - 1];
        lengths[place] = value;
    }
    for (uint32_t at = 0; at < model->facts.d; at++) {
        sum += lengths[at];
        lengths[at] = root_above(sum);
    }
}

#endif
typedef int er_bounds_c;
