/*
 * server/model/secret.h - a stored secret without its value, and the rules for its parts.
 *
 * Plain data; the value is never here. Any thread.
 * Source: platform-api.md section 8; TypeID 0.3 (prefix, "_", 26 characters of base32).
 */
#ifndef SANDPIT_MODEL_SECRET_H
#define SANDPIT_MODEL_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/json.h"
#include "server/model/sandbox.h"

#define SECRET_ID_PREFIX "sec_"
#define SECRET_ID_SIZE 31    /* "sec_", 26 characters, NUL */
#define SECRET_NAME_SIZE 129 /* [a-z0-9_-]{1,128} and a NUL */
#define SECRET_VALUE_MAX_BYTES 65536
#define SECRET_METADATA_ENTRIES_MAX 32
#define SECRET_METADATA_KEY_MAX 128    /* bytes */
#define SECRET_METADATA_VALUE_MAX 1024 /* bytes */
#define SECRET_METADATA_BYTES_MAX 8192 /* keys and values together */
#define SECRET_COUNT_MAX 1000          /* in one namespace */

struct secret_info {
    char id[SECRET_ID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char name[SECRET_NAME_SIZE];
    int64_t version; /* 1 when made; each new value adds one */
    int64_t created_unix_ms;
    int64_t updated_unix_ms;
    char *metadata; /* JSON object of strings, owned; NULL: empty */
};

/* Free what INFO owns; it is empty afterwards. */
void secret_info_clear(struct secret_info *info);
/* A new id: time-ordered (UUID version 7), so that ids sort as they were made. */
void secret_id_new(int64_t now_unix_ms, char out[SECRET_ID_SIZE]);
/* TEXT has the form of an id. */
bool secret_id_valid(const char *text);
/*
 * TEXT (LEN bytes) as a name: blanks around it cut, lower case. ERR_INVALID for other characters,
 * a wrong length, or the prefix of ids. *OUT is untouched then.
 */
int secret_name_parse(const char *text, size_t len, char out[SECRET_NAME_SIZE], struct err *err);
/* METADATA (an object of strings) is within the limits. ERR_INVALID. */
int secret_metadata_check(const json_t *metadata, struct err *err);

#endif
