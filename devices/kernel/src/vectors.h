/* Products of columns that lie together with a vector, added to a tile of sums. */
#ifndef ER_VECTORS_H
#define ER_VECTORS_H

#include "kernel.h"

static void er_columns_f32(const float *values, size_t stride, uint32_t width, const float *query, uint32_t n, er_cell *out) {
    for (uint32_t at = 0; at < width; at++, values += stride)
        for (uint32_t row = 0; row < n; row++) out[row].score += query[at] * values[row];
}

static void er_columns_f16(const uint16_t *values, size_t stride, uint32_t width, const float *query, uint32_t n, er_cell *out) {
    for (uint32_t at = 0; at < width; at++, values += stride)
        for (uint32_t row = 0; row < n; row++) out[row].score += query[at] * er_half(values[row]);
}

static void er_columns_u8(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n, er_cell *out) {
    for (uint32_t at = 0; at < width; at++, codes += stride)
        for (uint32_t row = 0; row < n; row++) out[row].sum += query[at] * codes[row];
}

/* The bits of each byte from `shift` on; of two bits, twice their number. */
static void er_columns_part(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                            uint32_t shift, uint32_t bits, er_cell *out) {
    int32_t mask = (1 << bits) - 1, twice = bits == 2 ? 2 : 1;
    for (uint32_t at = 0; at < width; at++, codes += stride)
        for (uint32_t row = 0; row < n; row++) out[row].sum += query[at] * twice * (codes[row] >> shift & mask);
}

#endif
