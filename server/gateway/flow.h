/*
 * server/gateway/flow.h - one connection of a sandbox, from its first bytes to its end.
 *
 * For server/gateway only. Loop only. A flow is freed after the round in which it ended; everything
 * else looks at `state` first.
 */
#ifndef SANDPIT_GATEWAY_FLOW_H
#define SANDPIT_GATEWAY_FLOW_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/http_head.h"
#include "server/base/map.h"
#include "server/gateway/chunks.h"
#include "server/gateway/ev.h"
#include "server/gateway/hello.h"
#include "server/gateway/policy.h"
#include "server/gateway/resolver.h"
#include "server/gateway/socks.h"
#include "server/model/sandbox.h"

#define FLOW_BUFFER_BYTES 65536       /* each direction */
#define FLOW_BUFFER_SMALL_BYTES 16384 /* the same once a sandbox has more than FLOW_MANY */
#define FLOW_MANY 128
#define FLOW_HEAD_MAX_BYTES (4 * 1024 * 1024) /* a request's head with the headers set in it */
#define FLOW_PER_TENANT_MAX 1024
#define FLOW_HELLO_MS 10000 /* for the first bytes to tell a name */
#define FLOW_QUIET_MS                                                                              \
    500 /* the same, when the flow is allowed without: it may be the server
                                 that speaks first */
#define FLOW_CLIENT_FIRST_MS 60000 /* the same on 80 and 443, where it is not */
#define FLOW_SETUP_MS 20000        /* to resolve and connect, with all handshakes */
#define FLOW_IDLE_MS 3600000       /* without a byte in either direction */
#define FLOW_LINGER_MS 2000        /* for the last words to be read */

/* A sandbox, by its address. Kept when it has ended, for the version. */
struct tenant {
    char key[9]; /* the address in hex */
    uint32_t address;
    uint64_t version;
    char id[SANDBOX_ID_SIZE];
    struct policy *policy; /* NULL: refuse everything */
    SSL_CTX *proxy_tls;    /* of policy->proxy, when it has roots of its own; owned */
    struct flow *flows;
    size_t flow_count;
};

enum flow_state {
    FLOW_PEEK,    /* waiting for what names the destination */
    FLOW_RESOLVE, /* the proxy's or the destination's name */
    FLOW_CONNECT,
    FLOW_PROXY_TLS,
    FLOW_SOCKS,
    FLOW_TLS_UP,   /* handshake with the destination */
    FLOW_TLS_DOWN, /* handshake with the sandbox, as the destination */
    FLOW_STREAM,
    FLOW_LINGER, /* all is said; waiting for the peer to close */
    FLOW_ENDED,
};

enum flow_kind {
    KIND_PLAIN, /* bytes as they come */
    KIND_HTTP,  /* requests are read; headers may be set */
    KIND_TLS,   /* the same within TLS */
};

struct end {
    struct ev_io io;
    SSL *ssl; /* NULL: clear */
};

struct pipe {
    struct buf data;
    bool eof;    /* nothing more comes in */
    bool closed; /* and the other side has been told */
};

enum http_state { HTTP_HEAD, HTTP_LENGTH, HTTP_CHUNKS, HTTP_ANSWER, HTTP_TUNNEL };

struct flow {
    struct gateway *gateway;
    struct tenant *tenant;
    struct flow *next, **link; /* of the tenant's */
    struct flow *all_next, **all_link;
    enum flow_state state;
    enum flow_kind kind;
    int64_t deadline_mono_ms;
    bool again; /* on the ready list */
    struct flow *ready_next;

    uint32_t address; /* where it wanted to go */
    uint16_t port;
    char name[HELLO_NAME_SIZE]; /* what the first bytes named; "" when nothing */
    bool first_tls;             /* the first bytes are TLS, so the last words are an alert */
    bool first_http;
    enum verdict verdict;

    struct end client, upstream;
    SSL *proxy_ssl; /* with the proxy; upstream.ssl may run within it */
    struct resolver_wait wait;
    bool resolving_proxy;
    uint32_t targets[DNS_ADDRESSES_MAX]; /* to be tried in turn */
    size_t target_count, target_next;

