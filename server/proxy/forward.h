/*
 * server/proxy/forward.h - one client connection and the exchange that runs on it. Private to
 * server/proxy; docs/internals/proxy.md shows the states.
 *
 * Loop thread. Callbacks record what happened and call forward_advance; only that changes the state
 * or ends the connection, so a struct forward may be gone when it returns.
 */
#ifndef SANDPIT_PROXY_FORWARD_H
#define SANDPIT_PROXY_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/http_head.h"
#include "server/engine/engine.h"
#include "server/model/sandbox.h"
#include "server/proxy/body.h"
#include "server/proxy/dial.h"
#include "server/proxy/head.h"
#include "server/proxy/pool.h"
#include "server/proxy/proxy.h"
#include "server/proxy/respond.h"
#include "server/proxy/sock.h"
#include "server/proxy/token.h"

#define FWD_HEAD_TIMEOUT_MS 30000   /* a request head, from its first byte */
#define FWD_DIAL_TIMEOUT_MS 30000   /* the engine's answer and the connect, retries included */
#define FWD_WAKE_TIMEOUT_MS 60000   /* a paused sandbox to run again */
#define FWD_CHECK_INTERVAL_MS 5000  /* no limit on an exchange; only: is the client still there? */
#define FWD_ANSWER_TIMEOUT_MS 30000 /* until the client has taken an answer of ours */
#define FWD_LINGER_TIMEOUT_MS 2000  /* discard what the client still sends, so that it can read */

enum fwd_state {
    FWD_IDLE,     /* between requests */
    FWD_HEAD,     /* a request head is coming in */
    FWD_ROUTE,    /* decide: whose, allowed, rewritten how */
    FWD_DIAL,     /* connect to the sandbox */
    FWD_RESPONSE, /* request goes out, response head awaited */
    FWD_STREAM,   /* response head known; both bodies flow */
    FWD_TUNNEL,   /* after an upgrade: bytes both ways */
    FWD_ANSWER,   /* an answer of our own is being written */
    FWD_LINGER,   /* all is written, the client may still be sending: to be skipped */
    FWD_WAKE,     /* the request is held until its paused sandbox runs */
    FWD_STATE_COUNT
};

enum wake_result { WAKE_PENDING, WAKE_RUNS, WAKE_BUSY, WAKE_LIMIT, WAKE_FAILED };

enum step {
    STEP_WAIT,
    STEP_NEXT,     /* to the state after this one */
    STEP_JUMP,     /* to fwd->jump */
    STEP_CLOSE,    /* end the connection in order */
    STEP_RESET,    /* cut it, so that nobody takes it for complete */
    STEP_HANDOVER, /* the socket goes to the API */
};

/* One direction: what FROM has sent, in its input, on its way to TO. */
struct flow {
    struct body body;
    struct buf head; /* goes before the body; also an answer of our own */
    size_t used;     /* bytes of the input that the running write stands for */
    size_t hint;     /* sock_fill's */
    bool writing;
    bool hold;    /* keep head and input after the write: it may have to be repeated */
    bool held;    /* written and kept */
    bool eof;     /* the sender has ended its side */
    bool failed;  /* the sender's connection broke */
    bool blocked; /* the receiver takes no more */
    bool shut;    /* the end was passed on (tunnel) */
};

struct forward {
    struct proxy *proxy;
    struct forward *prev, *next; /* the proxy's list */
    struct timer timer;
    enum fwd_state state, jump;
    bool entered; /* the state is new: arm its timer on the next wait */

    h2o_socket_t *client;
    h2o_socket_t *upstream; /* NULL until dialled */
    struct flow up, down;   /* client to upstream and back */

    /* the request */
    size_t head_scanned; /* bytes of an incomplete head looked at */
    size_t head_size;    /* of a head still in client->input */
    struct respond_to to;
    bool keep; /* the client connection may stay open */
    bool http_1_0;
    bool head_request;
    char *upgrade; /* what the client wants to switch to; owned, NULL for none */

