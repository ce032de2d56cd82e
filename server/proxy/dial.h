/*
 * server/proxy/dial.h - the connection to the sandbox: from the pool or by the engine, with about a
 * second of retries for a server that is just starting. Part of struct forward.
 *
 * Loop thread. Source: routing.md section 7, "upstream dial".
 */
#ifndef SANDPIT_PROXY_DIAL_H
#define SANDPIT_PROXY_DIAL_H

#include "server/loop/loop.h"

struct st_h2o_socket_t;
struct dial_call;
struct forward;

enum dial_phase {
    DIAL_START,
    DIAL_CALLING,    /* the engine makes a socket */
    DIAL_CONNECTING, /* the kernel connects it */
    DIAL_PAUSING,    /* refused; again soon */
    DIAL_HANDSHAKE,  /* TLS, where the service speaks it */
    DIAL_CONNECTED,
    DIAL_NO_SANDBOX,
    DIAL_GAVE_UP,
};

struct dial {
    enum dial_phase phase;
    unsigned attempt;
    bool local;                   /* the peer is on this machine */
    struct dial_call *call;       /* not answered yet; outlives the forward */
    struct st_h2o_socket_t *sock; /* connecting, or connected and not yet taken */
    struct timer timer;           /* of the pause */
};

/* Forget it all: nothing calls back afterwards. */
void dial_abort(struct dial *dial);

#endif
