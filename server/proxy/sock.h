/*
 * server/proxy/sock.h - what the proxy does with an h2o_socket_t below HTTP.
 *
 * Bytes read wait in sock->input. h2o reads a plain socket until it is empty, however fast the peer
 * is, so plain sockets are set to "notify only" and read here, at most SOCK_BUFFER_BYTES ahead. TLS
 * sockets must be read by h2o; there the kernel's receive buffer is made small, and reading stops
 * while there is input: about 5 MiB for a fast upload.
 * Loop thread.
 */
#ifndef SANDPIT_PROXY_SOCK_H
#define SANDPIT_PROXY_SOCK_H

#include <stdbool.h>
#include <stddef.h>

#define H2O_USE_LIBUV 0
#include <h2o.h>

#define SOCK_BUFFER_BYTES (256 * 1024) /* read ahead of the other side, for each direction */
#define SOCK_FIRST_READ_BYTES 8192     /* h2o recycles buffers of this size */

enum sock_read { SOCK_DATA, SOCK_EOF, SOCK_FAILED };

/* Before the first read: no delay, TCP keep-alive, notify-only reading. DATA is for callbacks. */
void sock_prepare(h2o_socket_t *sock, void *data);
/* The same for a peer on this machine, whose end never goes unnoticed: without TCP keep-alive. */
void sock_prepare_local(h2o_socket_t *sock, void *data);
/* Undo notify-only reading, for another owner. */
void sock_release(h2o_socket_t *sock);
/*
 * In a read callback: put what has come into sock->input, LIMIT bytes there at most. *HINT (bytes,
 * SOCK_FIRST_READ_BYTES at first) is how much to ask for; grows while the peer fills it.
 * SOCK_DATA may add nothing.
 */
enum sock_read sock_fill(h2o_socket_t *sock, const char *h2o_err, size_t limit, size_t *hint);
/* Start or stop read callbacks; repeats cost nothing. */
void sock_listen(h2o_socket_t *sock, bool on, h2o_socket_cb cb);
/* Close *SOCK unless NULL, and set it to NULL. */
void sock_close(h2o_socket_t **sock);
/* The same with a reset (RST) instead of an orderly end, over TLS too. */
void sock_reset(h2o_socket_t **sock);
/* Say that nothing more will be sent; reading goes on. */
void sock_shutdown(h2o_socket_t *sock);
/* The connection is dead, which matters when nothing is read or written for the moment. */
bool sock_is_dead(h2o_socket_t *sock);

#endif
