#include "server/loop/tls_client.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>

#define H2O_USE_LIBUV 0
#include <h2o.h>

#define SERVER_NAME "localhost" /* what the service is asked for: SNI must name something */

static pthread_once_t made = PTHREAD_ONCE_INIT;
static SSL_CTX *client_ctx; /* one for all, never freed; constant after it is made */

static void make(void)
{
    client_ctx = SSL_CTX_new(TLS_client_method());
    if (client_ctx == NULL)
        abort(); /* out of memory */
    SSL_CTX_set_verify(client_ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(client_ctx, SSL_MODE_RELEASE_BUFFERS);
}

void tls_client_start(struct st_h2o_socket_t *sock, tls_client_fn fn)
{
    pthread_once(&made, make);
    h2o_socket_ssl_handshake(sock, client_ctx, SERVER_NAME, fn);
}

bool tls_client_failed(const char *h2o_err)
{
    /* h2o compares names by itself once the handshake is done */
    return h2o_err != NULL && h2o_err != h2o_socket_error_ssl_cert_name_mismatch &&
           h2o_err != h2o_socket_error_ssl_cert_invalid && h2o_err != h2o_socket_error_ssl_no_cert;
}
