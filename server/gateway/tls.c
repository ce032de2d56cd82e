/* The gateway's TLS: upstream it verifies, towards the sandbox it signs. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/gateway/ca.h"
#include "server/gateway/flow.h"

#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"

static const unsigned char alpn_http[] = "\x08http/1.1";

static int fail(struct err *err, const char *what)
{
    char reason[256] = "";

    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    ERR_clear_error();
    err_set(err, ERR_INTERNAL, "the egress gateway's TLS: %s", what);
    return err_detail(err, "%s: %s", what, reason);
}

/* We speak HTTP/1.1 alone; who does not offer any protocol is taken to speak it. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg)
{
    unsigned char *chosen = NULL;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, alpn_http, sizeof(alpn_http) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *new_context(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    return ctx;
}

int tls_start(struct gateway *gateway, const char *roots, const char *more_roots, struct err *err)
{
    gateway->server_tls = new_context(TLS_server_method());
    gateway->client_tls = new_context(TLS_client_method());
    if (gateway->server_tls == NULL || gateway->client_tls == NULL)
        return fail(err, "contexts");
    SSL_CTX_set_alpn_select_cb(gateway->server_tls, choose_alpn, NULL);
    SSL_CTX_set_verify(gateway->client_tls, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_file(gateway->client_tls, roots != NULL ? roots : SYSTEM_ROOTS) != 1 &&
        roots != NULL)
        return fail(err, roots);
    if (more_roots != NULL && SSL_CTX_load_verify_file(gateway->client_tls, more_roots) != 1)
        return fail(err, more_roots);
    ERR_clear_error(); /* a system without roots trusts nobody */
    return 0;
}

SSL_CTX *tls_client_context(const char *ca_pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(ca_pem, -1);
    SSL_CTX *ctx = new_context(TLS_client_method());
    X509 *cert;
    int count = 0;

    if (bio != NULL && ctx != NULL) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
            count += X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert) == 1;
            X509_free(cert);
        }
    }
    ERR_clear_error();
    BIO_free(bio);
    if (count > 0)
        return ctx;
    SSL_CTX_free(ctx);
    err_set(err, ERR_INVALID, "egressProxy.tls.caCert has no certificate");
    return NULL;
}

int tls_handshake(SSL *ssl, const char **why)
{
    int rc = SSL_do_handshake(ssl), reason;

    if (rc == 1)
        return 1;
    reason = SSL_get_error(ssl, rc);
    ERR_clear_error();
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        return 0;
    *why = SSL_get_verify_result(ssl) != X509_V_OK ? "its certificate is not to be trusted"
                                                   : "the TLS handshake failed";
    return -1;
}

/* A client's SSL that accepts NAME alone (a host name or an address). */
static SSL *new_client(SSL_CTX *ctx, const char *name)
{
    SSL *ssl = SSL_new(ctx);
    struct net_cidr cidr;
    bool ipv6 = false;
    int ok;

    if (ssl == NULL)
        return NULL;
    SSL_set_connect_state(ssl);
    if (net_cidr_parse(name, strlen(name), &cidr, &ipv6) == 0)
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
    else
        ok = SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (ok == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

int tls_begin_proxy(struct flow *flow)
{
    const struct policy_proxy *proxy = &flow->tenant->policy->proxy;
    SSL_CTX *ctx =
        flow->tenant->proxy_tls != NULL ? flow->tenant->proxy_tls : flow->gateway->client_tls;

    flow->proxy_ssl =
        new_client(ctx, proxy->server_name != NULL ? proxy->server_name : proxy->host);
    if (flow->proxy_ssl == NULL || SSL_set_fd(flow->proxy_ssl, flow->upstream.io.fd) != 1)
        return -1;
    return 0;
}

/* With the destination; through the proxy's TLS when there is one. */
int tls_begin_up(struct flow *flow)
{
    SSL *ssl = new_client(flow->gateway->client_tls, flow->name);
    BIO *bio;

    if (ssl == NULL)
        return -1;
    SSL_set_alpn_protos(ssl, alpn_http, sizeof(alpn_http) - 1);
    flow->upstream.ssl = ssl;
    if (flow->proxy_ssl == NULL)
        return SSL_set_fd(ssl, flow->upstream.io.fd) == 1 ? 0 : -1;
    bio = BIO_new(BIO_f_ssl());
    if (bio == NULL)
        return -1;
    BIO_set_ssl(bio, flow->proxy_ssl, BIO_NOCLOSE);
    SSL_set_bio(ssl, bio, bio);
    return 0;
}

int tls_begin_down(struct flow *flow)
{
    struct err err = {0};
    SSL *ssl = SSL_new(flow->gateway->server_tls);

    if (ssl == NULL)
        return -1;
    flow->client.ssl = ssl;
    SSL_set_accept_state(ssl);
    if (ca_use(flow->gateway->ca, ssl, flow->name, &err) < 0)
        return -1;
    return SSL_set_fd(ssl, flow->client.io.fd) == 1 ? 0 : -1;
}
