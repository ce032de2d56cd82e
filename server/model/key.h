/*
 * server/model/key.h - an API key as stored: never the key itself, only its SHA-256.
 *
 * Plain data, fixed size, copied by value.
 */
#ifndef SANDPIT_MODEL_KEY_H
#define SANDPIT_MODEL_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/model/sandbox.h"

#define KEY_PREFIX "e2b_"
#define KEY_HEX_CHARS 40
#define KEY_TEXT_SIZE (sizeof(KEY_PREFIX) + KEY_HEX_CHARS) /* "e2b_", 40 hex digits, NUL */
#define ACCESS_TOKEN_PREFIX "sk_e2b_" /* the same 40 digits; `Authorization: Bearer` */

enum scope {
    SCOPE_NONE = 0, /* a route that needs no key */
    SCOPE_READ = 1,
    SCOPE_WRITE = 2,
};

struct key {
    char id[UUID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char client[CLIENT_SIZE];
    uint32_t scopes;              /* SCOPE_READ | SCOPE_WRITE */
    uint8_t sha256[SHA256_BYTES]; /* of the key's text "e2b_…" */
    char mask_tail[5];            /* last 4 characters of the key, to recognise it by */
    int64_t created_unix_ms;
    int64_t expires_unix_ms; /* 0: never */
    bool revoked;
};

/* A new random key's text. */
void key_text_new(char out[KEY_TEXT_SIZE]);
/* SHA-256 of the key S names. Accepts "e2b_<hex>" and "sk_e2b_<hex>". 0, or -1 for another form. */
int key_text_hash(const char *s, size_t len, uint8_t out[SHA256_BYTES]);
/* Namespace and client: [a-z0-9-_]{1,63}. ERR_INVALID naming WHAT. */
int key_name_check(const char *name, const char *what, struct err *err);
/* "read,write" to bits and back. OUT of scopes_format holds 16 bytes. */
int key_scopes_parse(const char *s, uint32_t *out, struct err *err);
void key_scopes_format(uint32_t scopes, char out[16]);
/* Neither revoked nor expired at NOW. */
bool key_usable(const struct key *key, int64_t now_unix_ms);

#endif
