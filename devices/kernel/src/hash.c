/* sha256 (FIPS 180-4). */
#include "kernel.h"

#if ER_SHA256

static const uint32_t ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turned(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void absorb(uint32_t state[8], const uint8_t *block) {
    uint32_t words[64], s[8];
    for (int at = 0; at < 16; at++, block += 4)
        words[at] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
    for (int at = 16; at < 64; at++) {
        uint32_t early = words[at - 15], late = words[at - 2];
        words[at] = words[at - 16] + words[at - 7] + (turned(early, 7) ^ turned(early, 18) ^ early >> 3) +
                    (turned(late, 17) ^ turned(late, 19) ^ late >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int at = 0; at < 64; at++) {
        uint32_t one = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) +
                       ((s[4] & s[5]) ^ (~s[4] & s[6])) + ROUNDS[at] + words[at];
        uint32_t two =
            (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (int word = 7; word > 0; word--) s[word] = s[word - 1];
        s[4] += one;
        s[0] = one + two;
    }
    for (int word = 0; word < 8; word++) state[word] += s[word];
}

void er_sha256(const void *data, size_t size, uint8_t digest[32]) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const uint8_t *at = data;
    uint8_t last[128];
    size_t left = size;
    for (; left >= 64; left -= 64, at += 64) absorb(state, at);
    memset(last, 0, sizeof last);
    if (left) memcpy(last, at, left);
    last[left] = 0x80;
    size_t end = left < 56 ? 64 : 128;
    for (int byte = 0; byte < 8; byte++) last[end - 1 - (size_t)byte] = (uint8_t)((uint64_t)size * 8 >> 8 * byte);
    absorb(state, last);
    if (end == 128) absorb(state, last + 64);
    for (int byte = 0; byte < 32; byte++) digest[byte] = (uint8_t)(state[byte / 4] >> (24 - 8 * (byte % 4)));
}

#endif
typedef int er_hash_c; /* ISO C forbids an empty file */
