/*
 * server/loop/tls.c - the server's TLS context and its reload; see listener.h.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/loop/listener.h"
#include "server/loop/tls_private.h"

#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

struct tls {
    pthread_mutex_t lock; /* guards `ctx` */
    SSL_CTX *ctx;
    char *cert_file;
    char *key_file;
};

/* Take http/1.1 when it is offered; a client that offers something else goes on without ALPN. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *picked = NULL;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&picked, out_len, ours, sizeof(ours) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = picked;
    return SSL_TLSEXT_ERR_OK;
}

/* ERR_INVALID with the first of OpenSSL's reasons as detail. */
static int openssl_err(struct err *err, const char *what, const char *file)
{
    char reason[256] = "";
    unsigned long code = ERR_get_error();

    if (code != 0)
        ERR_error_string_n(code, reason, sizeof(reason));
    ERR_clear_error();
    err_set(err, ERR_INVALID, "%s %s", what, file);
    return err_detail(err, "%s %s: %s", what, file, reason);
}

static void cleanup_ctx(SSL_CTX **ctx)
{
    SSL_CTX_free(*ctx);
}

static int load(const char *cert_file, const char *key_file, SSL_CTX **out, struct err *err)
{
    _cleanup_(cleanup_ctx) SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    ERR_clear_error();
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, TLS12_CIPHERS) != 1)
        return err_set(err, ERR_INTERNAL, "cannot set up TLS");
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_COMPRESSION);
    /* Sessions live in tickets alone, encrypted with a key that OpenSSL makes for each context. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
        return openssl_err(err, "cannot use the TLS certificate", cert_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return openssl_err(err, "cannot use the TLS key", key_file);
    *out = steal_ptr(&ctx);
    return 0;
}

int tls_new(const char *cert_file, const char *key_file, struct tls **out, struct err *err)
{
    SSL_CTX *ctx = NULL;
    struct tls *tls;

    if (load(cert_file, key_file, &ctx, err) < 0)
        return -1;
    tls = mem_zalloc(sizeof(*tls));
    pthread_mutex_init(&tls->lock, NULL);
    tls->ctx = ctx;
    tls->cert_file = mem_strdup(cert_file);
    tls->key_file = mem_strdup(key_file);
    *out = tls;
    return 0;
}

int tls_reload(struct tls *tls, struct err *err)
{
    SSL_CTX *ctx = NULL;
    SSL_CTX *old;

    if (load(tls->cert_file, tls->key_file, &ctx, err) < 0)
        return -1;
    pthread_mutex_lock(&tls->lock);
    old = tls->ctx;
    tls->ctx = ctx;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old); /* connections that use it hold references of their own */
    return 0;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->ctx);
    pthread_mutex_destroy(&tls->lock);
    free(tls->cert_file);
    free(tls->key_file);
    free(tls);
}

SSL_CTX *tls_ctx_ref(struct tls *tls)
{
    SSL_CTX *ctx;

    pthread_mutex_lock(&tls->lock);
    ctx = tls->ctx;
    SSL_CTX_up_ref(ctx);
    pthread_mutex_unlock(&tls->lock);
    return ctx;
}
