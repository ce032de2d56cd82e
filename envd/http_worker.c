#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "envd/conn.h"
#include "envd/transfer.h"
#include "server/base/mem.h"

static void worker_done(struct job *job);

/* Back to a worker. */
static void resume(struct conn *conn)
{
    struct transfer *transfer = conn->ex->transfer;

    loop_remove(conn->server->loop, &conn->io);
    loop_timer_stop(conn->server->loop, &conn->timer);
    pool_resubmit(conn->server->files, &transfer->job, transfer_run, worker_done);
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

    if (loop_add(conn->server->loop, &conn->io, conn->io.fd, transfer->wait_events, on_parked_io,
                 &err) < 0)
        return false;
    transfer->queued_bytes = undelivered(conn);
    loop_timer_set(conn->server->loop, &conn->timer, conn->server->idle_timeout_ms,
                   on_parked_timeout);
    return true;
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
            pool_resubmit(conn->server->files, job, transfer_run, worker_done);
        }
        return;
    }
    conn->server->transfers--;
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

/* Give the connection of EX to a worker for the first time. */
static int start(struct exchange *ex, struct err *err)
{
    struct conn *conn = ex->conn;
    _cleanup_free_ struct transfer *transfer = NULL;

    if (conn->server->transfers >= TRANSFERS_MAX)
        return err_set(err, ERR_BUSY, "too many file transfers at once, at most %d", TRANSFERS_MAX);
    transfer = mem_zalloc(sizeof(*transfer));
    transfer->ex = ex;
    ex->transfer = transfer;
    loop_remove(conn->server->loop, &conn->io);
    conn_in_settle(conn); /* what is lent is the loop's */
    conn->state = CONN_WORKER;
    if (pool_submit(conn->server->files, &transfer->job, transfer_run, worker_done, err) == 0) {
        conn->server->transfers++;
        transfer = NULL;
        return 0;
    }
    ex->transfer = NULL;
    conn->state = CONN_HANDLER;
    if (loop_add(conn->server->loop, &conn->io, conn->io.fd, EPOLLIN | EPOLLRDHUP, conn_on_io,
                 err) < 0)
        conn_close(conn);
    return -1;
}

void conn_start_blocking(struct exchange *ex)
{
    struct err err = {0};

    if (start(ex, &err) < 0 && ex->conn != NULL)
        http_reply_err(ex, &err);
}
