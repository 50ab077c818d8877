/* Products of integer columns by instructions that compilers do not find in plain loops: maddubs of AVX2, and the dot
   product of NEON. Four columns are interleaved, so that the four values of a row lie together and become one sum of 32
   bits. Every sum is exact. The plain loops of vectors.h are the reference, and take the rows that are left over.

   er_open looks whether the CPU has them (er_has_wide); a build that requires them (-mavx2, -march=armv8.2-a+dotprod)
   does not look. */
#ifndef ER_WIDE_H
#define ER_WIDE_H

#include "kernel.h"

#if ER_WIDE

#if defined(__x86_64__)
#include <immintrin.h>
#define ER_USES_WIDE __attribute__((target("avx2,fma")))
#else
#include <arm_neon.h>
#ifdef __ARM_FEATURE_DOTPROD
#define ER_USES_WIDE
#else
#define ER_USES_WIDE __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#endif
#define ER_INLINE_WIDE ER_USES_WIDE static inline __attribute__((always_inline))

enum { ER_PASS = 8 }; /* columns whose products are summed in registers */

/* Four weights, a byte each, as a number. */
static inline uint32_t er_four_weights(const int8_t *query, uint32_t at, uint32_t width) {
    uint32_t found = 0;
    for (uint32_t one = 0; one < 4 && at + one < width; one++) found |= (uint32_t)(uint8_t)query[at + one] << 8 * one;
    return found;
}

#if defined(__x86_64__)

typedef __m256i er_wide;
enum { ER_WIDE_ROWS = 32 };

/* Of a weight below zero the codes are complemented, and its size is the factor: products of 8 bits with a sign stay in
   16 bits, where a byte without a sign might not. */
typedef struct er_factor {
    er_wide sizes, turned;
    int32_t offset;
} er_factor;

ER_INLINE_WIDE er_factor er_factor_of(uint32_t weights) {
    uint32_t sizes = 0, turned = 0x80808080u;
    int32_t offset = 0;
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        int32_t weight = (int8_t)(weights >> shift);
        offset += 128 * weight;
        if (weight < 0) offset -= weight, weight = -weight, turned ^= 255u << shift;
        sizes |= (uint32_t)weight << shift;
    }
    return (er_factor){_mm256_set1_epi32((int32_t)sizes), _mm256_set1_epi32((int32_t)turned), offset};
}

/* Rows 0-3 and 16-19, 4-7 and 20-23, 8-11 and 24-27, 12-15 and 28-31 of four columns. */
ER_INLINE_WIDE void er_interleave(const uint8_t *const columns[4], uint32_t row, er_wide rows[4]) {
    er_wide part[4];
    for (int one = 0; one < 4; one++)
        part[one] = _mm256_loadu_si256((const er_wide *)(const void *)(columns[one] + row));
    er_wide low = _mm256_unpacklo_epi8(part[0], part[1]), high = _mm256_unpackhi_epi8(part[0], part[1]);
    er_wide other = _mm256_unpacklo_epi8(part[2], part[3]), last = _mm256_unpackhi_epi8(part[2], part[3]);
    rows[0] = _mm256_unpacklo_epi16(low, other), rows[1] = _mm256_unpackhi_epi16(low, other);
    rows[2] = _mm256_unpacklo_epi16(high, last), rows[3] = _mm256_unpackhi_epi16(high, last);
}

ER_INLINE_WIDE er_wide er_same(int32_t number) { return _mm256_set1_epi32(number); }

/* Add the products of bytes from 0 to 255. */
ER_INLINE_WIDE er_wide er_dot_bytes(er_wide sums, er_wide bytes, const er_factor *factor) {
    er_wide pairs = _mm256_maddubs_epi16(factor->sizes, _mm256_xor_si256(bytes, factor->turned));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Add the products of parts of bytes, of 4 or 2 bits; of two bits twice their number. */
ER_INLINE_WIDE er_wide er_dot_parts(er_wide sums, er_wide bytes, const er_wide *weights, int bits) {
    er_wide mask = _mm256_set1_epi8((char)((1 << bits) - 1)), pairs = _mm256_setzero_si256();
    for (int part = 0; part < 8 / bits; part++) {
        er_wide own = _mm256_and_si256(_mm256_srli_epi16(bytes, part * bits), mask);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(own, weights[part]));
    }
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(bits == 2 ? 2 : 1)));
}

ER_INLINE_WIDE void er_put_eight(int32_t *out, er_wide sums, bool add) {
    er_wide *place = (er_wide *)(void *)out;
    _mm256_storeu_si256(place, add ? _mm256_add_epi32(_mm256_loadu_si256(place), sums) : sums);
}

/* Write the sums of rows, or add them to those that are there. */
ER_INLINE_WIDE void er_put_rows(int32_t *out, const er_wide sums[4], bool add) {
    er_put_eight(out, _mm256_permute2x128_si256(sums[0], sums[1], 0x20), add);
    er_put_eight(out + 8, _mm256_permute2x128_si256(sums[2], sums[3], 0x20), add);
    er_put_eight(out + 16, _mm256_permute2x128_si256(sums[0], sums[1], 0x31), add);
    er_put_eight(out + 24, _mm256_permute2x128_si256(sums[2], sums[3], 0x31), add);
}

#else

typedef int32x4_t er_wide;
enum { ER_WIDE_ROWS = 16 };

typedef struct er_factor {
    int8x16_t weights;
    int32_t offset;
} er_factor;

