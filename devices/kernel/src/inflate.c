/* Inflates the head of a bundle in one file (RFC 1950 and 1951). The output is the window: what is repeated is read
   from it, so that no other memory is taken than 1.5 KB of the stack. */
#include "kernel.h"

#if ER_ONE_FILE
enum { MOST_BITS = 15, LITERALS = 288, DISTANCES = 32 };

typedef struct {
    const uint8_t *at, *end;
    uint32_t bits, held;
    uint8_t *out;
    size_t done, wanted;
    bool whole, failed, full;
} stream;

typedef struct {
    uint16_t counts[MOST_BITS + 1], symbols[LITERALS];
} codes;

static uint32_t take(stream *from, uint32_t count) {
    while (from->held < count) {
        if (from->at == from->end) {
            from->failed = true;
            return 0;
        }
        from->bits |= (uint32_t)*from->at++ << from->held;
        from->held += 8;
    }
    uint32_t found = from->bits & ((1u << count) - 1);
    from->bits >>= count;
    from->held -= count;
    return found;
}

/* Canonical Huffman codes of these lengths; false if there are too many, or too few, but for one code of one bit. */
static bool build(codes *into, const uint8_t *lengths, uint32_t count) {
    uint16_t starts[MOST_BITS + 1];
    int32_t left = 1;
    memset(into->counts, 0, sizeof into->counts);
    for (uint32_t symbol = 0; symbol < count; symbol++) into->counts[lengths[symbol]]++;
    uint32_t used = count - into->counts[0];
    into->counts[0] = 0;
    starts[0] = starts[1] = 0;
    for (int length = 1; length <= MOST_BITS; length++) {
        left = 2 * left - into->counts[length];
        if (left < 0) return false;
        if (length < MOST_BITS) starts[length + 1] = (uint16_t)(starts[length] + into->counts[length]);
    }
    for (uint32_t symbol = 0; symbol < count; symbol++)
        if (lengths[symbol]) into->symbols[starts[lengths[symbol]]++] = (uint16_t)symbol;
    return left == 0 || used == 0 || (used == 1 && into->counts[1] == 1);
}

static uint32_t decoded(stream *from, const codes *of) {
    uint32_t code = 0, first = 0, index = 0;
    for (int length = 1; length <= MOST_BITS && !from->failed; length++) {
        code |= take(from, 1);
        uint32_t count = of->counts[length];
        if (code < first + count) return of->symbols[index + code - first];
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    from->failed = true;
    return 0;
}

static void put(stream *to, uint8_t byte) {
    if (to->done < to->wanted) to->out[to->done++] = byte;
    else if (to->whole) to->failed = true;
    else to->full = true;
}

static void compressed(stream *from, const codes *literals, const codes *distances) {
    static const uint16_t lengths[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    while (!from->failed && !from->full) {
        uint32_t symbol = decoded(from, literals);
        if (symbol < 256) {
            if (!from->failed) put(from, (uint8_t)symbol);
            continue;
        }
        if (symbol == 256) return;
        symbol -= 257;
        if (symbol >= 29) break;
        uint32_t more = symbol < 8 || symbol == 28 ? 0 : (symbol - 4) >> 2;
        uint32_t length = lengths[symbol] + take(from, more), distance = decoded(from, distances);
        if (distance >= 30) break;
        more = distance < 4 ? 0 : (distance - 2) >> 1;
        distance = distance < 4 ? distance + 1 : ((2 + (distance & 1)) << more) + 1 + take(from, more);
        if (from->failed || distance > from->done) break;
        while (length-- && !from->failed && !from->full) put(from, from->out[from->done - distance]);
    }
    from->failed |= !from->full; /* left by a break, or failed before */
}

static void stored(stream *from) {
    from->bits = from->held = 0; /* at most 7 bits of a byte that was begun */
    uint32_t length = take(from, 16);
    if ((take(from, 16) ^ 0xffff) != length || from->failed) from->failed = true;
    else if ((size_t)(from->end - from->at) < length) from->failed = true;
    while (length-- && !from->failed && !from->full) put(from, *from->at++);
}

static void dynamic(stream *from, codes *literals, codes *distances) {
    static const uint8_t order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + DISTANCES];
    uint32_t n_literals = take(from, 5) + 257, n_distances = take(from, 5) + 1, n_lengths = take(from, 4) + 4, at = 0;
    memset(lengths, 0, sizeof lengths);
    for (uint32_t one = 0; one < n_lengths; one++) lengths[order[one]] = (uint8_t)take(from, 3);
    from->failed |= n_literals > 286 || n_distances > 30 || !build(literals, lengths, 19);
    while (!from->failed && at < n_literals + n_distances) {
        uint32_t symbol = decoded(from, literals), count = 1;
        uint8_t length = (uint8_t)symbol;
        if (symbol >= 16) {
            length = symbol == 16 && at ? lengths[at - 1] : 0;
            from->failed |= symbol == 16 && at == 0;
            count = symbol == 16 ? 3 + take(from, 2) : symbol == 17 ? 3 + take(from, 3) : 11 + take(from, 7);
        }
        if (at + count > n_literals + n_distances) from->failed = true;
        while (count-- && !from->failed) lengths[at++] = length;
    }
    if (from->failed) return;
    from->failed = lengths[256] == 0 || !build(distances, lengths + n_literals, n_distances) ||
                   !build(literals, lengths, n_literals);
}

bool er_inflate(const uint8_t *data, size_t size, uint8_t *out, size_t wanted, bool whole) {
    stream from = {.at = data + 2, .end = data + size, .out = out, .wanted = wanted, .whole = whole};
    codes literals, distances;
    if (size < 6 || (data[0] & 15) != 8 || data[0] >> 4 > 7 || data[1] & 32 || (data[0] * 256u + data[1]) % 31)
        return false;
    bool last = false;
    while (!last && !from.failed && !from.full) {
        last = take(&from, 1);
        uint32_t kind = take(&from, 2);
        if (kind == 0) {
            stored(&from);
            continue;
        }
        if (kind == 1) {
            uint8_t lengths[LITERALS];
            for (int one = 0; one < LITERALS; one++) lengths[one] = one < 144 ? 8 : one < 256 ? 9 : one < 280 ? 7 : 8;
            build(&literals, lengths, LITERALS);
            memset(lengths, 5, DISTANCES);
            build(&distances, lengths, DISTANCES);
        } else if (kind == 2) {
            dynamic(&from, &literals, &distances);
        } else {
            from.failed = true;
        }
        if (!from.failed) compressed(&from, &literals, &distances);
    }
    if (from.failed || from.done != wanted) return false;
    if (!whole) return true;
    uint32_t low = 1, high = 0; /* Adler-32 */
    for (size_t at = 0; at < wanted; at++) {
        low = (low + out[at]) % 65521;
        high = (high + low) % 65521;
    }
    from.bits = from.held = 0;
    uint32_t sum = 0;
    for (int byte = 0; byte < 4; byte++) sum = sum << 8 | take(&from, 8);
    return !from.failed && from.at == from.end && sum == (high << 16 | low);
}
#endif
