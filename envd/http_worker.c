#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "envd/conn.h"
#include "envd/transfer.h"
#include "server/base/mem.h"

static void worker_done(struct job *job);
static void on_later(struct loop_timer *timer);

/* To a worker; later, while the sandbox is not allowed one more thread. */
static void submit(struct conn *conn)
{
    struct transfer *transfer = conn->ex->transfer;

    if (!pool_resubmit(conn->server->files, &transfer->job, transfer_run, worker_done))
        loop_timer_set(conn->server->loop, &conn->timer, TRANSFER_RETRY_MS, on_later);
}

static void on_later(struct loop_timer *timer)
{
    submit(container_of(timer, struct conn, timer));
}

/* Back to a worker. */
static void resume(struct conn *conn)
{
    loop_remove(conn->server->loop, &conn->io);
    loop_timer_stop(conn->server->loop, &conn->timer);
    conn->ex->transfer->job.again = true;
    submit(conn);
}

static void on_parked_io(struct loop_io *io, uint32_t events)
{
    (void)events; /* errors too: the handler meets them */
    resume(container_of(io, struct conn, io));
}

static int undelivered(const struct conn *conn)
{
    int bytes = 0;

    return ioctl(conn->io.fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/* Nothing could be moved; but a slow reader may be on its way through a large send buffer. */
static void on_parked_timeout(struct loop_timer *timer)
{
    struct conn *conn = container_of(timer, struct conn, timer);
    struct transfer *transfer = conn->ex->transfer;
    int left = undelivered(conn);

    if ((transfer->wait_events & EPOLLOUT) && left < transfer->queued_bytes) {
        transfer->queued_bytes = left;
        loop_timer_set(conn->server->loop, timer, conn->server->idle_timeout_ms, on_parked_timeout);
        return;
    }
    transfer->broken = true;
    resume(conn);
}

/* The peer has to move first. Returns false when that cannot be watched. */
static bool park(struct conn *conn)
{
    struct transfer *transfer = conn->ex->transfer;
    struct err err;

    if (transfer->wait_events == 0) {
        transfer->job.again = true;
        loop_timer_set(conn->server->loop, &conn->timer, TRANSFER_RETRY_MS, on_later);
        return true;
    }
    if (loop_add(conn->server->loop, &conn->io, conn->io.fd, transfer->wait_events, on_parked_io,
                 &err) < 0)
        return false;
    transfer->queued_bytes = undelivered(conn);
    loop_timer_set(conn->server->loop, &conn->timer, conn->server->idle_timeout_ms,
                   on_parked_timeout);
    return true;
}

static void begin(struct http_server *server, struct transfer *transfer)
{
    server->transfers++;
    submit(transfer->ex->conn);
}

/* One transfer has ended: the next may begin. */
static void begin_next(struct http_server *server)
{
    struct transfer *transfer = server->waiting;

    server->transfers--;
    if (transfer == NULL)
        return;
    server->waiting = transfer->next;
    if (server->waiting == NULL)
        server->waiting_last = &server->waiting;
    server->waiting_count--;
    begin(server, transfer);
}

static void worker_done(struct job *job)
{
    struct transfer *transfer = container_of(job, struct transfer, job);
    struct exchange *ex = transfer->ex;
    struct conn *conn = ex->conn;
    bool broken = transfer->broken;
    struct err err;

    if (!broken && transfer->rc == HTTP_AGAIN) {
        if (!park(conn)) {
            transfer->broken = true;
            resume(conn);
        }
        return;
    }
    begin_next(conn->server);
    ex->transfer = NULL;
    free(transfer);
    if (broken || loop_add(conn->server->loop, &conn->io, conn->io.fd, EPOLLIN | EPOLLRDHUP,
                           conn_on_io, &err) < 0) {
        conn_close(conn);
        return;
    }
    conn->state = CONN_HANDLER;
    conn_answered(conn);
}

void conn_start_blocking(struct exchange *ex)
{
    struct conn *conn = ex->conn;
    struct http_server *server = conn->server;
    struct transfer *transfer;

    if (server->waiting_count >= TRANSFERS_WAITING_MAX) {
        http_reply_error(ex, 503, "more than %d file transfers wait", TRANSFERS_WAITING_MAX);
        return;
    }
    transfer = mem_zalloc(sizeof(*transfer));
    transfer->ex = ex;
    ex->transfer = transfer;
    loop_remove(server->loop, &conn->io);
    conn_in_settle(conn); /* what is lent is the loop's */
    conn->state = CONN_WORKER;
    if (server->transfers < TRANSFERS_MAX) {
        begin(server, transfer);
        return;
    }
    *server->waiting_last = transfer;
    server->waiting_last = &transfer->next;
    server->waiting_count++;
}
