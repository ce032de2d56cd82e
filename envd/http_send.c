#include <errno.h>
#include <sys/socket.h>

#include "envd/conn.h"
#include "server/base/mem.h"

size_t conn_backlog(const struct conn *conn)
{
    return conn->out.len - conn->out_at;
}

bool http_is_scarce(const struct http_server *server)
{
    return server->backlog > CONN_OUT_TOTAL_HIGH;
}

static void count(struct conn *conn, size_t backlog)
{
    conn->server->backlog += backlog - conn->counted;
    conn->counted = backlog;
}

void conn_count(struct conn *conn)
{
    count(conn, conn_backlog(conn));
    if (conn->counted > (http_is_scarce(conn->server) ? 0 : CONN_OUT_HIGH))
        conn->held = true;
}

void conn_uncount(struct conn *conn)
{
    count(conn, 0);
}

/* Send what is ready. Returns 0, or -1 when the connection is over. */
static int send_out(struct conn *conn)
{
    while (conn_backlog(conn) > 0) {
        ssize_t n =
            send(conn->io.fd, conn->out.data + conn->out_at, conn_backlog(conn), MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            return -1;
        conn->out_at += (size_t)n;
    }
    conn_out_settle(conn);
    return 0;
}

static void linger(struct conn *conn)
{
    shutdown(conn->io.fd, SHUT_WR);
    conn->state = CONN_LINGER;
    conn->drained = 0;
    buf_clear(&conn->in);
    conn_arm(conn, CONN_LINGER_MS);
}

void conn_flush(struct conn *conn)
{
    if (conn->state == CONN_CLOSED || conn->state == CONN_WORKER)
        return;
    if (conn->out.overflow || send_out(conn) < 0) {
        conn_close(conn);
        return;
    }
    count(conn, conn_backlog(conn));
    if (conn->held && conn->counted <= (http_is_scarce(conn->server) ? 0 : CONN_OUT_LOW)) {
        conn->held = false;
        if (conn->ex != NULL && conn->ex->on_writable != NULL)
            conn->ex->on_writable(conn->ex);
    }
    if (conn->state == CONN_HEAD && conn->close_after && conn_backlog(conn) == 0) {
        if (conn->eof)
            conn_close(conn);
        else
            linger(conn);
    }
    if (conn->state != CONN_CLOSED)
        conn_watch(conn);
}

static void flush_queued(struct loop_msg *msg)
{
    struct conn *conn = container_of(msg, struct conn, flush);

    conn->flush_queued = false;
    conn_flush(conn);
    if (conn->state == CONN_HEAD || conn->state == CONN_DRAIN || conn->state == CONN_BODY)
        conn_advance(conn); /* the next request, or body, may have been read already */
}

void conn_flush_soon(struct conn *conn)
{
    if (conn->flush_queued || conn->state == CONN_CLOSED)
        return;
    conn->flush_queued = true;
    loop_soon(conn->server->loop, &conn->flush, flush_queued);
}

void conn_answered(struct conn *conn)
{
    struct exchange *ex = conn->ex;
    bool complete = http_body_done(&ex->framing);

    /* A client that waits for "100 Continue" may or may not send the body now. */
    if (!ex->head.keep_alive || (!complete && !ex->continued))
        conn->close_after = true;
    conn->ex = NULL;
    ex->conn = NULL;
    conn->held = false;
    conn->drained = 0;
    conn->state = complete || conn->close_after ? CONN_HEAD : CONN_DRAIN;
    if (conn->state == CONN_DRAIN) {
        conn->ex = ex; /* its framing says where the body ends */
        ex->on_gone = NULL;
        ex->on_writable = NULL;
        ex->on_body = NULL;
        ex->body_paused = false;
    }
    conn_arm(conn, conn->state == CONN_DRAIN ? CONN_DRAIN_MS : HTTP_KEEPALIVE_MS);
    if (conn->state != CONN_DRAIN)
        exchange_unref(ex);
    conn_flush_soon(conn);
}
