/*
 * envd/exchange.h - the inside of envd/http.h: connections and exchanges. For http_*.c, auth.c and
 * rpc.c only; handlers see http.h and rpc.h.
 *
 * A connection carries one exchange at a time. It belongs to the loop thread, except while a
 * blocking handler has it (CONN_WORKER).
 */
#ifndef ENVD_EXCHANGE_H
#define ENVD_EXCHANGE_H

#include "envd/http.h"
#include "envd/http_body.h"
#include "envd/request_head.h"
#include "envd/loop.h"
#include "envd/pool.h"
#include "envd/route.h"

#define CONN_IN_MAX (2 * REQUEST_HEAD_MAX_BYTES) /* bytes read ahead */
#define CONN_OUT_MAX (256 << 20)                 /* an answer that is ready in memory */
#define CONN_OUT_HIGH (256 << 10)                /* a stream's sender stops here … */
#define CONN_OUT_LOW (64 << 10)                  /* … and goes on here */
#define CONN_OUT_TOTAL_HIGH (2 << 20) /* of all: from here on each has one event at most */
/* What the bodies of unfinished requests may hold together: as much as the largest message. */
#define HTTP_BODIES_BYTES (3 << 20)
#define CONN_DRAIN_MAX (64 << 20) /* of a body that nobody wants */

struct http_server {
    struct loop *loop;
    struct pool *files; /* blocking handlers */
    struct pool *disk;  /* RPC_WORKER */
    struct pool *bulk;  /* RPC_WORKER calls that take long: see RPC_AGAIN */
    struct loop_io listener;
    struct loop_timer accept_again; /* after running out of descriptors */
    size_t connections;
    size_t backlog;           /* bytes of all answers that the sockets have not taken */
    int64_t idle_timeout_ms;  /* HTTP_IDLE_TIMEOUT_MS, unless main.c wants another */
    struct transfer *waiting; /* to be begun when `transfers` falls; in order */
    struct transfer **waiting_last;
    size_t waiting_count;
    size_t transfers;    /* requests in the hands of blocking handlers, parked ones too */
    struct buf spare_in; /* http_buffers.c */
    struct buf spare_out;
    struct loop_timer idle;
    bool busy;                /* since the idle timer was set */
    size_t bodies;            /* http_budget.c: bytes granted, … */
    size_t owed;              /* … bytes that came before their grant, … */
    size_t read_ahead;        /* … bytes of conn->in that are kept, … */
    struct loop_msg admit;    /* … after some became free, … */
    struct loop_timer hunger; /* … and set while somebody waits */
    bool admit_queued;
    struct conn *conns;       /* all that are not closed */
    struct exchange *upgrade; /* the request that an earlier envd took, to be answered */
};

enum conn_state {
    CONN_HEAD,    /* between requests, or in a head */
    CONN_BODY,    /* collecting, or streaming to, a loop handler's body */
    CONN_HANDLER, /* a loop handler has the request */
    CONN_WORKER,  /* a worker thread has it, or it is parked: http_worker.c */
    CONN_DRAIN,   /* answered; the rest of the body is discarded */
    CONN_LINGER,  /* answered; reading until the client closes, so that it gets the answer */
    CONN_CLOSED,
};

struct conn {
    struct http_server *server;
    struct conn *next; /* kept when it is closed */
    struct conn **link;
    struct loop_io io;
    struct loop_timer timer;
    struct loop_msg flush; /* queued by loop_soon */
    struct loop_msg reap;
    bool flush_queued;
    bool advancing; /* conn_advance is on the stack */
    bool eof;       /* the client will send no more */
    bool close_after;
    bool held;      /* a sender was told to stop */
    bool in_head;   /* some of a head has come */
    size_t counted; /* of the server's backlog */
    enum conn_state state;
    struct buf in;
    struct buf out;
    size_t out_at; /* of out, what has been sent */
    size_t drained;
    size_t kept;         /* of in, as counted in server->read_ahead */
    struct exchange *ex; /* NULL between requests */
};

#define ANSWER_HEADERS_MAX_BYTES (64 << 10)

