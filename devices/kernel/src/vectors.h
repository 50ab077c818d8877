/* Products of columns that lie together with a vector, added to a tile of sums: four or eight columns at a time, so
   that sums are loaded and stored less often. The loops are plain, without aliases: compilers vectorise them at -O3 for
   AVX2, NEON and simd128, integers as products of 16 bits. */
#ifndef ER_VECTORS_H
#define ER_VECTORS_H

#include "kernel.h"
#include "wide.h"

#ifndef __OPTIMIZE_SIZE__

/* The rows whose products with four columns are summed before those of the next four are: by then they are fetched. */
enum { ER_STEP = 64 };

#define ER_COLUMNS(NAME, VALUE)                                                                                        \
    static void NAME(const uint8_t *restrict values, size_t stride, uint32_t width, const int8_t *restrict query,      \
                     uint32_t n, int32_t *restrict out) {                                                              \
        uint32_t at = 0;                                                                                               \
        for (; at + 4 <= width; at += 4, values += 4 * stride) {                                                       \
            const uint8_t *one = values, *two = one + stride, *three = two + stride, *four = three + stride;           \
            int32_t a = query[at], b = query[at + 1], c = query[at + 2], d = query[at + 3];                            \
            for (uint32_t start = 0; start < n; start += ER_STEP) {                                                    \
                uint32_t end = n - start < ER_STEP ? n : start + ER_STEP;                                              \
                if (at + 8 <= width) ER_FETCH(four + stride + start, stride);                                          \
                for (uint32_t row = start; row < end; row++)                                                           \
                    out[row] +=                                                                                        \
                        (a * VALUE(one[row]) + b * VALUE(two[row])) + (c * VALUE(three[row]) + d * VALUE(four[row]));  \
            }                                                                                                          \
        }                                                                                                              \
        for (; at < width; at++, values += stride) {                                                                   \
            int32_t a = query[at];                                                                                     \
            for (uint32_t row = 0; row < n; row++) out[row] += a * VALUE(values[row]);                                 \
        }                                                                                                              \
    }

#ifdef __GNUC__
#define ER_FETCH(from, stride)                                                                                         \
    for (uint32_t column = 0; column < 4; column++) __builtin_prefetch((from) + column * (stride))
#else
#define ER_FETCH(from, stride)
#endif

#define ER_ITSELF(value) (value)
#define ER_LOW(byte) (int32_t)((byte) & 15)
#define ER_HIGH(byte) (int32_t)((byte) >> 4)
#define ER_TWO_0(byte) (int32_t)((byte) << 1 & 6)
#define ER_TWO_1(byte) (int32_t)((byte) >> 1 & 6)
#define ER_TWO_2(byte) (int32_t)((byte) >> 3 & 6)
#define ER_TWO_3(byte) (int32_t)((byte) >> 5 & 6)

/* A float16 without infinities: tables with any are refused by what they score. */
static inline float er_half_inline(uint16_t half) {
    union {
        uint32_t bits;
        float value;
    } found = {.bits = (half & 0x7fffu) << 13}, sign = {.bits = 0};
    found.value *= 5.192296858534828e33f; /* 2^112 */
    sign.value = found.value;
    sign.bits |= (uint32_t)(half & 0x8000) << 16 | ((half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0);
    return sign.value;
}

/* Numbers take the time of reading them. Where a tile's rows of a column are several pages, CPUs fetch ahead in eight
   columns by themselves, which is faster than fetching the next columns by instructions. */
#define ER_PRODUCT(at, VALUE) query[at] * VALUE(values[(at) * stride + row])
#define ER_FOUR(at, VALUE)                                                                                             \
    ((ER_PRODUCT(at, VALUE) + ER_PRODUCT(at + 1, VALUE)) + (ER_PRODUCT(at + 2, VALUE) + ER_PRODUCT(at + 3, VALUE)))
#define ER_FLOATS(NAME, USES, TYPE, VALUE)                                                                             \
    USES static void NAME(const TYPE *restrict values, size_t stride, uint32_t width, const float *restrict query,     \
                          uint32_t n, float *restrict out) {                                                           \
        for (; width >= 8; width -= 8, values += 8 * stride, query += 8)                                               \
            for (uint32_t row = 0; row < n; row++) out[row] += ER_FOUR(0, VALUE) + ER_FOUR(4, VALUE);                  \
        for (; width >= 4; width -= 4, values += 4 * stride, query += 4)                                               \
            for (uint32_t row = 0; row < n; row++) out[row] += ER_FOUR(0, VALUE);                                      \
        for (; width; width--, values += stride, query++)                                                              \
            for (uint32_t row = 0; row < n; row++) out[row] += ER_PRODUCT(0, VALUE);                                   \
    }

ER_FLOATS(er_columns_f32, , float, ER_ITSELF)
ER_FLOATS(er_columns_f16, , uint16_t, er_half_inline)
#if ER_WIDE
ER_FLOATS(er_columns_f32_wide, ER_USES_WIDE, float, ER_ITSELF)
ER_FLOATS(er_columns_f16_wide, ER_USES_WIDE, uint16_t, er_half_inline)
#endif
ER_COLUMNS(er_columns_u8, ER_ITSELF)
ER_COLUMNS(er_columns_low, ER_LOW)
ER_COLUMNS(er_columns_high, ER_HIGH)
ER_COLUMNS(er_columns_two_0, ER_TWO_0)
ER_COLUMNS(er_columns_two_1, ER_TWO_1)
ER_COLUMNS(er_columns_two_2, ER_TWO_2)
ER_COLUMNS(er_columns_two_3, ER_TWO_3)

static void er_columns_part(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                            uint32_t shift, uint32_t bits, int32_t *out) {
    switch (bits << 4 | shift) {
    case 4 << 4 | 0: er_columns_low(codes, stride, width, query, n, out); return;
    case 4 << 4 | 4: er_columns_high(codes, stride, width, query, n, out); return;
    case 2 << 4 | 0: er_columns_two_0(codes, stride, width, query, n, out); return;
    case 2 << 4 | 2: er_columns_two_1(codes, stride, width, query, n, out); return;
    case 2 << 4 | 4: er_columns_two_2(codes, stride, width, query, n, out); return;
    default: er_columns_two_3(codes, stride, width, query, n, out);
    }
}

#elif defined(__wasm_simd128__)

#include "simd128.h"

#else /* the same in few bytes */

static void er_columns_f32(const float *values, size_t stride, uint32_t width, const float *query, uint32_t n,
                           float *out) {
    for (uint32_t at = 0; at < width; at++, values += stride)
        for (uint32_t row = 0; row < n; row++) out[row] += query[at] * values[row];
}

static void er_columns_f16(const uint16_t *values, size_t stride, uint32_t width, const float *query, uint32_t n,
                           float *out) {
    for (uint32_t at = 0; at < width; at++, values += stride)
        for (uint32_t row = 0; row < n; row++) out[row] += query[at] * er_half(values[row]);
}

static void er_columns_u8(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                          int32_t *out) {
    for (uint32_t at = 0; at < width; at++, codes += stride)
        for (uint32_t row = 0; row < n; row++) out[row] += query[at] * codes[row];
}

/* The bits of each byte from `shift` on; of two bits, twice their number. */
static void er_columns_part(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                            uint32_t shift, uint32_t bits, int32_t *out) {
    int32_t mask = (1 << bits) - 1, twice = bits == 2 ? 2 : 1;
    for (uint32_t at = 0; at < width; at++, codes += stride)
        for (uint32_t row = 0; row < n; row++) out[row] += query[at] * twice * (codes[row] >> shift & mask);
}

#endif

#endif
