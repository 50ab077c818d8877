/* Products of columns that lie together with a vector, added to a tile of sums: four columns at a time, so that sums
   are loaded and stored a quarter as often. The loops are plain, without aliases: compilers vectorise them at -O3 for
   AVX2, NEON and simd128, integers as products of 16 bits. */
#ifndef ER_VECTORS_H
#define ER_VECTORS_H

#include "kernel.h"
#include "wide.h"

#ifndef __OPTIMIZE_SIZE__

/* The rows whose products with four columns are summed before those of the next four are: by then they are fetched. */
enum { ER_STEP = 64 };

#define ER_COLUMNS(NAME, USES, TYPE, QUERY, SUM, PART, VALUE)                                                          \
    USES static void NAME(const TYPE *restrict values, size_t stride, uint32_t width, const QUERY *restrict query,     \
                          uint32_t n, SUM *restrict out) {                                                             \
        uint32_t at = 0;                                                                                               \
        for (; at + 4 <= width; at += 4, values += 4 * stride) {                                                       \
            const TYPE *one = values, *two = one + stride, *three = two + stride, *four = three + stride;              \
            PART a = query[at], b = query[at + 1], c = query[at + 2], d = query[at + 3];                               \
            for (uint32_t start = 0; start < n; start += ER_STEP) {                                                    \
                uint32_t end = n - start < ER_STEP ? n : start + ER_STEP;                                              \
                if (at + 8 <= width) ER_FETCH(four + stride + start, stride, sizeof(TYPE));                            \
                for (uint32_t row = start; row < end; row++)                                                           \
                    out[row] +=                                                                                        \
                        (a * VALUE(one[row]) + b * VALUE(two[row])) + (c * VALUE(three[row]) + d * VALUE(four[row]));  \
            }                                                                                                          \
        }                                                                                                              \
        for (; at < width; at++, values += stride) {                                                                   \
            PART a = query[at];                                                                                        \
            for (uint32_t row = 0; row < n; row++) out[row] += a * VALUE(values[row]);                                 \
        }                                                                                                              \
    }

#ifdef __GNUC__
#define ER_FETCH(from, stride, size)                                                                                   \
    for (uint32_t line = 0; line < ER_STEP / 16 * (size); line++)                                                      \
    __builtin_prefetch((from) + line % 4 * (stride) + line / 4 * (64 / (size)))
#else
#define ER_FETCH(from, stride, size)
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

ER_COLUMNS(er_columns_f32, , float, float, float, float, ER_ITSELF)
ER_COLUMNS(er_columns_f16, , uint16_t, float, float, float, er_half_inline)
#if ER_WIDE
ER_COLUMNS(er_columns_f32_wide, ER_USES_WIDE, float, float, float, float, ER_ITSELF)
ER_COLUMNS(er_columns_f16_wide, ER_USES_WIDE, uint16_t, float, float, float, er_half_inline)
#endif
ER_COLUMNS(er_columns_u8, , uint8_t, int8_t, int32_t, int32_t, ER_ITSELF)
ER_COLUMNS(er_columns_low, , uint8_t, int8_t, int32_t, int32_t, ER_LOW)
ER_COLUMNS(er_columns_high, , uint8_t, int8_t, int32_t, int32_t, ER_HIGH)
ER_COLUMNS(er_columns_two_0, , uint8_t, int8_t, int32_t, int32_t, ER_TWO_0)
ER_COLUMNS(er_columns_two_1, , uint8_t, int8_t, int32_t, int32_t, ER_TWO_1)
ER_COLUMNS(er_columns_two_2, , uint8_t, int8_t, int32_t, int32_t, ER_TWO_2)
ER_COLUMNS(er_columns_two_3, , uint8_t, int8_t, int32_t, int32_t, ER_TWO_3)

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

#elif defined(__wasm_simd128__) /* few bytes, two columns at a time; two products of 16 bits are one instruction */

#include <wasm_simd128.h>

