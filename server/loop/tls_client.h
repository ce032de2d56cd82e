/*
 * server/loop/tls_client.h - TLS to a service that nobody can vouch for: one in a sandbox.
 *
 * Whoever it is, it was reached through the sandbox's own network namespace, so its certificate is
 * not looked at. Loop thread.
 */
#ifndef SANDPIT_LOOP_TLS_CLIENT_H
#define SANDPIT_LOOP_TLS_CLIENT_H

#include <stdbool.h>

struct st_h2o_socket_t;

/* H2O_ERR: for tls_client_failed. */
typedef void (*tls_client_fn)(struct st_h2o_socket_t *sock, const char *h2o_err);

/*
 * Begin the handshake on SOCK (connected, nothing read). FN is called once, later; never when SOCK
 * is closed before. SOCK's `data` stays the caller's.
 */
void tls_client_start(struct st_h2o_socket_t *sock, tls_client_fn fn);
/* There is no TLS: SOCK is good for nothing but closing. */
bool tls_client_failed(const char *h2o_err);

#endif
