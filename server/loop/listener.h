/*
 * server/loop/listener.h - listening sockets and TLS: one SO_REUSEPORT socket per loop and address.
 *
 * Addresses are "127.0.0.1:3000", "[::1]:3000", "0.0.0.0:3000", "localhost:3000" (both families) or
 * ":3000" (every address). A port of 0 picks one, the same for all loops.
 */
#ifndef SANDPIT_LOOP_LISTENER_H
#define SANDPIT_LOOP_LISTENER_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/loop/loop.h"

struct st_h2o_socket_t;
struct tls;
struct listener;

/* A connection; for TLS after its handshake. Loop thread; SOCK is owned by the callee. */
typedef void (*accept_fn)(void *ctx, struct loop *loop, struct st_h2o_socket_t *sock);

/*
 * Bind ADDRESS once for each of LOOPS (LOOP_COUNT). Start-up thread, before privileges drop; no
 * connection is accepted before listener_start. TLS may be NULL. ERR_INVALID for a bad address,
 * ERR_BUSY when it is in use (the message names it).
 */
int listener_new(const char *address, struct loop *const *loops, size_t loop_count, struct tls *tls,
                 struct listener **out, struct err *err);
/* Begin to accept: FN with CTXS[i] on LOOPS[i]. Any thread; takes effect on the loops. */
void listener_start(struct listener *listener, accept_fn fn, void *const *ctxs);
/* The port in use (host order). */
uint16_t listener_port(const struct listener *listener);
/*
 * Stop accepting and close; handshakes under way end. What already waits in the queue is accepted
 * first. Any thread; takes effect on the loops.
 */
void listener_stop(struct listener *listener);
/* After the loops have ended, or a listener_stop has taken effect on all of them. */
void listener_free(struct listener *listener);

/*
 * A TLS context: TLS 1.2 and 1.3, ALPN http/1.1, server cipher order, session tickets.
 * ERR_INVALID naming the file that is wrong.
 */
int tls_new(const char *cert_file, const char *key_file, struct tls **out, struct err *err);
/* Read the files again; new handshakes use them. On failure the old ones stay. Any thread. */
int tls_reload(struct tls *tls, struct err *err);
void tls_free(struct tls *tls);

#endif
