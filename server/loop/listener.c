/*
 * server/loop/listener.c - accept loops and TLS handshakes; see listener.h.
 */
#include "server/loop/listener.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/loop/address.h"
#include "server/loop/bind.h"
#include "server/loop/loop_private.h"
#include "server/loop/tls_private.h"

#define ACCEPTS_PER_WAKE_UP 64 /* then other sockets of the loop have their turn */
#define PAUSE_MS 100           /* without descriptors, accepting again at once would only spin */
#define HANDSHAKE_TIMEOUT_MS 10000

/* One listening socket. Its loop's thread, after listener_start. */
struct acceptor {
    struct listener *listener;
    struct loop *loop;
    int fd;             /* until the loop has it in `sock` */
    h2o_socket_t *sock; /* NULL before the start and after the stop */
    accept_fn fn;
    void *ctx;
    struct timer pause;
    struct loop_msg start_msg;
    struct loop_msg stop_msg;
    h2o_linklist_t handshakes;
};

struct listener {
    struct tls *tls;
    uint16_t port;
    size_t count;
    struct acceptor *acceptors;
    atomic_bool stopping;
};

struct handshake {
    struct timer timer;
    h2o_linklist_t link;
    h2o_socket_t *sock;
    struct loop *loop;
    accept_fn fn;
    void *ctx;
};

static void handshake_free(struct handshake *handshake)
{
    timer_cancel(&handshake->timer);
    h2o_linklist_unlink(&handshake->link);
    free(handshake);
}

static void handshake_abort(struct handshake *handshake)
{
    h2o_socket_t *sock = handshake->sock;

    handshake_free(handshake);
    h2o_socket_close(sock);
}

static void on_handshake_timeout(struct timer *timer)
{
    handshake_abort(container_of(timer, struct handshake, timer));
}

static void on_handshake(h2o_socket_t *sock, const char *h2o_err)
{
    struct handshake *handshake = sock->data;
    accept_fn fn = handshake->fn;
    struct loop *loop = handshake->loop;
    void *ctx = handshake->ctx;

    if (h2o_err != NULL) {
        handshake_abort(handshake);
        return;
    }
    handshake_free(handshake);
    sock->data = NULL;
    fn(ctx, loop, sock);
}

static void handshake_start(struct acceptor *acceptor, h2o_socket_t *sock)
{
    struct handshake *handshake = mem_zalloc(sizeof(*handshake));
    SSL_CTX *ctx = tls_ctx_ref(acceptor->listener->tls);

    handshake->sock = sock;
    handshake->loop = acceptor->loop;
    handshake->fn = acceptor->fn;
    handshake->ctx = acceptor->ctx;
    h2o_linklist_insert(&acceptor->handshakes, &handshake->link);
    timer_arm(acceptor->loop, &handshake->timer, HANDSHAKE_TIMEOUT_MS, on_handshake_timeout);
    sock->data = handshake;
    h2o_socket_ssl_handshake(sock, ctx, NULL, on_handshake);
    SSL_CTX_free(ctx); /* the connection holds its own reference */
}

static void on_acceptable(h2o_socket_t *sock, const char *h2o_err);

static void on_pause_over(struct timer *timer)
{
    struct acceptor *acceptor = container_of(timer, struct acceptor, pause);

    h2o_socket_read_start(acceptor->sock, on_acceptable);
}

static void pause_accepting(struct acceptor *acceptor, int errnum)
{
    struct err err = {0};

    err_sys(&err, errnum, "cannot accept a connection");
    log_err(LOG_WARN, "accepting pauses for 100 ms", NULL, &err);
    h2o_socket_read_stop(acceptor->sock);
    timer_arm(acceptor->loop, &acceptor->pause, PAUSE_MS, on_pause_over);
}

static bool is_passing(int errnum)
{
    /* accept(2): errors of the connection that was waiting, not of the listening socket. */
    return errnum == ECONNABORTED || errnum == EINTR || errnum == EPROTO || errnum == EPERM;
}

static void hand_over(struct acceptor *acceptor, h2o_socket_t *sock)
{
    if (acceptor->listener->tls != NULL)
        handshake_start(acceptor, sock);
    else
        acceptor->fn(acceptor->ctx, acceptor->loop, sock);
}

