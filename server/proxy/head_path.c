#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/proxy/head.h"

static const char *const internal_paths[] = {"/init",     "/freeze", "/unfreeze", "/collapse",
                                             "/fsfreeze", "/fsthaw", "/upgrade"};

static int hex_value(char c)
{
    uint8_t value;
    char pair[2] = {'0', c};

    return hex_decode(pair, 2, &value, 1) < 0 ? -1 : value;
}

/* The byte at *AT, decoded if it is a valid escape; *AT moves past it. */
static char decode_one(struct slice path, size_t *at)
{
    char c = path.data[(*at)++];
    int high, low;

    if (c != '%' || *at + 1 >= path.len || (high = hex_value(path.data[*at])) < 0 ||
        (low = hex_value(path.data[*at + 1])) < 0)
        return c;
    *at += 2;
    return (char)(high << 4 | low);
}

/* Drop "", "." and ".." at the end of OUT[0..LEN), which starts with the '/' of that segment. */
static size_t close_segment(const char *out, size_t start, size_t len)
{
    size_t n = len - start - 1; /* without the '/' */

    if (n == 0 || (n == 1 && out[start + 1] == '.'))
        return start;
    if (n == 2 && out[start + 1] == '.' && out[start + 2] == '.') {
        const char *parent = start > 0 ? memrchr(out, '/', start) : NULL;
        return parent != NULL ? (size_t)(parent - out) : 0;
    }
    return len;
}

/* Decode and clean PATH into OUT (room for PATH.len). Returns the length. */
static size_t clean(struct slice path, char *out)
{
    size_t len = 0, start = 0;

    for (size_t at = 0; at < path.len;) {
        char c = decode_one(path, &at);

        if (c == '\0')
            break;
        if (c == '/' && len > 0) {
            len = close_segment(out, start, len);
            start = len;
        }
        out[len++] = c;
    }
    return len > 0 ? close_segment(out, start, len) : 0;
}

static const char *lookup(const char *path, size_t len)
{
    for (size_t i = 0; i < array_size(internal_paths); i++)
        if (mem_is(path, len, internal_paths[i]))
            return internal_paths[i];
    return NULL;
}

const char *head_internal_path(struct slice path)
{
    _cleanup_free_ char *cleaned = NULL;
    size_t len = 0;
    bool plain = true;

    while (len < path.len && path.data[len] != '?' && path.data[len] != '#') {
        char c = path.data[len++];
        if (c == '%' || (c == '/' && (len == path.len || strchr("/.?#", path.data[len]) != NULL)))
            plain = false;
    }
    path.len = len;
    if (plain || len == 0)
        return lookup(path.data, len);
    cleaned = mem_calloc(len + 1, 1); /* bounded by HEAD_MAX_BYTES */
    return lookup(cleaned, clean(path, cleaned));
}
