/* Verification of ed25519 signatures (RFC 8032), in sixteen limbs of 16 bits as TweetNaCl's, for few bytes of code.
   Nothing here is secret, so that no time has to be constant. */
#include "kernel.h"

#if ER_SIGNATURES

typedef int64_t limbs[16]; /* of a number modulo p = 2^255 - 19 */
typedef limbs point[4];    /* extended coordinates X, Y, Z, T = XY / Z */

static const limbs ONE = {1}, ZERO = {0};
static const limbs D = {0x78a3, 0x1359, 0x4dca, 0x75eb, 0xd8ab, 0x4141, 0x0a4d, 0x0070,
                        0xe898, 0x7779, 0x4079, 0x8cc7, 0xfe73, 0x2b6f, 0x6cee, 0x5203};
static const limbs BASE_X = {0xd51a, 0x8f25, 0x2d60, 0xc956, 0xa7b2, 0x9525, 0xc760, 0x692c,
                             0xdc5c, 0xfdd6, 0xe231, 0xc0a4, 0x53fe, 0xcd6e, 0x36d3, 0x2169};
static const limbs BASE_Y = {0x6658, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666,
                             0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666};
static const limbs ROOT = {0xa0b0, 0x4a0e, 0x1b27, 0xc4ee, 0xe478, 0xad2f, 0x1806, 0x2f43,
                           0xd7a7, 0x3dfb, 0x0099, 0x2b4d, 0xdf0b, 0x4fc1, 0x2480, 0x2b83}; /* of -1 */
/* The order of the base point, little-endian. */
static const uint8_t ORDER[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
                                  0xa2, 0xde, 0xf9, 0xde, 0x14, 0,    0,    0,    0,    0,    0,
                                  0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};

static void copy(limbs to, const limbs from) { memcpy(to, from, sizeof(limbs)); }

static void carry(limbs a) {
    for (int at = 0; at < 16; at++) {
        int64_t over = a[at] >> 16; /* rounds down, as all compilers shift */
        a[at] -= over * 65536;
        if (at < 15) a[at + 1] += over;
        else a[0] += 38 * over;
    }
}

static void sum(limbs to, const limbs a, const limbs b) {
    for (int at = 0; at < 16; at++) to[at] = a[at] + b[at];
}

static void less(limbs to, const limbs a, const limbs b) {
    for (int at = 0; at < 16; at++) to[at] = a[at] - b[at];
}

static void product(limbs to, const limbs a, const limbs b) {
    int64_t wide[31] = {0};
    for (int one = 0; one < 16; one++)
        for (int other = 0; other < 16; other++) wide[one + other] += a[one] * b[other];
    for (int at = 0; at < 15; at++) wide[at] += 38 * wide[at + 16];
    memcpy(to, wide, sizeof(limbs));
    carry(to);
    carry(to);
}

/* a^(2^bits - 1 - without), of a number below 256. */
static void power(limbs to, const limbs a, int bits, uint32_t without) {
    limbs found;
    copy(found, a);
    for (int bit = bits - 2; bit >= 0; bit--) {
        product(found, found, found);
        if (bit > 7 || !(without >> bit & 1)) product(found, found, a);
    }
    copy(to, found);
}

/* The canonical bytes of a number. */
static void pack(uint8_t bytes[32], const limbs a) {
    limbs t, m;
    copy(t, a);
    for (int time = 0; time < 3; time++) carry(t);
    for (int time = 0; time < 2; time++) {
        m[0] = t[0] - 0xffed;
        for (int at = 1; at < 15; at++) {
            m[at] = t[at] - 0xffff - (m[at - 1] >> 16 & 1);
            m[at - 1] &= 0xffff;
        }
        m[15] = t[15] - 0x7fff - (m[14] >> 16 & 1);
        bool below = m[15] >> 16 & 1;
        m[14] &= 0xffff;
        if (!below) copy(t, m);
    }
    for (int at = 0; at < 16; at++) bytes[2 * at] = (uint8_t)(t[at] & 255), bytes[2 * at + 1] = (uint8_t)(t[at] >> 8);
}

static bool differ(const limbs a, const limbs b) {
    uint8_t one[32], other[32];
    pack(one, a);
    pack(other, b);
    return memcmp(one, other, 32) != 0;
}