static void on_acceptable(h2o_socket_t *sock, const char *h2o_err)
{
    struct acceptor *acceptor = sock->data;

    (void)h2o_err;
    for (int i = 0; i < ACCEPTS_PER_WAKE_UP; i++) {
        h2o_socket_t *accepted;

        errno = 0;
        accepted = h2o_evloop_socket_accept(sock);
        if (accepted != NULL) {
            hand_over(acceptor, accepted);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (!is_passing(errno)) {
            pause_accepting(acceptor, errno);
            return;
        }
    }
}

static void on_start_msg(struct loop_msg *msg)
{
    struct acceptor *acceptor = container_of(msg, struct acceptor, start_msg);

    acceptor->sock = h2o_evloop_socket_create(loop_h2o(acceptor->loop), steal_fd(&acceptor->fd),
                                              H2O_SOCKET_FLAG_DONT_READ);
    acceptor->sock->data = acceptor;
    h2o_socket_read_start(acceptor->sock, on_acceptable);
}

static void acceptor_close(struct acceptor *acceptor)
{
    timer_cancel(&acceptor->pause);
    while (!h2o_linklist_is_empty(&acceptor->handshakes))
        handshake_abort(H2O_STRUCT_FROM_MEMBER(struct handshake, link, acceptor->handshakes.next));
    if (acceptor->sock != NULL)
        h2o_socket_close(acceptor->sock);
    acceptor->sock = NULL;
    fd_close(&acceptor->fd);
}

static void on_stop_msg(struct loop_msg *msg)
{
    struct acceptor *acceptor = container_of(msg, struct acceptor, stop_msg);

    /* Connections in the queue have been promised an answer: closing would reset them. */
    if (acceptor->sock != NULL)
        on_acceptable(acceptor->sock, NULL);
    acceptor_close(acceptor);
}

int listener_new(const char *address, struct loop *const *loops, size_t loop_count, struct tls *tls,
                 struct listener **out, struct err *err)
{
    _cleanup_free_ int *fds = mem_calloc(loop_count * ADDRESS_MAX, sizeof(*fds));
    struct listener *listener;
    size_t per_loop = 0;
    uint16_t port = 0;

    if (bind_all(address, loop_count, fds, &per_loop, &port, err) < 0)
        return -1;
    listener = mem_zalloc(sizeof(*listener));
    listener->tls = tls;
    listener->port = port;
    listener->count = loop_count * per_loop;
    listener->acceptors = mem_calloc(listener->count, sizeof(*listener->acceptors));
    for (size_t i = 0; i < listener->count; i++) {
        struct acceptor *acceptor = &listener->acceptors[i];

        acceptor->listener = listener;
        acceptor->loop = loops[i / per_loop];
        acceptor->fd = fds[i];
        acceptor->start_msg.run = on_start_msg;
        acceptor->stop_msg.run = on_stop_msg;
        h2o_linklist_init_anchor(&acceptor->handshakes);
    }
    *out = listener;
    return 0;
}

void listener_start(struct listener *listener, accept_fn fn, void *const *ctxs)
{
    size_t loop = 0;

    for (size_t i = 0; i < listener->count; i++) {
        struct acceptor *acceptor = &listener->acceptors[i];

        if (i > 0 && acceptor->loop != acceptor[-1].loop)
            loop++;
        acceptor->fn = fn;
        acceptor->ctx = ctxs[loop];
        loop_post(acceptor->loop, &acceptor->start_msg);
    }
}

uint16_t listener_port(const struct listener *listener)
{
    return listener->port;
}

void listener_stop(struct listener *listener)
{
    if (atomic_exchange(&listener->stopping, true))
        return;
    for (size_t i = 0; i < listener->count; i++)
        loop_post(listener->acceptors[i].loop, &listener->acceptors[i].stop_msg);
}

void listener_free(struct listener *listener)
{
    if (listener == NULL)
        return;
    for (size_t i = 0; i < listener->count; i++)
        acceptor_close(&listener->acceptors[i]);
    free(listener->acceptors);
    free(listener);
}