ER_INLINE_WIDE er_factor er_factor_of(uint32_t weights) {
    int32_t offset = 0;
    for (uint32_t shift = 0; shift < 32; shift += 8) offset += 128 * (int8_t)(weights >> shift);
    return (er_factor){vreinterpretq_s8_u32(vdupq_n_u32(weights)), offset};
}

ER_INLINE_WIDE void er_interleave(const uint8_t *const columns[4], uint32_t row, er_wide rows[4]) {
    uint8x16x2_t one = vzipq_u8(vld1q_u8(columns[0] + row), vld1q_u8(columns[1] + row));
    uint8x16x2_t two = vzipq_u8(vld1q_u8(columns[2] + row), vld1q_u8(columns[3] + row));
    for (int half = 0; half < 2; half++) {
        uint16x8x2_t both = vzipq_u16(vreinterpretq_u16_u8(one.val[half]), vreinterpretq_u16_u8(two.val[half]));
        rows[2 * half] = vreinterpretq_s32_u16(both.val[0]), rows[2 * half + 1] = vreinterpretq_s32_u16(both.val[1]);
    }
}

ER_INLINE_WIDE er_wide er_same(int32_t number) { return vdupq_n_s32(number); }

ER_INLINE_WIDE er_wide er_dot_bytes(er_wide sums, er_wide bytes, const er_factor *factor) {
    int8x16_t turned = vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(bytes), vdupq_n_u8(128)));
    return vdotq_s32(sums, turned, factor->weights);
}

ER_INLINE_WIDE er_wide er_dot_parts(er_wide sums, er_wide bytes, const er_wide *weights, int bits) {
    uint8x16_t left = vreinterpretq_u8_s32(bytes), mask = vdupq_n_u8((uint8_t)((1 << bits) - 1));
    er_wide found = vdupq_n_s32(0);
    for (int part = 0; part < 8 / bits; part++, left = vshlq_u8(left, vdupq_n_s8((int8_t)-bits)))
        found = vdotq_s32(found, vreinterpretq_s8_u8(vandq_u8(left, mask)), vreinterpretq_s8_s32(weights[part]));
    return vaddq_s32(sums, bits == 2 ? vaddq_s32(found, found) : found);
}

ER_INLINE_WIDE void er_put_rows(int32_t *out, const er_wide sums[4], bool add) {
    for (int one = 0; one < 4; one++)
        vst1q_s32(out + 4 * one, add ? vaddq_s32(vld1q_s32(out + 4 * one), sums[one]) : sums[one]);
}

#endif

/* Sums of n rows, a multiple of ER_WIDE_ROWS: `zero` and the products of `columns` columns of bytes with the query. A
   byte holds the values of several columns of the table, from its lowest bits on: `columns` lie between them. While
   eight columns are summed the next eight are fetched, and in the end the first eight of the next tile. */
ER_INLINE_WIDE void er_codes_of(const uint8_t *codes, size_t stride, uint32_t columns, uint32_t width,
                                const int8_t *query, uint32_t n, int bits, int32_t zero, int32_t *out) {
    for (uint32_t at = 0; at < columns; at += ER_PASS) {
        bool last = columns - at <= ER_PASS;
        const uint8_t *place[ER_PASS], *ahead = last ? codes + n : codes + (at + ER_PASS) * stride;
        uint32_t left = last ? columns : columns - at - ER_PASS, fetched = left < ER_PASS ? left : ER_PASS;
        uint32_t quads = columns - at > 4 ? 2 : 1;
        er_factor factors[2];
        er_wide weights[2][4];
        int32_t offset = at ? 0 : zero;
        for (uint32_t one = 0; one < ER_PASS; one++) place[one] = codes + (at + one < columns ? at + one : at) * stride;
        for (uint32_t quad = 0; quad < quads; quad++) {
            uint32_t first = at + 4 * quad;
            if (bits == 8) {
                factors[quad] = er_factor_of(er_four_weights(query, first, width));
                offset += factors[quad].offset;
            }
            for (uint32_t part = 0; bits < 8 && part < 8u / (uint32_t)bits; part++) {
                uint32_t start = part * columns, end = start + columns < width ? start + columns : width;
                weights[quad][part] = er_same((int32_t)er_four_weights(query, start + first, end));
            }
        }
        for (uint32_t row = 0; row < n; row += ER_WIDE_ROWS) {
            er_wide rows[4], sums[4] = {er_same(offset), er_same(offset), er_same(offset), er_same(offset)};
            if (row % 64 == 0)
                for (uint32_t one = 0; one < fetched; one++) __builtin_prefetch(ahead + one * stride + row);
            for (uint32_t quad = 0; quad < quads; quad++) {
                er_interleave(place + 4 * quad, row, rows);
                for (int one = 0; one < 4; one++)
                    sums[one] = bits == 8 ? er_dot_bytes(sums[one], rows[one], &factors[quad])
                                          : er_dot_parts(sums[one], rows[one], weights[quad], bits);
            }
            er_put_rows(out + row, sums, at > 0);
        }
    }
}

#define ER_CODES(NAME, BITS)                                                                                           \
    ER_USES_WIDE static void NAME(const uint8_t *codes, size_t stride, uint32_t columns, uint32_t width,               \
                                  const int8_t *query, uint32_t n, int32_t zero, int32_t *out) {                       \
        er_codes_of(codes, stride, columns, width, query, n, BITS, zero, out);                                         \
    }
ER_CODES(er_codes_8, 8)
ER_CODES(er_codes_4, 4)
ER_CODES(er_codes_2, 2)

#endif
#endif