    uint8_t socks[SOCKS_SEND_MAX];
    size_t socks_len, socks_at; /* how much is to be sent or received, and how much has been */
    bool socks_sending;
    enum { SOCKS_GREET, SOCKS_AUTH, SOCKS_GO } socks_step;

    struct pipe in;   /* from the sandbox, as it came: HTTP alone */
    struct pipe up;   /* to the destination */
    struct pipe down; /* to the sandbox */
    enum http_state http;
    uint64_t http_left;
    struct chunks chunks;
    bool refused;      /* an answer of ours is in `down`, the last */
    bool cut;          /* the destination broke off: do not pretend a proper end */
    char failure[160]; /* KIND_TLS: why there is no upstream; told as the first answer */
};

struct gateway {
    struct ev ev;
    struct resolver *resolver;
    struct ca *ca; /* NULL: none */
    SSL_CTX *server_tls, *client_tls;
    struct map tenants;
    struct flow *flows, *ended, *ready;
    size_t flow_count, flow_max;
    struct ev_io listener;
    bool full; /* accepting waits for a flow to end */
    int control;
    struct ev_io control_io;
};

/* control.c */
int control_start(struct gateway *gateway, int listener);
struct tenant *tenant_find(struct gateway *gateway, uint32_t address);

/* accept.c */
void flow_accept(struct ev_io *listener);
void flow_tick(struct gateway *gateway);
void flow_reap(struct gateway *gateway);

/* flow.c: move on as far as possible; FLOW may have ended afterwards. */
void flow_run(struct flow *flow);
/* The same in the next round: for callbacks, and for who has had his share of this one. */
void flow_later(struct flow *flow);
/* Decide by what is known now, NAME or not, and go on. */
void flow_decide(struct flow *flow);
void flow_end(struct flow *flow);
/* Cut without a word. */
void flow_abort(struct flow *flow);
/* Not allowed, for the reason WHY: say so in the sandbox's language, and end. */
void flow_refuse(struct flow *flow, const char *why);
/* Could not be done: the same with status 502. */
void flow_failed(struct flow *flow, const char *why);
/* All is said: wait a little for the sandbox to read it and close. */
void flow_linger(struct flow *flow);
void flow_arm(struct flow *flow, int64_t ms);

/* peek.c: the destination's name of the first bytes. False: more are needed. */
bool peek_name(struct flow *flow);

/* connect.c: from the decision to a connected upstream; steps of flow_run. */
void connect_start(struct flow *flow);
bool connect_step(struct flow *flow);

/* tls.c */
int tls_start(struct gateway *gateway, const char *roots, const char *more_roots, struct err *err);
SSL_CTX *tls_client_context(const char *ca_pem, struct err *err);
/* 1 done, 0 wait, -1 failed: WHY is static. */
int tls_handshake(SSL *ssl, const char **why);
int tls_begin_proxy(struct flow *flow);
int tls_begin_up(struct flow *flow);
int tls_begin_down(struct flow *flow);

/* end.c: >0 bytes, 0 the end, -EAGAIN, or another negative errno. */
ssize_t end_read(struct end *end, void *data, size_t len);
ssize_t end_write(struct end *end, const void *data, size_t len);
void end_shut(struct end *end);

/* How much may wait in one direction of FLOW. */
static inline size_t flow_room(const struct flow *flow)
{
    return flow->tenant->flow_count > FLOW_MANY ? FLOW_BUFFER_SMALL_BYTES : FLOW_BUFFER_BYTES;
}

/* pump.c: true when something moved. */
bool pump_step(struct flow *flow);

/* http.c: requests from `in` to `up`. True when something moved. */
bool http_step(struct flow *flow);
/* Bytes from upstream, before they are sent on: an answer to an upgrade is looked for. */
void http_answered(struct flow *flow, const char *data, size_t len);
/* A whole answer with STATUS and TEXT, and "connection: close". */
void http_answer(struct buf *out, int status, const char *text);

#endif
