/* The loops of vectors.h for WebAssembly, in few bytes: some columns at a time, of which products are added to sums in
   memory. Whole vectors are read and written: up to 15 rows too many, which are behind a column in the tables and in the
   memory that follows them, and behind the sums in ER_BEHIND cells more of the tile. */
#ifndef ER_SIMD128_H
#define ER_SIMD128_H

#include <wasm_simd128.h>

#include "kernel.h"

/* Two columns, of which `bits` bits from `shift` on are codes; two products of 16 bits are one instruction. Of two bits,
   twice their number. */
static void er_columns_part(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                            uint32_t shift, uint32_t bits, int32_t *out) {
    v128_t masks = wasm_i16x8_splat((int16_t)((1 << bits) - 1));
    for (uint32_t at = 0; at < width; at += 2, codes += 2 * stride) {
        bool both = at + 1 < width;
        const uint8_t *other = both ? codes + stride : codes;
        int32_t twice = bits == 2 ? 2 : 1, a = query[at] * twice, b = both ? query[at + 1] * twice : 0;
        v128_t weights = wasm_i32x4_splat((int32_t)((uint32_t)b << 16 | (uint16_t)a));
        for (uint32_t row = 0; row < n; row += 8) {
            v128_t one = wasm_v128_and(wasm_u16x8_shr(wasm_u16x8_load8x8(codes + row), shift), masks);
            v128_t two = wasm_v128_and(wasm_u16x8_shr(wasm_u16x8_load8x8(other + row), shift), masks);
            v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(one, two, 0, 8, 1, 9, 2, 10, 3, 11), weights);
            v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(one, two, 4, 12, 5, 13, 6, 14, 7, 15), weights);
            wasm_v128_store(out + row, wasm_i32x4_add(wasm_v128_load(out + row), low));
            wasm_v128_store(out + row + 4, wasm_i32x4_add(wasm_v128_load(out + row + 4), high));
        }
    }
}

#ifdef __wasm_relaxed_simd__

/* Four columns; an instruction multiplies 16 signed bytes with as many of 7 bits, and adds four products each. The 7 bits
   are the sizes of the query's codes. Columns of its codes below 0 are negated bit by bit: ~x is -x - 1. What is too much
   by that, and by the 128 between a byte and a signed one, is added to all sums. */
static void er_columns_u8(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                          int32_t *out) {
    for (uint32_t at = 0; at < width; at += 4, codes += 4 * stride) {
        const uint8_t *columns[4];
        v128_t flips[4];
        int32_t sizes = 0, extra = 0;
        for (uint32_t one = 0; one < 4; one++) {
            bool is_column = at + one < width;
            int32_t code = is_column ? query[at + one] : 0, flip = code < 0 ? 127 : 128;
            columns[one] = codes + is_column * one * stride;
            flips[one] = wasm_i8x16_splat((int8_t)flip);
            sizes |= (code < 0 ? -code : code) << 8 * one;
            extra += code * flip;
        }
        v128_t weights = wasm_i32x4_splat(sizes), extras = wasm_i32x4_splat(extra);
        for (uint32_t row = 0; row < n; row += 16) {
#define ER_SIGNED_BYTES(one) wasm_v128_xor(wasm_v128_load(columns[one] + row), flips[one])
#define ER_ADD(first, pairs, others, ...)                                                                              \
    wasm_v128_store(out + row + (first),                                                                               \
                    wasm_i32x4_relaxed_dot_i8x16_i7x16_add(                                                            \
                        wasm_i16x8_shuffle(pairs, others, __VA_ARGS__), weights,                                       \
                        wasm_i32x4_add(wasm_v128_load(out + row + (first)), extras)));
            v128_t a = ER_SIGNED_BYTES(0), b = ER_SIGNED_BYTES(1), c = ER_SIGNED_BYTES(2), d = ER_SIGNED_BYTES(3);
            v128_t ab = wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            v128_t cd = wasm_i8x16_shuffle(c, d, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            ER_ADD(0, ab, cd, 0, 8, 1, 9, 2, 10, 3, 11)
            ER_ADD(4, ab, cd, 4, 12, 5, 13, 6, 14, 7, 15)
            ab = wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            cd = wasm_i8x16_shuffle(c, d, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            ER_ADD(8, ab, cd, 0, 8, 1, 9, 2, 10, 3, 11)
            ER_ADD(12, ab, cd, 4, 12, 5, 13, 6, 14, 7, 15)
        }
    }
}

#else

static void er_columns_u8(const uint8_t *codes, size_t stride, uint32_t width, const int8_t *query, uint32_t n,
                          int32_t *out) {
    er_columns_part(codes, stride, width, query, n, 0, 8, out);
}

#endif

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
        bool both = at + 1 < width;
        const uint8_t *other = both ? values + stride * size : values;
        v128_t a = wasm_f32x4_splat(query[at]), b = wasm_f32x4_splat(both ? query[at + 1] : 0);
        for (uint32_t row = 0; row < n; row += 4) {
            v128_t one = er_four(values + row * size, half), two = er_four(other + row * size, half);
            v128_t sum = wasm_f32x4_add(wasm_f32x4_mul(one, a), wasm_f32x4_mul(two, b));
            wasm_v128_store(out + row, wasm_f32x4_add(wasm_v128_load(out + row), sum));
        }
    }
}

static void er_columns_f32(const float *values, size_t stride, uint32_t width, const float *query, uint32_t n,
                           float *out) {
    er_columns_floats((const uint8_t *)values, stride, width, query, n, false, out);
}

static void er_columns_f16(const uint16_t *values, size_t stride, uint32_t width, const float *query, uint32_t n,
                           float *out) {
    er_columns_floats((const uint8_t *)values, stride, width, query, n, true, out);
}

#endif