/* Small on purpose: ten thousand of them stay open for idle streams. */
struct exchange {
    unsigned refs;     /* loop thread */
    struct conn *conn; /* NULL: the client is gone */
    struct http_server *server;
    struct request_head head;
    struct http_body framing;
    const struct route *route;
    struct settings *settings;
    bool jwt_valid;
    bool continued;    /* "100 Continue" is out, or not wanted */
    struct user *user; /* named by the request (Basic or JWT); NULL: none was */
    char *bad_user;    /* a name that was given and is unknown */
    struct buf body;   /* loop handlers */
    size_t reserved;   /* http_budget.c: bytes granted for the body */
    size_t owed;       /* bytes that are held and not granted */
    size_t wanted;     /* more than 0: reading waits until so many are */

    int status;
    bool begun;
    bool ended;
    bool chunked;              /* the answer */
    int64_t left;              /* of a counted answer */
    struct buf answer_headers; /* "Name: value\r\n" each, until the head is out */

    struct transfer *transfer; /* NULL: not a blocking handler */

    /* Loop handlers that stream; all may be NULL. */
    void *owner;
    void (*on_gone)(struct exchange *ex);     /* the client left, or its body is malformed */
    void (*on_writable)(struct exchange *ex); /* below CONN_OUT_LOW again */
    /* The body as it comes, instead of collecting it; LEN 0 is its end. */
    void (*on_body)(struct exchange *ex, const char *data, size_t len);
    bool body_paused; /* no on_body calls, and so no reading, until http_body_resume */
};

/* ---- http_listen.c ---- */

/* Serve the listening socket FD (non-blocking). */
struct http_server *http_server_new(struct loop *loop, int fd, struct err *err);

/* ---- exchange.c ---- */

/* For the request whose head is at the front of CONN->in; one reference, CONN's. */
struct exchange *exchange_new(struct conn *conn);
/* A long stream: free what only its start needed (the head's text, the body, the user). */
void exchange_trim(struct exchange *ex);
struct exchange *exchange_ref(struct exchange *ex);
void exchange_unref(struct exchange *ex);

/* ---- http_conn.c, http_receive.c, http_send.c, http_worker.c; conn.h is their inside ---- */

void http_body_resume(struct exchange *ex);
/* Memory before writing to conn->out. */
void conn_out_borrow(struct conn *conn);
/* Send what is in conn->out before the loop sleeps. */
void conn_flush_soon(struct conn *conn);
/* So much waits for clients that a stream should send little at once. */
bool http_is_scarce(const struct http_server *server);
/* Bytes have come to conn->out: a sender that should stop is held. */
void conn_count(struct conn *conn);
/* Bytes of the answer that the socket has not taken. */
size_t conn_backlog(const struct conn *conn);
/* The answer is complete: on to the next request, or the end of the connection. */
void conn_answered(struct conn *conn);

/* Read the body for a loop handler: collect at most MAX bytes, or stream it to on_body. */
void conn_start_body(struct exchange *ex, size_t max);
/* Give the connection to a worker that runs the blocking handler. */
void conn_start_blocking(struct exchange *ex);

/* ---- http_budget.c: bounds for what unfinished requests hold, all connections together ---- */

#define HTTP_STARVED_TEXT "too much data of unfinished requests waits; this one made no progress"

/*
 * EX's body has BYTES, which are HELD already or will come. When that is too much with all others,
 * reading waits until they have finished; who makes no progress while others wait is refused, and
 * so may EX be at once (then it is answered on return). A small body may overdraw.
 */
void budget_take(struct exchange *ex, size_t bytes, bool held);
/* The body is complete, or gone. */
void budget_release(struct exchange *ex);

/* ---- http_reply.c: building answers into conn->out ---- */

/* Status line and headers. LENGTH -1: chunked (or until close for HTTP/1.0). */
void answer_head(struct exchange *ex, int status, const char *content_type, int64_t length);
/* Loop: a streamed answer. */
void http_stream_begin(struct exchange *ex, int status, const char *content_type);
size_t http_stream_write(struct exchange *ex, const void *data, size_t len);
/*
 * The same without a copy: room for LEN bytes to be written by the caller, NULL when there is none
 * (the client is gone, or will be), then http_stream_commit with that LEN.
 */
char *http_stream_room(struct exchange *ex, size_t len);
void http_stream_commit(struct exchange *ex, size_t len);
void http_stream_end(struct exchange *ex);

/* ---- http_dispatch.c ---- */

/* The head is there: check who asks, then start the route's handler or answer. */
void exchange_dispatch(struct exchange *ex);
/* The body is complete: call the loop handler. */
void exchange_body_done(struct exchange *ex);
/* The body passes its maximum: refuse it. */
void exchange_too_large(struct exchange *ex);

#endif
