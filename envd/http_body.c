#include "envd/http_body.h"

#include <string.h>

#include "server/base/str.h"

#define SIZE_DIGITS_MAX 15 /* of a chunk: below 2^60 */

void http_body_init(struct http_body *body, bool chunked, int64_t length)
{
    memset(body, 0, sizeof(*body));
    body->left = (uint64_t)length;
    body->state = chunked ? BODY_SIZE : length > 0 ? BODY_LENGTH : BODY_DONE;
}

bool http_body_done(const struct http_body *body)
{
    return body->state == BODY_DONE;
}

/* After a chunk's digits: its extension, or the end of the line. */
static int size_ends(struct http_body *body, char c)
{
    if (body->digits == 0 || (c != ';' && c != '\r'))
        return -1;
    body->state = c == '\r' ? BODY_SIZE_LF : BODY_EXT;
    return 0;
}

static int size_digit(struct http_body *body, char c)
{
    int value = hex_digit(c);

    if (value < 0)
        return size_ends(body, c);
    if (++body->digits > SIZE_DIGITS_MAX)
        return -1;
    body->left = body->left * 16 + (unsigned)value;
    return 0;
}

/* The line of a chunk's size is over: data, or the last chunk's trailers. */
static void size_done(struct http_body *body)
{
    body->state = body->left > 0 ? BODY_CHUNK : BODY_TRAILER_START;
    body->digits = 0;
    body->line = 0;
}

static int expect(struct http_body *body, char c, char want, enum http_body_state next)
{
    body->state = next;
    return c == want ? 0 : -1;
}

/* One byte of framing. Returns 0, or -1 when it is wrong. */
static int framing_byte(struct http_body *body, char c)
{
    if (++body->line > HTTP_BODY_LINE_MAX)
        return -1;
    switch (body->state) {
    case BODY_SIZE:
        return size_digit(body, c);
    case BODY_EXT:
        if (c == '\r')
            body->state = BODY_SIZE_LF;
        return c == '\n' || c == '\0' ? -1 : 0;
    case BODY_SIZE_LF:
        size_done(body);
        return c == '\n' ? 0 : -1;
    case BODY_CHUNK_CR:
        return expect(body, c, '\r', BODY_CHUNK_LF);
    case BODY_CHUNK_LF:
        body->line = 0;
        return expect(body, c, '\n', BODY_SIZE);
    case BODY_TRAILER_START:
        body->state = c == '\r' ? BODY_LAST_LF : BODY_TRAILER;
        return c == '\n' ? -1 : 0;
    case BODY_TRAILER:
        if (c == '\r')
            body->state = BODY_TRAILER_LF;
        return c == '\n' ? -1 : 0;
    case BODY_TRAILER_LF:
        return expect(body, c, '\n', BODY_TRAILER_START);
    case BODY_LAST_LF:
        return expect(body, c, '\n', BODY_DONE);
    default:
        return -1;
    }
}

/* A slice of a counted run of data. */
static enum http_body_step take(struct http_body *body, size_t at, size_t in_len, size_t *used,
                                size_t *data_len)
{
    size_t len = in_len - at;

    if (len > body->left)
        len = (size_t)body->left;
    body->left -= len;
    if (body->left == 0)
        body->state = body->state == BODY_LENGTH ? BODY_DONE : BODY_CHUNK_CR;
    *data_len = len;
    *used = at + len;
    return HTTP_BODY_DATA;
}

enum http_body_step http_body_next(struct http_body *body, const char *in, size_t in_len,
                                   size_t *used, const char **data, size_t *data_len)
{
    size_t at = 0;

    while (body->state != BODY_DONE && at < in_len) {
        if (body->state == BODY_LENGTH || body->state == BODY_CHUNK) {
            *data = in + at;
            return take(body, at, in_len, used, data_len);
        }
        if (framing_byte(body, in[at++]) < 0) {
            *used = at;
            return HTTP_BODY_BAD;
        }
    }
    *used = at;
    return body->state == BODY_DONE ? HTTP_BODY_END : HTTP_BODY_MORE;
}
