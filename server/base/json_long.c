#include "server/base/json_long.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"

#define TEXT_MIN_BYTES (8 << 10)
#define STRING_MIN_BYTES (4 << 10)
#define STAND_IN "\x7f"

/* Neither beyond ASCII nor a control character: what JSON allows as it is. */
static bool is_plain(const char *s, size_t len)
{
    const uint64_t high = 0x8080808080808080, first = 0x2020202020202020;
    uint64_t bad = 0, word;
    size_t i = 0;

    for (; len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, s + i, sizeof(word));
        bad |= word | (word - first); /* a byte below the first borrows from its high bit */
    }
    for (; i < len; i++)
        bad |= (unsigned char)s[i] < ' ' ? high : (unsigned char)s[i];
    return (bad & high) == 0;
}

/* The first long string: *FROM its first byte in TEXT. Quotes alternate, for no '\' is in TEXT. */
static size_t find_long(const char *text, size_t len, size_t *from)
{
    const char *at = text, *end = text + len, *open, *close;

    while ((open = memchr(at, '"', (size_t)(end - at))) != NULL &&
           (close = memchr(open + 1, '"', (size_t)(end - open - 1))) != NULL) {
        at = close + 1;
        if ((size_t)(close - open) <= STRING_MIN_BYTES)
            continue;
        while (at < end && strchr(" \t\r\n", *at) != NULL && *at != '\0')
            at++;
        if (at < end && *at == ':') /* it is a key */
            continue;
        *from = (size_t)(open + 1 - text);
        return (size_t)(close - open - 1);
    }
    return 0;
}

bool json_long_cut(const char *text, size_t len, struct json_long *out)
{
    size_t from, size;

    if (len < TEXT_MIN_BYTES || memchr(text, '\\', len) != NULL)
        return false;
    size = find_long(text, len, &from);
    if (size == 0 || !is_plain(text + from, size) || memchr(text, STAND_IN[0], from) != NULL ||
        memchr(text + from + size, STAND_IN[0], len - from - size) != NULL)
        return false;
    out->string = text + from;
    out->string_len = size;
    out->rest_len = len - size + 1;
    out->rest = mem_zalloc(out->rest_len);
    memcpy(out->rest, text, from);
    out->rest[from] = STAND_IN[0];
    memcpy(out->rest + from + 1, text + from + size, len - from - size);
    return true;
}

int json_long_paste(const struct json_long *cut, json_t *json)
{
    const char *key;
    json_t *value;
    size_t i;

    if (json_is_string(json) && json_string_length(json) == 1 &&
        json_string_value(json)[0] == STAND_IN[0])
        return json_string_setn_nocheck(json, cut->string, cut->string_len);
    json_object_foreach(json, key, value) {
        if (json_long_paste(cut, value) < 0)
            return -1;
    }
    json_array_foreach(json, i, value) {
        if (json_long_paste(cut, value) < 0)
            return -1;
    }
    return 0;
}

void json_long_clear(struct json_long *cut)
{
    free(cut->rest);
    cut->rest = NULL;
}
