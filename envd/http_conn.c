#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "envd/conn.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define READ_BYTES ((32 << 10) - 1) /* with a NUL, a power of two */

static void reap(struct loop_msg *msg)
{
    struct conn *conn = container_of(msg, struct conn, reap);

    buf_clear(&conn->in);
    buf_clear(&conn->out);
    free(conn);
}

void conn_close(struct conn *conn)
{
    struct exchange *ex = conn->ex;

    if (conn->state == CONN_CLOSED)
        return;
    conn->state = CONN_CLOSED;
    loop_remove(conn->server->loop, &conn->io);
    loop_timer_stop(conn->server->loop, &conn->timer);
    fd_close(&conn->io.fd);
    conn->server->connections--;
    conn_uncount(conn);
    *conn->link = conn->next;
    if (conn->next != NULL)
        conn->next->link = conn->link;
    conn->ex = NULL;
    conn->in_head = false;
    budget_forget(conn);
    if (ex != NULL) {
        ex->conn = NULL;
        budget_release(ex);
        if (ex->on_gone != NULL)
            ex->on_gone(ex);
        exchange_unref(ex);
    }
    /* A queued flush comes before this in the same queue. */
    loop_soon(conn->server->loop, &conn->reap, reap);
}

static void on_timeout(struct loop_timer *timer)
{
    conn_close(container_of(timer, struct conn, timer));
}

void conn_arm(struct conn *conn, int64_t ms)
{
    loop_timer_set(conn->server->loop, &conn->timer, ms, on_timeout);
}

void conn_watch(struct conn *conn)
{
    bool stalled = (conn->ex != NULL && conn->ex->body_paused) || conn->state == CONN_HANDLER;
    bool waiting = conn->state == CONN_BODY && conn->ex->wanted > 0;
    bool full = conn->in.len >= CONN_IN_MAX || (stalled && conn->in.len > 0) || waiting;
    uint32_t events = EPOLLRDHUP;

    if (!full && !conn->eof)
        events |= EPOLLIN;
    if (conn->eof)
        events = 0;
    if (conn_backlog(conn) > 0)
        events |= EPOLLOUT;
    loop_set(conn->server->loop, &conn->io, events);
}

/* A head has begun to come: it must not take for ever. */
static void note_head(struct conn *conn)
{
    bool in_head = conn->state == CONN_HEAD && conn->in.len > 0 && !conn->close_after;

    if (in_head && !conn->in_head)
        conn_arm(conn, CONN_HEAD_MS);
    conn->in_head = in_head;
}

void conn_advance(struct conn *conn)
{
    conn->advancing = true;
    while (conn_step(conn))
        ;
    conn->advancing = false;
    if (conn->state == CONN_CLOSED || conn->state == CONN_WORKER)
        return;
    conn_in_settle(conn);
    note_head(conn);
    budget_read_ahead(conn);
    if (conn->state == CONN_CLOSED)
        return;
    if (conn->eof && conn->state != CONN_HEAD) {
        conn_close(conn); /* nobody waits for the rest */
        return;
    }
    if (conn->eof && conn_backlog(conn) == 0 && !conn->flush_queued) {
        conn_close(conn);
        return;
    }
    if (conn->eof)
        conn->close_after = true;
    conn_watch(conn);
}

void http_body_resume(struct exchange *ex)
{
    ex->body_paused = false;
    if (ex->conn != NULL && !ex->conn->advancing)
        conn_advance(ex->conn);
}

/* Returns false when the connection is over. */
static bool read_some(struct conn *conn)
{
    size_t room = CONN_IN_MAX - conn->in.len;
    char *to;
    ssize_t n;

    if (room > READ_BYTES)
        room = READ_BYTES;
    conn_in_borrow(conn);
    to = buf_reserve(&conn->in, room);
    n = recv(conn->io.fd, to, room, 0);
    if (n > 0)
        buf_commit(&conn->in, (size_t)n);
    if (n == 0)
        conn->eof = true;
    return n >= 0 || errno == EINTR || errno == EAGAIN;
}

void conn_on_io(struct loop_io *io, uint32_t events)
{
    struct conn *conn = container_of(io, struct conn, io);

    if (events & EPOLLERR) {
        conn_close(conn);
        return;
    }
    if (events & EPOLLOUT) {
        conn_flush(conn);
        if (conn->state == CONN_CLOSED)
            return;
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) == 0)
        return;
    if (conn->in.len >= CONN_IN_MAX || (io->events & EPOLLIN) == 0) {
        /* Nothing can be read now, but the client has gone. */
        if (events & (EPOLLRDHUP | EPOLLHUP))
            conn_close(conn);
        return;
    }
    if (!read_some(conn)) {
        conn_close(conn);
        return;
    }
    if (conn->state == CONN_BODY)
        conn_arm(conn, conn->server->idle_timeout_ms);
    conn_advance(conn);
}
