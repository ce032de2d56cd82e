/*
 * server/loop/tls_private.h - what listener.c needs of tls.c. Not for other folders.
 */
#ifndef SANDPIT_LOOP_TLS_PRIVATE_H
#define SANDPIT_LOOP_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "server/loop/listener.h"

/* The context for a new handshake; SSL_CTX_free it. Any thread. */
SSL_CTX *tls_ctx_ref(struct tls *tls);

#endif
