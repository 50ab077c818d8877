/* Rows of a table, decoded one by one, in every layout and precision. */
#include "kernel.h"

float er_half(uint16_t half) {
    union {
        uint32_t bits;
        float value;
    } found = {.bits = (half & 0x7fffu) << 13}, scale = {.bits = 0x77800000u}; /* 2^112 */
    found.value *= scale.value;
    if ((half & 0x7c00) == 0x7c00) found.bits |= 0x7f800000u;
    found.bits |= (uint32_t)(half & 0x8000) << 16;
    return found.value;
}

/* A value of a block by its index inside it: of integers the signed code. */
float er_value(const er_table *table, const er_block *block, size_t index) {
    if (block->bits == 32) return ((const float *)table->values)[block->start + index];
    if (block->bits == 16) return er_half(((const uint16_t *)table->values)[block->start + index]);
    const uint8_t *codes = (const uint8_t *)table->values + block->start;
    if (block->bits == 8) return (float)(codes[index] - 128);
    uint32_t shift = 0;
    while (index >= block->stored) index -= block->stored, shift += block->bits;
    int code = codes[index] >> shift;
    return block->bits == 4 ? (float)((code & 15) - 8) : (float)(2 * (code & 3) - 3);
}

const er_block *er_block_of(const er_table *table, uint32_t row) {
    uint32_t low = 0, high = table->n_blocks;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (table->blocks[middle].first <= row) low = middle;
        else high = middle;
    }
    return &table->blocks[low];
}

static uint32_t column(const er_table *table, size_t at) {
    return table->wide_columns ? ((const uint16_t *)table->columns)[at] : ((const uint8_t *)table->columns)[at];
}

/* csc has no rows: every run of the row's stretch is searched. */
static void search(const er_table *table, uint32_t row, float *values) {
    uint32_t entries = table->blocks[0].bits == 4 ? ER_RUN / 2 : ER_RUN;
    for (uint32_t run = 0; run < table->n_runs; run++) {
        if (table->run_stretch[run] != row / ER_STRETCH) continue;
        const uint16_t *rows = table->run_rows + (size_t)run * ER_RUN;
        er_block block = {.bits = table->blocks[0].bits, .start = (size_t)run * entries, .stored = entries};
        for (uint32_t one = 0; one < ER_RUN; one++)
            if (rows[one] == row % ER_STRETCH) values[column(table, run)] += er_value(table, &block, one);
    }
}

void er_row(const er_table *table, uint32_t row, float *values) {
    memset(values, 0, table->d * sizeof *values);
    if (table->layout == ER_CSC) {
        search(table, row, values);
        return;
    }
    const er_block *block = er_block_of(table, row);
    size_t inside = row - block->first, first = inside * block->width;
    switch (table->layout) {
    case ER_BLOCKED:
        for (uint32_t one = 0; one < block->width; one++)
            values[one] = er_value(table, block, table->by_column ? (size_t)one * block->rows + inside : first + one);
        break;
    case ER_ELL:
        for (uint32_t one = 0; one < block->width; one++)
            values[column(table, block->columns + first + one)] = er_value(table, block, first + one);
        break;
    case ER_CSR:
        for (int32_t at = table->pointers[row]; at < table->pointers[row + 1]; at++)
            values[column(table, (size_t)at)] = er_value(table, block, (size_t)at);
        break;
    default: {
        const uint8_t *mask = table->mask + (size_t)row * ((table->d + 7) / 8);
        uint32_t rank = 0;
        for (uint32_t one = 0; one < table->d && rank < block->width; one++)
            if (mask[one >> 3] >> (one & 7) & 1) values[one] = er_value(table, block, first + rank++);
    }
    }
}

float er_row_scale(const er_table *table, uint32_t row) {
    if (!table->integer) return 1;
    if (table->row_scales == NULL)
        return table->factors[table->n_factors == 1 ? 0 : (size_t)(er_block_of(table, row) - table->blocks)];
    if (!table->byte_scales) return er_half(((const uint16_t *)table->row_scales)[row]) * table->factors[0];
    float root = ((const uint8_t *)table->row_scales)[row], square = root * root;
    return square * square * (table->factors[0] / 4294967296.0f);
}

void er_scaled_row(const er_table *table, uint32_t row, float *values) {
    float scale = er_row_scale(table, row);
    er_row(table, row, values);
    for (uint32_t at = 0; table->integer && at < table->d; at++) values[at] *= scale;
}

void er_add(float *restrict sums, const float *restrict values, float by, uint32_t n) {
    for (uint32_t at = 0; at < n; at++) sums[at] += by * values[at];
}
