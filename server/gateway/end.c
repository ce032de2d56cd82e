/* One side of a flow, clear or TLS, without waiting. */
#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/gateway/flow.h"

static ssize_t tls_result(SSL *ssl, int rc)
{
    int why = SSL_get_error(ssl, rc);

    ERR_clear_error();
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return -EAGAIN;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -EIO;
}

ssize_t end_read(struct end *end, void *data, size_t len)
{
    size_t done;
    ssize_t n;

    if (end->ssl != NULL) {
        int rc = SSL_read_ex(end->ssl, data, len, &done);
        return rc == 1 ? (ssize_t)done : tls_result(end->ssl, rc);
    }
    do
        n = read(end->io.fd, data, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t end_write(struct end *end, const void *data, size_t len)
{
    size_t done;
    ssize_t n;

    if (end->ssl != NULL) {
        int rc = SSL_write_ex(end->ssl, data, len, &done);
        if (rc == 1)
            return (ssize_t)done;
        n = tls_result(end->ssl, rc);
        return n == 0 ? -EPIPE : n;
    }
    do
        n = send(end->io.fd, data, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

void end_shut(struct end *end)
{
    if (end->ssl != NULL) {
        SSL_shutdown(end->ssl); /* sends; nobody waits for the answer */
        ERR_clear_error();
        return;
    }
    shutdown(end->io.fd, SHUT_WR);
}
