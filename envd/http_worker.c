#include "envd/conn.h"
#include "server/base/mem.h"

static void worker_done(struct job *job)
{
    struct exchange *ex = container_of(job, struct blocking, job)->ex;
    struct conn *conn = ex->conn;
    struct err err;

    if (ex->broken || loop_add(conn->server->loop, &conn->io, conn->io.fd, EPOLLIN | EPOLLRDHUP,
                               conn_on_io, &err) < 0) {
        conn_close(conn);
        return;
    }
    conn->state = CONN_HANDLER;
    conn_answered(conn);
}

/* Give the connection of EX to a worker. */
static int start_worker(struct exchange *ex, struct err *err)
{
    struct conn *conn = ex->conn;

    ex->blocking = mem_zalloc(sizeof(*ex->blocking));
    ex->blocking->ex = ex;
    loop_remove(conn->server->loop, &conn->io);
    conn_in_settle(conn); /* what is lent is the loop's */
    conn->state = CONN_WORKER;
    if (pool_submit(conn->server->files, &ex->blocking->job, exchange_run_blocking, worker_done,
                    err) == 0)
        return 0;
    conn->state = CONN_HANDLER;
    if (loop_add(conn->server->loop, &conn->io, conn->io.fd, EPOLLIN | EPOLLRDHUP, conn_on_io,
                 err) < 0)
        conn_close(conn);
    return -1;
}

void conn_start_blocking(struct exchange *ex)
{
    struct err err = {0};

    if (start_worker(ex, &err) < 0 && ex->conn != NULL)
        http_reply_err(ex, &err);
}