static void add(point p, point q) {
    limbs a, b, c, d, e, f, g, h;
    less(a, p[1], p[0]);
    less(b, q[1], q[0]);
    product(a, a, b);
    sum(b, p[0], p[1]);
    sum(c, q[0], q[1]);
    product(b, b, c);
    product(c, p[3], q[3]);
    product(c, c, D);
    sum(c, c, c);
    product(d, p[2], q[2]);
    sum(d, d, d);
    less(e, b, a);
    less(f, d, c);
    sum(g, d, c);
    sum(h, b, a);
    product(p[0], e, f);
    product(p[1], h, g);
    product(p[2], g, f);
    product(p[3], e, h);
}

static void multiple(point to, point p, const uint8_t scalar[32]) {
    copy(to[0], ZERO), copy(to[1], ONE), copy(to[2], ONE), copy(to[3], ZERO);
    for (int bit = 255; bit >= 0; bit--) {
        point same;
        memcpy(same, to, sizeof same);
        add(to, same);
        if (scalar[bit / 8] >> (bit & 7) & 1) add(to, p);
    }
}

/* The negative of the point with these bytes; false if there is none, or if they are not its canonical ones. */
static bool negative(point p, const uint8_t bytes[32]) {
    limbs square, over, under, check;
    uint8_t packed[32], sign = bytes[31] >> 7;
    for (int at = 0; at < 16; at++) p[1][at] = bytes[2 * at] + ((int64_t)bytes[2 * at + 1] << 8);
    p[1][15] &= 0x7fff;
    pack(packed, p[1]);
    packed[31] |= (uint8_t)(sign << 7);
    if (memcmp(packed, bytes, 32) != 0) return false;
    copy(p[2], ONE);
    product(square, p[1], p[1]);
    product(under, square, D);
    less(over, square, ONE);
    sum(under, ONE, under);
    /* x = over under^3 (over under^7)^((p - 5) / 8); (p - 5) / 8 = 2^252 - 3 */
    product(check, under, under);
    product(check, check, under);
    product(p[0], check, check);
    product(p[0], p[0], under);
    product(p[0], p[0], over);
    power(p[0], p[0], 252, 2);
    product(p[0], p[0], check);
    product(p[0], p[0], over);
    product(check, p[0], p[0]);
    product(check, check, under);
    if (differ(check, over)) product(p[0], p[0], ROOT);
    product(check, p[0], p[0]);
    product(check, check, under);
    if (differ(check, over)) return false;
    pack(packed, p[0]);
    if ((packed[0] & 1) == sign) less(p[0], ZERO, p[0]);
    product(p[3], p[0], p[1]);
    return true;
}

static uint64_t turned(uint64_t word, int bits) { return word >> bits | word << (64 - bits); }

/* Fractional parts of roots of primes, as FIPS 180-4 defines the constants of SHA-512: found instead of stored, which
   takes a fifth of the bytes. The integer root of `prime` times 2^(degree * 64), by bits, in 256 bits. */
static uint64_t root_of(uint32_t prime, int degree) {
    uint64_t low = 0; /* the 64 bits behind the point; the whole part is found first */
    uint32_t whole = 1;
    while (degree == 2 ? (whole + 1) * (whole + 1) <= prime : (whole + 1) * (whole + 1) * (whole + 1) <= prime) whole++;
    for (int bit = 63; bit >= 0; bit--) {
        uint64_t tried = low | (uint64_t)1 << bit;
        uint32_t x[3] = {(uint32_t)tried, (uint32_t)(tried >> 32), whole}, power[9] = {x[0], x[1], x[2]};
        for (int time = 1; time < degree; time++) {
            uint32_t next[9] = {0};
            for (int one = 0; one < 3; one++) {
                uint64_t over = 0;
                for (int other = 0; other < 6; other++) {
                    over += next[one + other] + (uint64_t)x[one] * power[other];
                    next[one + other] = (uint32_t)over;
                    over >>= 32;
                }
            }
            memcpy(power, next, sizeof power);
        }
        if (power[2 * degree] < prime) low = tried; /* no root of a prime ends */
    }
    return low;
}

typedef struct {
    uint64_t state[8];
    uint8_t block[128];
    uint64_t size;
    uint64_t rounds[80];
} sha512;

static void begin(sha512 *hash) {
    uint32_t prime = 1;
    for (int found = 0; found < 80; found++) {
        bool divided = true;
        while (divided) {
            prime++, divided = false;
            for (uint32_t factor = 2; factor * factor <= prime; factor++) divided |= prime % factor == 0;
        }
        hash->rounds[found] = root_of(prime, 3);
        if (found < 8) hash->state[found] = root_of(prime, 2);
    }
    hash->size = 0;
}

