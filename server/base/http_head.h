/*
 * server/base/http_head.h - a strict scanner for the head of an HTTP/1.x request.
 *
 * Pure: no I/O, no allocation, no globals. Any thread. What a lenient parser would let pass and two
 * parsers could read differently is refused: RFC 9112 sections 2.2 (bare CR), 3.2 (Host), 5.1
 * (blank before the colon), 5.2 (obs-fold), 6.1 (Transfer-Encoding), 6.3 (Content-Length).
 */
#ifndef SANDPIT_BASE_HTTP_HEAD_H
#define SANDPIT_BASE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

#define HTTP_HEADERS_MAX 100 /* fields in a head; h2o's own limit too */

/* Slices of the scanned bytes, not NUL-terminated. VALUE has no blanks around it, may be empty. */
struct http_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};

enum http_framing {
    HTTP_BODY_NONE,    /* neither field: a request without a body */
    HTTP_BODY_LENGTH,  /* content_length bytes, maybe 0 */
    HTTP_BODY_CHUNKED, /* Transfer-Encoding: chunked */
};

struct http_head {
    const char *method; /* a token, any case */
    size_t method_len;
    const char *target; /* at least one byte, no blank or control character; not parsed further */
    size_t target_len;
    int minor_version; /* 0 or 1 */
    enum http_framing framing;
    uint64_t content_length;          /* with HTTP_BODY_LENGTH; at most INT64_MAX */
    const struct http_header *host;   /* in `headers`; NULL with HTTP/1.0 without Host */
    const struct http_header *expect; /* the last of them, or NULL */
    bool keep_alive;                  /* by version and Connection */
    bool upgrade;                     /* Connection names "upgrade" and there is an Upgrade field */
    size_t size;                      /* bytes of the head, with the empty line that ends it */
    size_t header_count;
    struct http_header headers[HTTP_HEADERS_MAX];
};

/*
 * Scan DATA (LEN bytes, untrusted). One empty line before the request is skipped and counted in
 * `size`. Returns
 *    0  the head is complete and *OUT is filled (OUT points into itself: do not copy it)
 *    1  more bytes are needed; nothing is wrong so far. *OUT is undefined. The caller limits LEN
 *   -1  *ERR has a message that may reach the client: ERR_LIMIT (too many fields, status 431),
 *       ERR_UNSUPPORTED (another HTTP version, 505) or ERR_INVALID (400). *OUT is undefined
 */
int http_head_scan(const char *data, size_t len, struct http_head *out, struct err *err);

/* The first field called NAME (lower case; compared without case), or NULL. */
const struct http_header *http_head_find(const struct http_head *head, const char *name);

/* C may stand in a token, such as a field name (RFC 9110 section 5.6.2). */
bool http_is_token_char(char c);

/* The comma-separated list VALUE holds WORD (lower case), ignoring case and blanks. */
bool http_list_has(const char *value, size_t value_len, const char *word);

#endif
