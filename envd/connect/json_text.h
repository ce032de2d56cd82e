/*
 * envd/connect/json_text.h - JSON text, read from front to back: no tree is built, nothing copied.
 *
 * Pure: no allocation. Any thread. As strict as RFC 8259 and UTF-8; nesting is bounded by
 * JSON_DEPTH_MAX, and skipping a value does not recurse. The first thing that is wrong stays in
 * `problem`; every later call fails.
 */
#ifndef ENVD_CONNECT_JSON_TEXT_H
#define ENVD_CONNECT_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/err.h"
#include "server/base/json.h"

struct json_text {
    const char *start;
    const char *at;
    const char *end;
    int depth;
    const char *problem; /* NULL: none */
};

/* A string as it stands between its quotes. */
struct json_slice {
    const char *s;
    size_t len;
    bool escaped; /* holds a backslash */
};

void json_text_init(struct json_text *text, const char *data, size_t len);
/* The first byte of the value that comes: one of { [ " - 0..9 t f n, or 0 when none does. */
char json_text_peek(struct json_text *text);
/* Enter the object or array that comes (OPEN is its first byte). 0 or -1. */
int json_text_enter(struct json_text *text, char open);
/* Before each member. 1: one comes (and of an object *KEY is read); 0: the end; -1. */
int json_text_key(struct json_text *text, bool *first, struct json_slice *key);
int json_text_element(struct json_text *text, bool *first);
/* A string; a number as text; one of the words true, false and null. 0 or -1. */
int json_text_string(struct json_text *text, struct json_slice *out);
int json_text_number(struct json_text *text, struct json_slice *out);
int json_text_word(struct json_text *text, const char *word);
/* Any value; *OUT (may be NULL) is its text. 0 or -1. */
int json_text_skip(struct json_text *text, struct json_slice *out);
/* Nothing but white space is left. 0 or -1. */
int json_text_end(struct json_text *text);
/* ERR_INVALID, saying what is wrong and where. Returns -1. */
int json_text_error(const struct json_text *text, struct err *err);

/*
 * The characters of a string slice to OUT, which holds SLICE->len bytes; not NUL-terminated.
 * Returns their number, or -1 for what is no Unicode text (half a surrogate pair).
 */
ptrdiff_t json_slice_decode(const struct json_slice *slice, char *out);

#endif
