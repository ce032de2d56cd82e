#include "server/base/hash.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/base/str.h"

int hash_init(void)
{
    /*
     * Not sodium_init(): it chooses implementations of ciphers and curves that nothing here uses,
     * and in envd's static binary would link them all. Random bytes are what needs a start.
     */
    randombytes_stir();
    return 0;
}

void hash_sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES])
{
    crypto_hash_sha256(out, data, len);
}

void hash_sha256_hex(const void *data, size_t len, char out[SHA256_HEX_SIZE])
{
    uint8_t digest[SHA256_BYTES];

    hash_sha256(data, len, digest);
    hex_encode(digest, sizeof(digest), out);
}

void hash_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                      uint8_t out[SHA256_BYTES])
{
    crypto_auth_hmacsha256_state state;

    crypto_auth_hmacsha256_init(&state, key, key_len);
    crypto_auth_hmacsha256_update(&state, data, len);
    crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof(state));
}

void hash_hkdf_sha256(const void *key, size_t key_len, const char *info, uint8_t out[SHA256_BYTES])
{
    static const uint8_t zero_salt[SHA256_BYTES];
    uint8_t prk[SHA256_BYTES], block[256];
    size_t len = strnlen(info, sizeof(block) - 1);

    hash_hmac_sha256(zero_salt, sizeof(zero_salt), key, key_len, prk);
    memcpy(block, info, len);
    block[len] = 1;
    hash_hmac_sha256(prk, sizeof(prk), block, len + 1, out);
    sodium_memzero(prk, sizeof(prk));
}

bool hash_equal(const void *a, const void *b, size_t len)
{
    return sodium_memcmp(a, b, len) == 0;
}

bool hash_equal_str(const char *a, size_t a_len, const char *b)
{
    uint8_t digest_a[SHA256_BYTES], digest_b[SHA256_BYTES];

    hash_sha256(a, a_len, digest_a);
    hash_sha256(b, strlen(b), digest_b);
    return hash_equal(digest_a, digest_b, SHA256_BYTES);
}

void hash_random(void *out, size_t len)
{
    randombytes_buf(out, len);
}

void hash_random_id(char *out, size_t count)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";

    for (size_t i = 0; i < count; i++)
        out[i] = alphabet[randombytes_uniform(sizeof(alphabet) - 1)];
    out[count] = '\0';
}

void hash_random_uuid(char out[UUID_SIZE])
{
    uint8_t b[16];
    char hex[33];

    hash_random(b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    hex_encode(b, sizeof(b), hex);
    snprintf(out, UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
             hex + 20);
}

void secret_clear(struct secret *secret)
{
    sodium_memzero(secret, sizeof(*secret));
}

void secret_wipe(void *data, size_t len)
{
    sodium_memzero(data, len);
}
