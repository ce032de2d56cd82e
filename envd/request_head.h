/*
 * envd/request_head.h - the head of an HTTP/1.x request as envd's handlers read it, and queries.
 *
 * Pure: no I/O. Any thread. What is refused, and why, is server/base/http_head.h's affair; this
 * splits the target and makes NUL-terminated strings.
 */
#ifndef ENVD_REQUEST_HEAD_H
#define ENVD_REQUEST_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/http_head.h"

#define REQUEST_HEAD_MAX_BYTES (64 << 10)

struct request_header {
    const char *name; /* lower case */
    const char *value;
};

struct request_head {
    void *memory; /* owned; everything below points into it */
    const char *method;
    const char *path;  /* without the query; begins with '/' (or is "*") */
    const char *query; /* "" when there is none */
    int minor;         /* HTTP/1.minor */
    size_t header_count;
    const struct request_header *headers;
    int64_t content_length; /* 0 when absent */
    bool chunked;
    bool keep_alive;
    bool expect_continue;
};

/*
 * Parse the head at the start of DATA. Returns its length and fills *HEAD (to be cleared), 0 when
 * more bytes are needed, or -1 with *ERR: ERR_INVALID, or ERR_LIMIT when it is too large.
 */
ssize_t request_head_parse(const char *data, size_t len, struct request_head *head,
                           struct err *err);
void request_head_clear(struct request_head *head);
/* Free the text: no method, path, query or headers any more; the rest stays. */
void request_head_forget(struct request_head *head);

/* First header of that lower-case name, or NULL. */
const char *request_head_get(const struct request_head *head, const char *name);

/* See http_query_param; this one leaves NUL in. */
int http_query_bytes(const char *query, const char *name, struct buf *out, struct err *err);
/* See http_query_param. */
int http_query_get(const char *query, const char *name, struct buf *out, struct err *err);

#endif
