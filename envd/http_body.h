/*
 * envd/http_body.h - where a request body ends: by length, or chunked (RFC 9112 section 7.1).
 *
 * Pure and incremental: it looks at what has arrived and hands out slices of it. Any thread.
 */
#ifndef ENVD_HTTP_BODY_H
#define ENVD_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_BODY_LINE_MAX 4096 /* bytes of a chunk's size line, and of all trailers */

enum http_body_step {
    HTTP_BODY_BAD = -1, /* not well-formed */
    HTTP_BODY_MORE,     /* everything given is used, more is needed */
    HTTP_BODY_DATA,     /* a slice of the body */
    HTTP_BODY_END,
};

enum http_body_state {
    BODY_LENGTH, /* so many bytes, `left` */
    BODY_SIZE,   /* chunk size */
    BODY_EXT,    /* after the size, to CR */
    BODY_SIZE_LF,
    BODY_CHUNK, /* `left` bytes of a chunk */
    BODY_CHUNK_CR,
    BODY_CHUNK_LF,
    BODY_TRAILER_START, /* of a line */
    BODY_TRAILER,
    BODY_TRAILER_LF,
    BODY_LAST_LF,
    BODY_DONE,
};

struct http_body {
    enum http_body_state state;
    uint64_t left;
    unsigned digits;
    size_t line; /* bytes since the line, or the trailers, began */
};

void http_body_init(struct http_body *body, bool chunked, int64_t length);

/*
 * Look at IN. *USED is how much of it is done with, slice included. With HTTP_BODY_DATA, *DATA and
 * *DATA_LEN are a slice of IN. Call again until MORE, END or BAD.
 */
enum http_body_step http_body_next(struct http_body *body, const char *in, size_t in_len,
                                   size_t *used, const char **data, size_t *data_len);
bool http_body_done(const struct http_body *body);

#endif