static void er_columns_bits(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                            uint32_t shift, uint32_t bits, int32_t *out) {
    int32_t mask = (1 << bits) - 1, twice = bits == 2 ? 2 : 1;
    v128_t masks = wasm_i16x8_splat((int16_t)mask);
    for (uint32_t at = 0; at < width; at += 2, codes += 2 * stride) {
        const uint8_t *other = at + 1 < width ? codes + stride : codes;
        int32_t a = query[at] * twice, b = at + 1 < width ? query[at + 1] * twice : 0;
        v128_t weights = wasm_i32x4_splat((int32_t)((uint32_t)b << 16 | (uint16_t)a));
        uint32_t row = 0;
        for (; row + 8 <= n; row += 8) {
            v128_t one = wasm_v128_and(wasm_u16x8_shr(wasm_u16x8_load8x8(codes + row), shift), masks);
            v128_t two = wasm_v128_and(wasm_u16x8_shr(wasm_u16x8_load8x8(other + row), shift), masks);
            v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(one, two, 0, 8, 1, 9, 2, 10, 3, 11), weights);
            v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(one, two, 4, 12, 5, 13, 6, 14, 7, 15), weights);
            wasm_v128_store(out + row, wasm_i32x4_add(wasm_v128_load(out + row), low));
            wasm_v128_store(out + row + 4, wasm_i32x4_add(wasm_v128_load(out + row + 4), high));
        }
        for (; row < n; row++) out[row] += a * (codes[row] >> shift & mask) + b * (other[row] >> shift & mask);
    }
}

static void er_columns_u8(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n, int32_t *out) {
    er_columns_bits(codes, stride, width, query, n, 0, 8, out);
}

#define er_columns_part er_columns_bits

/* Four numbers of 16 or 32 bits. */
static inline __attribute__((always_inline)) v128_t er_four(const void *values, bool half) {
    if (!half) return wasm_v128_load(values);
    v128_t bits = wasm_u32x4_load16x4(values), size = wasm_v128_and(bits, wasm_i32x4_const_splat(0x7fff));
    v128_t value = wasm_f32x4_mul(wasm_i32x4_shl(size, 13), wasm_f32x4_const_splat(5.192296858534828e33f)); /* 2^112 */
    v128_t endless = wasm_v128_and(wasm_i32x4_ge(size, wasm_i32x4_const_splat(0x7c00)), wasm_i32x4_const_splat(0x7f800000));
    v128_t sign = wasm_i32x4_shl(wasm_v128_xor(bits, size), 16);
    return wasm_v128_or(wasm_v128_or(value, endless), sign);
}

static void er_columns_floats(const uint8_t *values, size_t stride, uint32_t width, const float *query, uint32_t n,
                              bool half, float *out) {
    size_t size = half ? 2 : 4;
    for (uint32_t at = 0; at < width; at += 2, values += 2 * stride * size) {
        const uint8_t *other = at + 1 < width ? values + stride * size : values;
        float a = query[at], b = at + 1 < width ? query[at + 1] : 0;
        v128_t as = wasm_f32x4_splat(a), bs = wasm_f32x4_splat(b);
        uint32_t row = 0;
        for (; row + 4 <= n; row += 4) {
            v128_t one = er_four(values + row * size, half), two = er_four(other + row * size, half);
            v128_t sum = wasm_f32x4_add(wasm_f32x4_mul(one, as), wasm_f32x4_mul(two, bs));
            wasm_v128_store(out + row, wasm_f32x4_add(wasm_v128_load(out + row), sum));
        }
        for (; row < n; row++) {
            float one = half ? er_half(((const uint16_t *)values)[row]) : ((const float *)values)[row];
            float two = half ? er_half(((const uint16_t *)other)[row]) : ((const float *)other)[row];
            out[row] += a * one + b * two;
        }
    }
}

static void er_columns_f32(const float *values, size_t stride, uint32_t width, const float *query, uint32_t n, float *out) {
    er_columns_floats((const uint8_t *)values, stride, width, query, n, false, out);
}

static void er_columns_f16(const uint16_t *values, size_t stride, uint32_t width, const float *query, uint32_t n, float *out) {
    er_columns_floats((const uint8_t *)values, stride, width, query, n, true, out);
}

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
