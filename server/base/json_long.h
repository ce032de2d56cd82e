/*
 * server/base/json_long.h - one long string of a JSON text, parsed without looking at each byte.
 *
 * jansson takes some 20 ns a byte, and input of processes comes as base64 in messages of megabytes.
 * So the first long string that needs no decoding is cut out and a short stand-in parsed; then it
 * is put in its place. For json.c only. Pure; any thread.
 */
#ifndef SANDPIT_BASE_JSON_LONG_H
#define SANDPIT_BASE_JSON_LONG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct json_long {
    const char *string; /* borrowed from the text */
    size_t string_len;
    char *rest; /* the text with the stand-in; not NUL-terminated */
    size_t rest_len;
};

/* False: TEXT has no such string, *OUT is untouched. Else json_long_clear it. */
bool json_long_cut(const char *text, size_t len, struct json_long *out);
/* Put the string where the stand-in is in JSON, what REST holds. -1: no memory. */
int json_long_paste(const struct json_long *cut, json_t *json);
void json_long_clear(struct json_long *cut);

#endif
