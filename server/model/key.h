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

#define KEY_NAME_MAX_CHARS 128
#define KEY_NAME_SIZE (4 * KEY_NAME_MAX_CHARS + 1) /* UTF-8 */
#define KEY_SCOPES_SIZE 24                         /* "read,write,keys,admin" and a NUL */

enum scope {
    SCOPE_NONE = 0, /* a route that needs no key */
    SCOPE_READ = 1,
    SCOPE_WRITE = 2,
    SCOPE_KEYS = 4,  /* make, see and end the keys of its own namespace */
    SCOPE_ADMIN = 8, /* X-Admin-Token: nodes, and every namespace */
    SCOPE_ALL = 15,
};

enum key_kind {
    KEY_API,   /* "e2b_…", anywhere */
    KEY_TOKEN, /* "sk_e2b_…", as `Authorization: Bearer` alone */
};

struct key {
    char id[UUID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char client[CLIENT_SIZE];
    char name[KEY_NAME_SIZE]; /* any text; "" where it was given none */
    enum key_kind kind;
    char created_by[UUID_SIZE];   /* the key that made it, or "": an operator did */
    uint32_t scopes;              /* of enum scope */
    uint8_t sha256[SHA256_BYTES]; /* of the key's text "e2b_…" */
    char mask_head[3];            /* first 2 digits, "" for keys older than this field */
    char mask_tail[5];            /* last 4 characters of the key, to recognise it by */
    int64_t created_unix_ms;
    int64_t expires_unix_ms; /* 0: never */
    int64_t used_unix_ms;    /* 0: never; written now and then */
    bool revoked;
};

/* A new random key's text. */
void key_text_new(char out[KEY_TEXT_SIZE]);
/* Make TEXT, and fill in the id, hash, mask and creation time that go with it. */
void key_make(struct key *key, char text[KEY_TEXT_SIZE]);
/* SHA-256 of the key S names. Accepts "e2b_<hex>" and "sk_e2b_<hex>". 0, or -1 for another form. */
int key_text_hash(const char *s, size_t len, uint8_t out[SHA256_BYTES]);
/* Namespace and client: [a-z0-9-_]{1,63}. ERR_INVALID naming WHAT. */
int key_name_check(const char *name, const char *what, struct err *err);
/* The name of a key or token: 1 to KEY_NAME_MAX_CHARS characters, none of them control ones. */
int key_label_check(const char *name, struct err *err);
/* "read,write" to bits and back. */
int key_scopes_parse(const char *s, uint32_t *out, struct err *err);
void key_scopes_format(uint32_t scopes, char out[KEY_SCOPES_SIZE]);
/* Neither revoked nor expired at NOW. */
bool key_usable(const struct key *key, int64_t now_unix_ms);

#endif
