/*
 * envd/http_head.h - a strict parser for the head of an HTTP/1.x request, and for query strings.
 *
 * Pure: no I/O. Any thread. Refused, because two readers could disagree on them (RFC 9112 sections
 * 2.2, 3, 5.1, 5.2, 6.1, 6.3): bare LF, obs-fold, white space before a colon, control characters,
 * Transfer-Encoding with Content-Length, another coding than "chunked", repeated Host,
 * Content-Length or Transfer-Encoding, HTTP/1.1 without Host.
 */
#ifndef ENVD_HTTP_HEAD_H
#define ENVD_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/buf.h"
#include "server/base/err.h"

#define HTTP_HEAD_MAX_BYTES (64 << 10)
#define HTTP_HEADERS_MAX 128

struct http_head {
    char *text; /* owned; everything below points into it */
    const char *method;
    const char *path;  /* without the query; begins with '/' (or is "*") */
    const char *query; /* "" when there is none */
    int minor;         /* HTTP/1.minor */
    size_t header_count;
    struct {
        const char *name; /* lower case */
        const char *value;
    } headers[HTTP_HEADERS_MAX];
    int64_t content_length; /* 0 when absent */
    bool chunked;
    bool keep_alive;
    bool expect_continue;
};

/*
 * Parse the head at the start of DATA. Returns its length and fills *HEAD (to be cleared), 0 when
 * more bytes are needed, or -1 with *ERR: ERR_INVALID; ERR_LIMIT (too large); ERR_UNSUPPORTED
 * (version or transfer coding).
 */
ssize_t http_head_parse(const char *data, size_t len, struct http_head *head, struct err *err);
void http_head_clear(struct http_head *head);

/* First header of that lower-case name, or NULL. */
const char *http_head_get(const struct http_head *head, const char *name);

/* See http_query_param. */
int http_query_get(const char *query, const char *name, struct buf *out, struct err *err);

#endif