static void absorb(sha512 *hash) {
    uint64_t words[16], s[8];
    for (int at = 0; at < 16; at++) {
        words[at] = 0;
        for (int byte = 0; byte < 8; byte++) words[at] = words[at] << 8 | hash->block[8 * at + byte];
    }
    memcpy(s, hash->state, sizeof s);
    for (int at = 0; at < 80; at++) {
        uint64_t one = s[7] + (turned(s[4], 14) ^ turned(s[4], 18) ^ turned(s[4], 41)) +
                       ((s[4] & s[5]) ^ (~s[4] & s[6])) + hash->rounds[at] + words[at & 15];
        uint64_t two =
            (turned(s[0], 28) ^ turned(s[0], 34) ^ turned(s[0], 39)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        uint64_t early = words[(at + 1) & 15], late = words[(at + 14) & 15];
        words[at & 15] += words[(at + 9) & 15] + (turned(early, 1) ^ turned(early, 8) ^ early >> 7) +
                          (turned(late, 19) ^ turned(late, 61) ^ late >> 6);
        for (int word = 7; word > 0; word--) s[word] = s[word - 1];
        s[4] += one;
        s[0] = one + two;
    }
    for (int word = 0; word < 8; word++) hash->state[word] += s[word];
}

static void feed(sha512 *hash, const uint8_t *data, size_t size) {
    for (size_t at = 0; at < size; at++) {
        hash->block[hash->size++ & 127] = data[at];
        if ((hash->size & 127) == 0) absorb(hash);
    }
}

static void end(sha512 *hash, uint8_t digest[64]) {
    static const uint8_t one = 0x80, none = 0;
    uint64_t bits = hash->size * 8;
    feed(hash, &one, 1);
    while ((hash->size & 127) != 112) feed(hash, &none, 1);
    for (int byte = 0; byte < 8; byte++) feed(hash, &none, 1);
    for (int byte = 7; byte >= 0; byte--) {
        uint8_t part = (uint8_t)(bits >> 8 * byte);
        feed(hash, &part, 1);
    }
    for (int byte = 0; byte < 64; byte++) digest[byte] = (uint8_t)(hash->state[byte / 8] >> (56 - 8 * (byte % 8)));
}

/* 64 bytes modulo the order, bit by bit. */
static void modulo(uint8_t found[32], const uint8_t wide[64]) {
    memset(found, 0, 32);
    for (int bit = 511; bit >= 0; bit--) {
        uint32_t over = wide[bit / 8] >> (bit & 7) & 1;
        for (int at = 0; at < 32; at++) {
            over |= (uint32_t)found[at] << 1;
            found[at] = (uint8_t)over;
            over = over >> 8 & 1;
        }
        uint8_t reduced[32];
        int32_t borrow = 0;
        for (int at = 0; at < 32; at++) {
            borrow += found[at] - ORDER[at];
            reduced[at] = (uint8_t)borrow;
            borrow >>= 8;
        }
        if (borrow == 0) memcpy(found, reduced, 32);
    }
}

bool er_ed25519(const uint8_t key[32], const void *data, size_t size, const uint8_t signature[64]) {
    point public, base, r, s;
    sha512 hash;
    uint8_t digest[64], scalar[32], packed[32];
    limbs inverse, x, y;
    if (!negative(public, key)) return false;
    memset(digest, 0, sizeof digest);
    memcpy(digest, signature + 32, 32);
    modulo(scalar, digest);
    if (memcmp(scalar, signature + 32, 32) != 0) return false; /* not below the order */
    begin(&hash);
    feed(&hash, signature, 32);
    feed(&hash, key, 32);
    feed(&hash, data, size);
    end(&hash, digest);
    modulo(scalar, digest);
    multiple(r, public, scalar);
    copy(base[0], BASE_X), copy(base[1], BASE_Y), copy(base[2], ONE);
    product(base[3], BASE_X, BASE_Y);
    multiple(s, base, signature + 32);
    add(r, s);
    power(inverse, r[2], 255, 20); /* p - 2 = 2^255 - 1 - 20 */
    product(x, r[0], inverse);
    product(y, r[1], inverse);
    pack(packed, x);
    uint8_t sign = packed[0] & 1;
    pack(packed, y);
    packed[31] |= (uint8_t)(sign << 7);
    return memcmp(packed, signature, 32) == 0;
}

#endif
typedef int er_ed25519_c;
