/*
 * server/base/hash.h - SHA-256, HMAC, HKDF, random bytes, constant-time comparison (libsodium).
 *
 * Any thread, after hash_init once in main.
 */
#ifndef SANDPIT_BASE_HASH_H
#define SANDPIT_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX_SIZE 65 /* with the NUL */
#define SECRET_MAX_BYTES 64

/* Once, before any thread. Returns 0 or -1. */
int hash_init(void);
void hash_sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES]);
void hash_sha256_hex(const void *data, size_t len, char out[SHA256_HEX_SIZE]);
void hash_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                      uint8_t out[SHA256_BYTES]);
/* RFC 5869 HKDF-SHA256 with an empty salt; one block, OUT is 32 bytes. INFO is a string. */
void hash_hkdf_sha256(const void *key, size_t key_len, const char *info, uint8_t out[SHA256_BYTES]);
/* Equal, in a time that depends on LEN alone. */
bool hash_equal(const void *a, const void *b, size_t len);
/* The same for strings; the time depends on the length of B (the secret) at most. */
bool hash_equal_str(const char *a, size_t a_len, const char *b);
void hash_random(void *out, size_t len);
/* COUNT characters of [a-z0-9] and a NUL, uniformly distributed. */
void hash_random_id(char *out, size_t count);
/* A random UUID, version 4 (RFC 9562), 36 characters and a NUL. */
#define UUID_SIZE 37
void hash_random_uuid(char out[UUID_SIZE]);

/* Bytes that must not be printed; cleared on secret_clear. */
struct secret {
    uint8_t bytes[SECRET_MAX_BYTES];
    size_t len;
};
void secret_clear(struct secret *secret);
/* Overwrite LEN bytes in a way the compiler keeps. */
void secret_wipe(void *data, size_t len);
#define _cleanup_secret_ __attribute__((cleanup(secret_clear)))

#endif
