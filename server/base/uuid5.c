#include "server/base/uuid5.h"

#include <stdio.h>
#include <string.h>

#include "server/base/str.h"

#define BLOCK_BYTES 64
#define DIGEST_WORDS 5

/* SHA-1 (FIPS 180-4 section 6.1) over two pieces: libsodium has none. */
struct sha1 {
    uint32_t state[DIGEST_WORDS];
    uint8_t block[BLOCK_BYTES];
    uint64_t len;
};

static uint32_t rotate(uint32_t value, unsigned bits)
{
    return value << bits | value >> (32 - bits);
}

static uint32_t mix(unsigned round, uint32_t b, uint32_t c, uint32_t d)
{
    if (round < 20)
        return ((b & c) | (~b & d)) + UINT32_C(0x5a827999);
    if (round < 40)
        return (b ^ c ^ d) + UINT32_C(0x6ed9eba1);
    if (round < 60)
        return ((b & c) | (b & d) | (c & d)) + UINT32_C(0x8f1bbcdc);
    return (b ^ c ^ d) + UINT32_C(0xca62c1d6);
}

static void spread(const uint8_t block[BLOCK_BYTES], uint32_t words[80])
{
    for (size_t i = 0; i < 16; i++)
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                   (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (size_t i = 16; i < 80; i++)
        words[i] = rotate(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
}

static void digest_block(struct sha1 *sha1)
{
    uint32_t words[80], s[DIGEST_WORDS];

    spread(sha1->block, words);
    memcpy(s, sha1->state, sizeof(s));
    for (unsigned i = 0; i < 80; i++) {
        uint32_t next = rotate(s[0], 5) + mix(i, s[1], s[2], s[3]) + s[4] + words[i];

        s[4] = s[3];
        s[3] = s[2];
        s[2] = rotate(s[1], 30);
        s[1] = s[0];
        s[0] = next;
    }
    for (size_t i = 0; i < DIGEST_WORDS; i++)
        sha1->state[i] += s[i];
}

static void add(struct sha1 *sha1, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        sha1->block[sha1->len++ % BLOCK_BYTES] = bytes[i];
        if (sha1->len % BLOCK_BYTES == 0)
            digest_block(sha1);
    }
}

static void finish(struct sha1 *sha1)
{
    uint64_t bits = sha1->len * 8;
    uint8_t tail[8], zero = 0, one = 0x80;

    for (unsigned i = 0; i < 8; i++)
        tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    add(sha1, &one, 1);
    while (sha1->len % BLOCK_BYTES != BLOCK_BYTES - sizeof(tail))
        add(sha1, &zero, 1);
    add(sha1, tail, sizeof(tail));
}

void uuid5(const uint8_t space[UUID_BYTES], const void *name, size_t len, char out[UUID_SIZE])
{
    struct sha1 sha1 = {.state = {UINT32_C(0x67452301), UINT32_C(0xefcdab89), UINT32_C(0x98badcfe),
                                  UINT32_C(0x10325476), UINT32_C(0xc3d2e1f0)}};
    uint32_t *s = sha1.state;

    add(&sha1, space, UUID_BYTES);
    add(&sha1, name, len);
    finish(&sha1);
    s[1] = (s[1] & 0xffff0fffu) | 0x5000u;     /* version 5 */
    s[2] = (s[2] & 0x3fffffffu) | 0x80000000u; /* the variant of RFC 9562 */
    snprintf(out, UUID_SIZE, "%08x-%04x-%04x-%04x-%04x%08x", s[0], s[1] >> 16, s[1] & 0xffffu,
             s[2] >> 16, s[2] & 0xffffu, s[3]);
}

bool uuid_is(const char *s)
{
    for (size_t i = 0; i < UUID_SIZE - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? s[i] != '-' : hex_digit(s[i]) < 0) /* a NUL fails both */
            return false;
    }
    return s[UUID_SIZE - 1] == '\0';
}
