/*
 * server/base/json.h - jansson with limits, typed getters and strict parsing.
 *
 * This header is how the rest of the code sees jansson. A json_t belongs to one thread at a time.
 * Getters borrow from OBJECT. "absent" means no such key or JSON null.
 */
#ifndef SANDPIT_BASE_JSON_H
#define SANDPIT_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

static inline void cleanup_json(json_t **json)
{
    json_decref(*json);
}
#define _cleanup_json_ __attribute__((cleanup(cleanup_json)))

/*
 * Parse LEN bytes: one JSON value, well-formed UTF-8, no duplicate keys, no NUL in strings, depth
 * at most JSON_DEPTH_MAX. Returns a new reference, or NULL with ERR_INVALID (message names line and
 * column).
 */
#define JSON_DEPTH_MAX 64
json_t *json_parse(const char *data, size_t len, struct err *err);

/* The same, and the value must be an object. Empty input (LEN 0) is an empty object. */
json_t *json_parse_object(const char *data, size_t len, struct err *err);

/* Compact text of JSON, a string to free(); NULL input gives "null". */
char *json_text(const json_t *json);

/* One text for equal values: keys in order, each string and number in one form. To free(). */
char *json_canonical(const json_t *json);

/*
 * Typed getters: 0 and *OUT set when KEY is there with that type (and in range); 0 and *OUT
 * untouched when absent; -1 with ERR_INVALID naming KEY otherwise. A default is what *OUT held. An
 * integer may be written as 5.0 or 5e0, which JSON Schema takes for the same.
 */
int json_get_str(const json_t *object, const char *key, const char **out, struct err *err);
int json_get_i64(const json_t *object, const char *key, int64_t min, int64_t max, int64_t *out,
                 struct err *err);
int json_get_bool(const json_t *object, const char *key, bool *out, struct err *err);
/* An object or array; borrowed. */
int json_get_object(const json_t *object, const char *key, json_t **out, struct err *err);
int json_get_array(const json_t *object, const char *key, json_t **out, struct err *err);
/* An object whose values are all strings; borrowed. */
int json_get_str_map(const json_t *object, const char *key, json_t **out, struct err *err);

/* KEY is there (null counts as absent). */
bool json_has(const json_t *object, const char *key);

/*
 * Set KEY to a string, integer or boolean; abort on exhaustion. VALUE NULL sets JSON null. In a
 * VALUE that is not UTF-8 every byte over 0x7f becomes '?'.
 */
void json_put_str(json_t *object, const char *key, const char *value);
void json_put_i64(json_t *object, const char *key, int64_t value);
void json_put_bool(json_t *object, const char *key, bool value);
/* Set KEY, taking the reference. */
void json_put(json_t *object, const char *key, json_t *value);

#endif
