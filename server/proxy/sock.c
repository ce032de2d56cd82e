#include "server/proxy/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* A peer that vanished without a word is noticed after 30 + 4 * 15 seconds. */
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_PROBES 4
#define TLS_RECORD_BYTES 16384
/* The kernel's buffer, which h2o empties in one go: it bounds what a TLS peer makes us hold. */
#define TLS_RECEIVE_BYTES (512 * 1024)

static void set_option(int fd, int level, int name, int value)
{
    /* only fails on sockets that are not TCP, where there is nothing to set */
    if (setsockopt(fd, level, name, &value, sizeof(value)) < 0)
        return;
}

void sock_prepare(h2o_socket_t *sock, void *data)
{
    int fd = h2o_socket_get_fd(sock);

    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    if (sock->ssl == NULL) {
        h2o_socket_dont_read(sock, 1);
    } else {
        set_option(fd, SOL_SOCKET, SO_RCVBUF, TLS_RECEIVE_BYTES);
        /* h2o would cut small writes into records of 1,400 bytes; a size set before is kept */
        sock->_latency_optimization.state = H2O_SOCKET_LATENCY_OPTIMIZATION_STATE_NEEDS_UPDATE;
        sock->_latency_optimization.suggested_tls_payload_size = TLS_RECORD_BYTES;
    }
    sock->data = data;
}

void sock_prepare_local(h2o_socket_t *sock, void *data)
{
    set_option(h2o_socket_get_fd(sock), IPPROTO_TCP, TCP_NODELAY, 1);
    h2o_socket_dont_read(sock, 1);
    sock->data = data;
}

void sock_release(h2o_socket_t *sock)
{
    h2o_socket_read_stop(sock);
    if (sock->ssl == NULL)
        h2o_socket_dont_read(sock, 0);
    sock->data = NULL;
}

static enum sock_read read_some(h2o_socket_t *sock, size_t room, size_t *hint)
{
    size_t want = *hint < room ? *hint : room;
    h2o_iovec_t space = h2o_buffer_reserve(&sock->input, want);
    ssize_t n;

    if (space.base == NULL)
        return SOCK_FAILED;
    if (space.len > room)
        space.len = room;
    do {
        n = read(h2o_socket_get_fd(sock), space.base, space.len);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? SOCK_DATA : SOCK_FAILED;
    if (n == 0)
        return SOCK_EOF;
    sock->input->size += (size_t)n;
    if ((size_t)n >= want && *hint < SOCK_BUFFER_BYTES)
        *hint *= 2;
    return SOCK_DATA;
}

enum sock_read sock_fill(h2o_socket_t *sock, const char *h2o_err, size_t limit, size_t *hint)
{
    if (h2o_err != NULL)
        return h2o_err == h2o_socket_error_closed ? SOCK_EOF : SOCK_FAILED;
    if (sock->ssl != NULL || sock->input->size >= limit)
        return SOCK_DATA;
    return read_some(sock, limit - sock->input->size, hint);
}

void sock_listen(h2o_socket_t *sock, bool on, h2o_socket_cb cb)
{
    if (on && !h2o_socket_is_reading(sock))
        h2o_socket_read_start(sock, cb);
    else if (!on && h2o_socket_is_reading(sock))
        h2o_socket_read_stop(sock);
}

void sock_close(h2o_socket_t **sock)
{
    if (*sock == NULL)
        return;
    h2o_socket_read_stop(*sock);
    h2o_socket_close(*sock);
    *sock = NULL;
}

void sock_reset(h2o_socket_t **sock)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int fd;

    if (*sock == NULL)
        return;
    fd = h2o_socket_get_fd(*sock);
    /*
     * Disconnecting sends the RST now. With TLS, h2o would otherwise write a close_notify first,
     * and a cut response would look complete. SO_LINGER covers what does not disconnect.
     */
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ||
        connect(fd, &none, sizeof(none)) < 0)
        shutdown(fd, SHUT_RDWR);
    sock_close(sock);
}

void sock_shutdown(h2o_socket_t *sock)
{
    shutdown(h2o_socket_get_fd(sock), SHUT_WR);
}

bool sock_is_dead(h2o_socket_t *sock)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    return getsockopt(h2o_socket_get_fd(sock), IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state == TCP_CLOSE;
}
