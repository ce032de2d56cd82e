/*
 * server/http/http.h - the Platform API's HTTP on h2o: one static route table, requests, replies.
 *
 * Loop thread only, except reply_* which also may be called on the loop after the handler has
 * returned (request_defer). A handler parses, calls, encodes; it never blocks. HTTP/1.1 only.
 * Refused before any handler runs, with the connection closed: Content-Length with
 * Transfer-Encoding, repeated Host or Content-Length, obs-fold (RFC 9112 sections 5.2, 6.1, 6.3).
 */
#ifndef SANDPIT_HTTP_HTTP_H
#define SANDPIT_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/json.h"
#include "server/loop/loop.h"
#include "server/loop/work.h"

struct http_head;
struct upload;
struct request;
struct reply;
struct http_server;
struct st_h2o_socket_t;

#define REQUEST_ID_SIZE 40

/*
 * Answer now with reply_* and return 0, or keep request_defer()'s reply and return 0, or return -1
 * with *ERR set: the router then sends it.
 */
typedef int (*route_fn)(struct request *req, struct err *err);

/* PATH is like "/sandboxes/{sandboxID}/pause"; a parameter is one whole segment. */
struct route {
    const char *method;
    const char *path;
    uint32_t scope;   /* 0: no key needed; else passed to authorize */
    route_fn handler; /* NULL: exists in the contract, not built: 501 naming "METHOD PATH" */
};

struct http_config {
    const char *name; /* "api", "ops": for the log and metrics */
    const struct route *routes;
    size_t route_count;
    /* NULL: every scope passes. ERR_UNAUTHENTICATED or ERR_FORBIDDEN. May request_set_user(). */
    int (*authorize)(void *ctx, struct request *req, uint32_t scope, struct err *err);
    /*
     * The status and body of an error, through reply_json. NULL: text/plain. Also called for
     * requests that no handler saw. Where no err code fits (405, 408, 413, 417, 421, 431) the
     * status is ours: it replaces that given to reply_* and a "code" in the JSON.
     */
    void (*write_error)(struct reply *reply, const struct err *err);
    /*
     * Whether a request on a connection of http_server_accept_shared is for this server: else 421,
     * and the connection ends. NULL: all are.
     */
    bool (*serves)(void *ctx, const struct http_head *head);
    /*
     * Browsers of any origin may call, without credentials of theirs (cookies), and read every
     * header of the answer; a preflight is answered before any route (Fetch standard, CORS).
     */
    bool cors;
    void *ctx; /* request_ctx() */
    struct work_pool *workers;
    size_t body_max_bytes;
    /*
     * The one row, by its path, whose PUT takes bodies up to upload_max_bytes, piece by piece
     * (request_upload). NULL: none.
     */
    const char *upload_path;
    uint64_t upload_max_bytes;
    uint64_t idle_timeout_ms;    /* keep-alive; also for the client to take an answer */
    uint64_t request_timeout_ms; /* head and body of a request, from its first byte */
};

/* One per loop. CONFIG is borrowed for the server's life. */
struct http_server *http_server_new(const struct http_config *config, struct loop *loop);
/*
 * Take over a connected socket of this loop (TLS done, if any), with its `data` and `on_close`.
 * What it has read is kept.
 */
void http_server_accept(struct http_server *server, struct st_h2o_socket_t *sock);
/* As above, on a port that others answer on, too: a later request may be for one of those. */
void http_server_accept_shared(struct http_server *server, struct st_h2o_socket_t *sock);
/* No further requests: idle connections close; those that have begun finish and then close. */
void http_server_drain(struct http_server *server);
/* Requests that have begun to arrive, are not answered yet, or whose reply is still held. */
size_t http_server_active(const struct http_server *server);
/* Close every connection. After loop_run has returned, with no request active. */
void http_server_free(struct http_server *server);

/* Borrowed until the handler returns. NULL when absent. */
const char *request_param(const struct request *req, const char *name); /* percent-decoded */
const char *request_query(const struct request *req, const char *name); /* decoded, first value */
/* The next value of NAME after *AT, which begins as 0; NULL when there is none. */
const char *request_query_next(const struct request *req, const char *name, size_t *at);
/* The query value as it came, not decoded; *LEN its length. */
const char *request_query_raw(const struct request *req, const char *name, size_t *len);
const char *request_header(const struct request *req, const char *name); /* lower-case name */
const char *request_body(const struct request *req, size_t *len);
/* The body as a JSON object (empty body: empty object). NULL with ERR_INVALID. New reference. */
json_t *request_json(const struct request *req, struct err *err);
const char *request_method(const struct request *req);
const char *request_path(const struct request *req); /* without the query */
const char *request_id(const struct request *req);
void *request_ctx(const struct request *req);
struct work_pool *request_workers(const struct request *req);
/* Whoever authorize found; copied, at most REQUEST_USER_MAX bytes. */
#define REQUEST_USER_MAX 512
void request_set_user(struct request *req, const void *user, size_t size);
const void *request_user(const struct request *req);

/*
 * The body of a PUT on upload_path, which has not come yet. NULL: it came whole (it followed
 * another request in one packet) and request_body has it.
 */
struct upload *request_upload(const struct request *req);
/* A piece, on a worker; one at a time. */
typedef int (*upload_write_fn)(void *ctx, const void *data, size_t len, struct err *err);
/* On the loop, exactly once: ERR NULL, all pieces are written; else WRITE's, or that the client has
 * gone, was too slow or sent what is no body. The handler then answers. */
typedef void (*upload_done_fn)(void *ctx, const struct err *err);
/* Begin to read. On the loop, after request_defer and before its reply is answered. */
void upload_receive(struct upload *upload, upload_write_fn write, upload_done_fn done, void *ctx);

/* The reply, to be sent later on this loop. One reference; it outlives the client. */
struct reply *request_defer(struct request *req);
/* The reply of a handler that answers at once. Borrowed. */
struct reply *request_reply(struct request *req);
void reply_unref(struct reply *reply);
/* The client is gone, so work for it may stop. */
bool reply_client_gone(const struct reply *reply);
/* Before the end. NAME lower case, both copied; a value with CR or LF is dropped. */
void reply_header(struct reply *reply, const char *name, const char *value);
/* Exactly one of these ends a reply. */
void reply_empty(struct reply *reply, int status);
void reply_json(struct reply *reply, int status, json_t *json); /* takes the reference */
void reply_bytes(struct reply *reply, int status, const char *content_type, const void *data,
                 size_t len); /* copied */
/*
 * LEN bytes of FD (taken), read by workers as the client takes them. When they cannot be read, the
 * connection ends early: the client sees that bytes are missing.
 */
void reply_file(struct reply *reply, int status, const char *content_type, int fd, uint64_t len);
/* The path of the request, or its route's; as it is logged. */
const char *reply_target(const struct reply *reply);
void reply_err(struct reply *reply, const struct err *err); /* by write_error; logs it once */

/* Counters for /metrics, summed over loops. Any thread. */
struct http_stats {
    uint64_t requests;
    uint64_t by_class[6]; /* [2] = 2xx … */
    uint64_t duration_us_sum;
};
void http_stats_get(const char *name, struct http_stats *out);
/* The same of every server as lines for Prometheus, by row of its route table. Any thread. */
void http_metrics(struct buf *out);

#endif
