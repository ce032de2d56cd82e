/*
 * server/proxy/head.h - the heads of requests and responses as they are passed on.
 *
 * Pure: heads in, bytes out. Any thread. Slices borrow from the bytes that were parsed.
 * Source: routing.md sections 3 and 7; RFC 9110 section 7.6.1 (hop-by-hop), RFC 9112 section 3.2.2.
 */
#ifndef SANDPIT_PROXY_HEAD_H
#define SANDPIT_PROXY_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/http_head.h"
#include "server/model/limits.h"
#include "server/proxy/body.h"

/* Added to a head: status line, X-Forwarded-Host, Authorization, Connection. */
#define HEAD_OUT_MAX_BYTES (2 * HEAD_MAX_BYTES + 4096)

struct slice {
    const char *data;
    size_t len;
};

/* Who is addressed: the request target's own host if it has one, else the Host field. */
struct head_target {
    struct slice host; /* data NULL: none (HTTP/1.0) */
    struct slice path; /* with the query, as received; "*" for OPTIONS */
};

/* ERR_INVALID "Invalid host": an authority without a path (CONNECT), user info, another scheme. */
int head_target(const struct http_head *head, struct head_target *out, struct err *err);

/* The status for a head that http_head_scan refused with CODE: 400, 431 or 505. */
int head_refused_status(enum err_code code);

/*
 * The path is, once decoded and cleaned, one that only the platform may use: its name, static;
 * else NULL. A NUL or '#' ends the path, as it might for whoever reads it later.
 */
const char *head_internal_path(struct slice path);

struct head_change {
    const char *jwt;  /* replaces Authorization; NULL: that stays as it is */
    const char *host; /* replaces Host, which X-Forwarded-Host keeps; NULL: that stays as it is */
    bool close;       /* ask for the connection to be closed after the response */
};

/* The request head for upstream. Adds to OUT; ERR_INVALID when it does not fit there. */
int head_write_request(const struct http_head *head, const struct head_target *target,
                       const struct head_change *change, struct buf *out, struct err *err);

struct response_head {
    int status;
    bool keep_alive; /* upstream says that it keeps the connection */
    enum body_kind framing;
    uint64_t content_length;
    struct slice upgrade; /* Upgrade, with status 101 */
    size_t size;          /* bytes of the head */
};

struct response_want {
    bool head_request; /* HEAD: no body, whatever the head says */
    bool http_1_0;     /* the client's version: no chunked framing */
    bool close;        /* tell the client that the connection ends */
    size_t scanned;    /* bytes seen by an earlier, incomplete try */
};

/*
 * Parse the response head at DATA (LEN bytes) and add it, as the client shall see it, to OUT.
 * Returns 0 and *RESPONSE; 1 when it is incomplete; -1 with ERR_INVALID when malformed or too
 * large. OUT and *RESPONSE are untouched unless 0.
 */
int head_pass_response(const char *data, size_t len, const struct response_want *want,
                       struct buf *out, struct response_head *response, struct err *err);

#endif
