#include "envd/content.h"

#include <stdio.h>
#include <string.h>

#include "server/base/date.h"
#include "server/base/mem.h"
#include "server/base/str.h"

/* RFC 2045 token characters. */
static bool is_token(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s <= ' ' || *s >= 0x7f || strchr("()<>@,;:\\\"/[]?=", *s) != NULL)
            return false;
    return true;
}

static bool is_plain(const char *s)
{
    for (; *s != '\0'; s++)
        if ((*s < ' ' && *s != '\t') || *s >= 0x7f)
            return false;
    return true;
}

void content_disposition(const char *name, struct buf *out)
{
    buf_add_str(out, "inline; filename");
    if (is_token(name) && name[0] != '\0') {
        buf_printf(out, "=%s", name);
        return;
    }
    if (!is_plain(name)) {
        buf_add_str(out, "*=utf-8''");
        url_encode(name, strlen(name), out);
        return;
    }
    buf_add_str(out, "=\"");
    for (; *name != '\0'; name++) {
        if (*name == '"' || *name == '\\')
            buf_add_char(out, '\\');
        buf_add_char(out, *name);
    }
    buf_add_char(out, '"');
}

void content_date(time_t when, char out[CONTENT_DATE_SIZE])
{
    _Static_assert(CONTENT_DATE_SIZE >= DATE_HTTP_SIZE, "a date fits");
    date_http(when, out);
}

bool content_date_parse(const char *text, time_t *out)
{
    int64_t unix_s;

    if (date_parse_http(text, &unix_s) < 0)
        return false;
    *out = (time_t)unix_s;
    return true;
}

/* One "first-last", "first-" or "-suffix". 1: *OUT, 0: past the end, -1: malformed. */
static int parse_range(const char *text, size_t len, int64_t size, struct content_range *out)
{
    const char *dash = memchr(text, '-', len);
    size_t first_len, last_len;
    uint64_t first = 0, last = INT64_MAX;
    struct err err;

    if (dash == NULL)
        return -1;
    first_len = (size_t)(dash - text);
    last_len = len - first_len - 1;
    if ((first_len == 0 && last_len == 0) ||
        (first_len > 0 && str_to_u64(text, first_len, 0, INT64_MAX, "range", &first, &err) < 0) ||
        (last_len > 0 && str_to_u64(dash + 1, last_len, 0, INT64_MAX, "range", &last, &err) < 0))
        return -1;
    if (first_len == 0) { /* the last bytes of the file */
        out->length = (int64_t)last < size ? (int64_t)last : size;
        out->start = size - out->length;
        return out->length > 0 ? 1 : 0;
    }
    if (first > last)
        return -1;
    if ((int64_t)first >= size)
        return 0;
    out->start = (int64_t)first;
    out->length = ((int64_t)last < size ? (int64_t)last + 1 : size) - out->start;
    return 1;
}

enum content_ranges content_ranges_parse(const char *header, int64_t size,
                                         struct content_range out[CONTENT_RANGES_MAX],
                                         size_t *count)
{
    static const char unit[] = "bytes=";
    size_t found = 0;
    int64_t total = 0;
    bool past_end = false;

    if (header == NULL)
        return CONTENT_WHOLE;
    if (strncasecmp(header, unit, strlen(unit)) != 0)
        return CONTENT_MALFORMED;
    for (const char *at = header + strlen(unit); *at != '\0';) {
        size_t len = strcspn(at, ",");
        const char *next = at + len + (at[len] == ',' ? 1 : 0);
        struct content_range range;
        for (; len > 0 && (*at == ' ' || *at == '\t'); len--)
            at++;
        while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
            len--;
        int rc = len > 0 ? parse_range(at, len, size, &range) : 0;
        if (rc < 0)
            return CONTENT_MALFORMED;
        past_end = past_end || (len > 0 && rc == 0);
        if (rc > 0 && found == CONTENT_RANGES_MAX)
            return CONTENT_WHOLE;
        if (rc > 0) {
            if (__builtin_add_overflow(total, range.length, &total))
                return CONTENT_WHOLE;
            out[found++] = range;
        }
        at = next;
    }
    if (found == 0)
        return past_end && size > 0 ? CONTENT_UNSATISFIABLE : CONTENT_WHOLE;
    if (total > size)
        return CONTENT_WHOLE;
    *count = found;
    return CONTENT_PARTS;
}

/* The weight of a coding "name;q=0.5", in thousandths; 1000 without one, -1 when malformed. */
static int weight_of(const char *text, size_t len)
{
    const char *semicolon = memchr(text, ';', len);
    const char *end = text + len, *at;
    int value = 0, scale = 1000;

    if (semicolon == NULL)
        return 1000;
    for (at = semicolon + 1; at < end && (*at == ' ' || *at == '\t'); at++)
        ;
    if (end - at < 3 || (*at != 'q' && *at != 'Q') || at[1] != '=' ||
        (at[2] != '0' && at[2] != '1'))
        return -1;
    value = (at[2] - '0') * 1000;
    for (at += 3; at < end && *at != ' ' && *at != '\t'; at++) {
        if (*at == '.' && scale == 1000) {
            scale = 100;
            continue;
        }
        if (*at < '0' || *at > '9' || scale == 1000)
            return -1;
        value += (*at - '0') * scale;
        scale /= 10;
    }
    return value > 1000 ? 1000 : value;
}

enum content_encoding content_encoding_of(const char *accept)
{
    int identity = -1, gzip = -1, any = -1; /* weights; -1 while not named */

    for (const char *at = accept != NULL ? accept : ""; *at != '\0';) {
        size_t len = strcspn(at, ",");
        const char *next = at + len + (at[len] == ',' ? 1 : 0);
        size_t skip = strspn(at, " \t");
        size_t name_len;
        if (skip < len) {
            at += skip;
            len -= skip;
            name_len = strcspn(at, " \t;,");
            if (mem_is_nocase(at, name_len, "identity"))
                identity = weight_of(at, len);
            else if (mem_is_nocase(at, name_len, "gzip") || mem_is_nocase(at, name_len, "x-gzip"))
                gzip = weight_of(at, len);
            else if (mem_is(at, name_len, "*"))
                any = weight_of(at, len);
        }
        at = next;
    }
    if (identity > 0 || (identity < 0 && any != 0))
        return CONTENT_IDENTITY;
    return gzip > 0 || (gzip < 0 && any > 0) ? CONTENT_GZIP : CONTENT_NONE;
}
