/*
 * server/http/http_private.h - what the files of this folder share. Loop thread only.
 */
#ifndef SANDPIT_HTTP_HTTP_PRIVATE_H
#define SANDPIT_HTTP_HTTP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/http_head.h"
#include "server/base/trace.h"
#include "server/http/http.h"
#include "server/http/router.h"
#include "server/http/stats.h"

#define H2O_USE_LIBUV 0
#include <h2o.h>
#include <h2o/http1.h>

#define HEAD_MAX_BYTES 65536
#define ERROR_BODY_MAX_BYTES 65536 /* of an error that write_error shapes for a refusal */
#define LOG_PATH_SIZE 256

struct http_server {
    const struct http_config *config;
    struct loop *loop;
    h2o_globalconf_t globalconf;
    h2o_context_t h2o_ctx;
    h2o_accept_ctx_t accept_ctx;
    h2o_linklist_t conns;
    struct stats *stats;
    size_t active;
    struct reply *sending; /* the reply that is in h2o_start_response now */
    bool draining;
    bool freeing;
};

/* An answer kept as bytes, for those given outside of h2o's request handling. */
struct capture {
    int status;
    const char *content_type;
    struct reply_header *headers;
    char id[REQUEST_ID_SIZE];
    struct buf body;
};

struct reply_header {
    struct reply_header *next;
    char *name;
    char *value;
};

struct reply {
    unsigned refs;
    struct http_server *server;
    h2o_req_t *req;          /* NULL once the client is gone, or with `capture` */
    struct capture *capture; /* or NULL */
    struct upload *upload;   /* that the capture is of, or NULL */
    struct reply_header *headers;
    bool deferred; /* a handler holds a reference, to be dropped by reply_unref */
    bool done;
    bool head_only;    /* HEAD */
    bool close;        /* no further request on this connection */
    int forced_status; /* 405, 413, 431 …: those no err code stands for; 0: none */
    int64_t started_mono_us;
    char id[REQUEST_ID_SIZE];
    char trace[TRACE_ID_SIZE];
    const struct route *route; /* the row that fits; NULL: none */
    char method[16];
    char path[LOG_PATH_SIZE]; /* the route's template, or what the client asked for */
};

struct request {
    h2o_req_t *h2o; /* NULL for an upload */
    struct upload *upload;
    struct conn *conn;
    h2o_mem_pool_t *pool;
    struct http_server *server;
    struct reply *reply;
    struct route_match match;
    const char *params[ROUTE_PARAMS_MAX]; /* decoded; in h2o's pool */
    const char *method;                   /* in h2o's pool, as what follows */
    const char *path;
    const char *query; /* without '?'; "" when there is none */
    struct http_head head;
    bool has_user;
    _Alignas(8) uint8_t user[REQUEST_USER_MAX]; /* a struct of authorize goes in */
};

/* conn.c: a connection that h2o reads from, guarded by the strict scanner. */
struct conn;
void conn_new(struct http_server *server, h2o_socket_t *sock, bool shared);
/* 0, or -1 with ERR when a request is for another server of the port: 421, and close. */
int conn_check_addressee(const struct conn *conn, const struct http_head *head, struct err *err);
struct conn *conn_of(h2o_req_t *req);
/* A handler takes over: no timeout of ours runs until conn_request_ended. */
void conn_request_began(struct conn *conn);
/* The answer is about to be written: the client has the idle timeout to take it. */
void conn_answering(struct conn *conn);
void conn_request_ended(struct conn *conn);
/* upload.c reads in h2o's place: the socket's input is UPLOAD's until conn_upload_answer. */
h2o_socket_t *conn_sock(const struct conn *conn);
/* Read on; upload_readable is called. The client has the request timeout for the next byte. */
void conn_upload_read(struct conn *conn);
void conn_upload_pause(struct conn *conn);
/* Say "100 Continue"; upload_readable is called after it. */
void conn_upload_continue(struct conn *conn);
/* Send CAPTURE. KEEP: the body is read to its end and the next request may come. */
void conn_upload_answer(struct conn *conn, struct capture *capture, bool keep);
/* Close idle connections; with ALL every one. */
void conn_close_all(struct http_server *server, bool all);
/* Requests of which a part has come, and no handler has seen anything. */
size_t conn_count_arriving(const struct http_server *server);

/* reply.c */
struct reply *reply_new(struct http_server *server, h2o_req_t *req, struct capture *capture);
void reply_release(struct reply *reply); /* drops a reference of this folder's own */
void reply_set_id(struct reply *reply, const char *id, size_t len);
/* TEXT is a traceparent header's: its trace goes on, if it is one. */
void reply_set_trace(struct reply *reply, const char *text, size_t len);
void reply_set_target(struct reply *reply, const char *method, size_t method_len, const char *path,
                      size_t path_len);
/* An error with a status of its own: shaped by write_error, then logged. */
void reply_err_status(struct reply *reply, int status, const struct err *err);
/* What an error looks like on SERVER, without sending it. capture_clear it. */
void capture_err(struct http_server *server, struct capture *capture, int status,
                 const struct err *err);
void capture_clear(struct capture *capture);
/* Count and log a request that was refused before any handler. */
void capture_account(struct http_server *server, const struct capture *capture,
                     const struct err *err);
const char *status_reason(int status);

/* The reply of an upload is there: in its capture. */
void upload_answered(struct upload *upload);

/* server.c: from a complete head in the socket's input to a handler's answer or its promise. */
void request_run(struct request *req);

/* upload.c */
/* HEAD begins one. */
bool upload_wanted(const struct http_server *server, const struct http_head *head);
/* A complete head is in CONN's input, and h2o knows nothing of it. Owned by its reply and CONN. */
struct upload *upload_new(struct http_server *server, struct conn *conn);
/* Run the handler. CONN may be freed on return. */
void upload_begin(struct upload *upload);
void upload_readable(struct upload *upload);
void upload_late(struct upload *upload); /* nothing came for the request timeout */
void upload_conn_gone(struct upload *upload);
void upload_unref(struct upload *upload);

/* stream.c: begin the response of REPLY, whose head is set, with LEN bytes of FD (taken). */
void stream_start(struct reply *reply, int fd, uint64_t len);

/* request.c: check and decode the parameters and the query of a matched request. */
int request_decode(struct request *req, struct err *err);

/* h2o_errors.c: give the errors that h2o makes itself (413, 400) the shape of write_error. */
void h2o_errors_register(struct http_server *server, h2o_pathconf_t *pathconf);

#endif
