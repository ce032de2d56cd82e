#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "envd/conn.h"
#include "server/base/log.h"
#include "server/base/mem.h"

#define ACCEPT_RETRY_MS 100
#define ACCEPT_BATCH 64

struct conn *conn_new(struct http_server *server, int fd, struct err *err)
{
    struct conn *conn = mem_zalloc(sizeof(*conn));

    conn->server = server;
    buf_init(&conn->in, CONN_IN_MAX);
    buf_init(&conn->out, CONN_OUT_MAX);
    if (loop_add(server->loop, &conn->io, fd, EPOLLIN | EPOLLRDHUP, conn_on_io, err) < 0) {
        close(fd);
        free(conn);
        return NULL;
    }
    server->connections++;
    conn->link = &server->conns;
    conn->next = server->conns;
    if (conn->next != NULL)
        conn->next->link = &conn->next;
    server->conns = conn;
    return conn;
}

static void accepted(struct http_server *server, int fd)
{
    struct err err = {0};
    struct conn *conn;
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    conn = conn_new(server, fd, &err);
    if (conn != NULL)
        conn_arm(conn, HTTP_KEEPALIVE_MS);
}

static void accept_again(struct loop_timer *timer)
{
    struct http_server *server = container_of(timer, struct http_server, accept_again);

    loop_set(server->loop, &server->listener, EPOLLIN);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
    struct http_server *server = container_of(io, struct http_server, listener);

    (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            accepted(server, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_warn("no descriptor for a connection");
            loop_set(server->loop, io, 0);
            loop_timer_set(server->loop, &server->accept_again, ACCEPT_RETRY_MS, accept_again);
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

struct http_server *http_server_new(struct loop *loop, int fd, struct err *err)
{
    struct http_server *server = mem_zalloc(sizeof(*server));

    server->loop = loop;
    server->waiting_last = &server->waiting;
    server->idle_timeout_ms = HTTP_IDLE_TIMEOUT_MS;
    conn_buffers_init(server);
    server->files = pool_new(loop, "envd-files", 64, 1024);
    server->disk = pool_new(loop, "envd-disk", 8, 4096);
    server->bulk = pool_new(loop, "envd-bulk", 8, 4096);
    if (loop_add(loop, &server->listener, fd, EPOLLIN, on_accept, err) < 0)
        return NULL;
    return server;
}