    /* the target */
    char id[SANDBOX_ID_SIZE];
    uint16_t port;
    bool https; /* the service on that port speaks TLS */
    int64_t run;
    struct dial dial;
    bool reused;     /* upstream served an earlier request */
    bool fresh_only; /* a kept connection failed: dial */
    bool keep_upstream;
    struct body body_start; /* of the request body, for a repeat */

    /* wake.c */
    struct wake *wake; /* that this one waits for, or NULL */
    struct forward *wake_next;
    enum wake_result wake_result;
    bool woken; /* the request has been routed before */
};

struct proxy {
    struct proxy_config config;
    char *domain; /* owned */
    struct loop *loop;
    struct forward *first; /* all connections */
    size_t count, active;  /* connections; those that are not idle */
    struct pool pool;
    struct token_cache tokens;
    struct wake *wakes;
    struct http_head head; /* of the request that is being routed; too big for each of them */
    bool draining;
};

/* forward.c */
void forward_advance(struct forward *fwd);
/* Go to an answer of our own. Return their value from a state. */
enum step forward_answer(struct forward *fwd, enum respond_case what);
enum step forward_answer_text(struct forward *fwd, int status, const char *text);
enum step forward_jump(struct forward *fwd, enum fwd_state state);
const char *forward_state_name(enum fwd_state state);
/* How much of what the client sends may wait for now. */
size_t forward_client_limit(const struct forward *fwd);
/* The client has gone: seen as an end of its side, or as an error. */
bool forward_client_gone(const struct forward *fwd);

/* flow.c: write what is at hand of the head and body. -1 with ERR: the framing is malformed. */
int flow_pump(struct flow *flow, h2o_socket_t *from, h2o_socket_t *to, h2o_socket_cb written,
              struct err *err);
/* The write ended: take what it stood for out of the input (unless held). */
void flow_written(struct flow *flow, h2o_socket_t *from);
/* A repeat will not be needed. */
void flow_release(struct flow *flow, h2o_socket_t *from);
/* Forget the exchange, keep the buffer. */
void flow_reset(struct flow *flow);
void flow_init(struct flow *flow);
void flow_clear(struct flow *flow);
/* There is room to read more from the sender, and it may have more. */
bool flow_may_read(const struct flow *flow, const h2o_socket_t *from, size_t limit);

/* connection.c */
void connection_accept(struct proxy *proxy, h2o_socket_t *client);
/* Close (or, if the socket is NULL, only forget) and free. */
void connection_free(struct forward *fwd);
/* Ready for the next request on this connection. */
void connection_next(struct forward *fwd);
void connection_client_readable(h2o_socket_t *sock, const char *h2o_err);
void connection_client_written(h2o_socket_t *sock, const char *h2o_err);
void connection_upstream_readable(h2o_socket_t *sock, const char *h2o_err);
void connection_upstream_written(h2o_socket_t *sock, const char *h2o_err);

/* wake.c: the sandbox does not run. Answers, or lets the request wait. */
enum step wake_begin(struct forward *fwd, const struct http_head *head,
                     const struct lifecycle_route *route);
/* Wait no longer. */
void wake_leave(struct forward *fwd);
enum step wake_run(struct forward *fwd, struct err *err);
enum step wake_expire(struct forward *fwd);

/* The states. route.c, dial.c, relay.c, upgrade.c */
enum step route_run(struct forward *fwd, struct err *err);
enum step dial_run(struct forward *fwd, struct err *err);
enum step relay_response(struct forward *fwd, struct err *err);
enum step relay_stream(struct forward *fwd, struct err *err);
enum step upgrade_tunnel(struct forward *fwd, struct err *err);
/* The upstream accepts to switch to what the client asked for. */
bool upgrade_agrees(const struct forward *fwd, struct slice upgrade);

/* proxy.c */
void stats_add_request(void);
void stats_add_upgrade(void);
void stats_add_error(void);
void stats_add_bytes(uint64_t in, uint64_t out);

#endif
