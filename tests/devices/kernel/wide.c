/* Compares the sums of wide.h with those of the plain loops: random codes and weights, of every number of rows and
   columns up to a few passes, with the extremes of both. Prints the number of comparisons, or that this CPU has no wide
   instructions. */
#include <stdio.h>
#include <string.h>

#include "../../../devices/kernel/src/vectors.h"

enum { ROWS = 3 * ER_WIDE_ROWS, WIDTH = 40 };

static uint32_t state = 1;

static uint32_t random_bits(void) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state;
}

static void fill(uint8_t *bytes, size_t n, uint32_t extreme) {
    for (size_t at = 0; at < n; at++)
        bytes[at] = (uint8_t)(extreme & 1 ? (random_bits() & 1 ? 255 : 0) : random_bits());
}

int main(void) {
    static uint8_t codes[WIDTH * (ROWS + 5)];
    static int8_t query[WIDTH];
    static int32_t found[ROWS], expected[ROWS];
    int compared = 0;
    if (!er_has_wide()) {
        puts("no wide instructions");
        return 2;
    }
    for (uint32_t turn = 0; turn < 4; turn++) {
        for (uint32_t width = 1; width <= WIDTH; width++) {
            for (uint32_t bits = 8; bits >= 2; bits /= 2, compared++) {
                uint32_t shared = 8 / bits, columns = (width + shared - 1) / shared;
                uint32_t n = ER_WIDE_ROWS * (1 + width % 3), stride = n + random_bits() % 5;
                fill(codes, sizeof codes, turn), fill((uint8_t *)query, sizeof query, turn >> 1);
                for (uint32_t at = 0; at < width; at++)
                    if (query[at] == -128) query[at] = -127; /* queries are symmetric */
                for (uint32_t row = 0; row < n; row++) expected[row] = -77;
                if (bits == 8) {
                    er_codes_8(codes, stride, columns, width, query, n, -77, found);
                    er_columns_u8(codes, stride, width, query, n, expected);
                } else {
                    (bits == 4 ? er_codes_4 : er_codes_2)(codes, stride, columns, width, query, n, -77, found);
                    for (uint32_t part = 0; part < shared && part * columns < width; part++) {
                        uint32_t own = width - part * columns < columns ? width - part * columns : columns;
                        er_columns_part(codes, stride, own, query + part * columns, n, part * bits, bits, expected);
                    }
                }
                if (memcmp(found, expected, n * sizeof *found)) {
                    printf("%u bits, %u columns, %u rows: other sums\n", bits, width, n);
                    return 1;
                }
            }
        }
    }
    printf("%d comparisons\n", compared);
    return 0;
}
