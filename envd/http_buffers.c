#include "envd/conn.h"
#include "envd/trim.h"
#include "server/base/mem.h"

#define IDLE_MS 2000                  /* without traffic, then memory goes back to the system */
#define SPARE_OUT_MAX_BYTES (1 << 20) /* a larger buffer is freed at once */
#define SLACK_BYTES 512               /* of a buffer that waits for the rest of a request */

/* Nothing has moved for a while: keep nothing in reserve. */
static void on_idle(struct loop_timer *timer)
{
    struct http_server *server = container_of(timer, struct http_server, idle);

    if (server->busy) {
        server->busy = false;
        loop_timer_set(server->loop, timer, IDLE_MS, on_idle);
        return;
    }
    buf_clear(&server->spare_in);
    buf_clear(&server->spare_out);
    trim_memory();
}

/* The first idle time gives back what starting needed. */
void conn_buffers_init(struct http_server *server)
{
    buf_init(&server->spare_in, CONN_IN_MAX);
    buf_init(&server->spare_out, CONN_OUT_MAX);
    loop_timer_set(server->loop, &server->idle, IDLE_MS, on_idle);
}

/* FROM's memory to TO, which has none; each keeps its maximum. */
static void move(struct buf *from, struct buf *to)
{
    size_t max = to->max;

    *to = *from;
    to->max = max;
    buf_init(from, from->max);
    buf_reset(to);
}

static void note_traffic(struct http_server *server)
{
    server->busy = true;
    if (server->idle.slot == 0)
        loop_timer_set(server->loop, &server->idle, IDLE_MS, on_idle);
}

/* Take the memory of BUF, which holds nothing. */
static void give_back(struct http_server *server, struct buf *spare, struct buf *buf, size_t max)
{
    note_traffic(server);
    if (spare->cap == 0 && buf->cap <= max)
        move(buf, spare);
    else
        buf_clear(buf);
}

void conn_in_borrow(struct conn *conn)
{
    note_traffic(conn->server);
    if (conn->in.cap == 0)
        move(&conn->server->spare_in, &conn->in);
}

void conn_in_settle(struct conn *conn)
{
    struct buf rest = conn->in;

    if (conn->in.cap == 0 || (conn->in.len > 0 && conn->in.cap - conn->in.len <= SLACK_BYTES))
        return;
    buf_init(&conn->in, CONN_IN_MAX);
    if (rest.len > 0)
        buf_add(&conn->in, rest.data, rest.len); /* no more than there is */
    buf_reset(&rest);
    give_back(conn->server, &conn->server->spare_in, &rest, CONN_IN_MAX);
}

void conn_out_borrow(struct conn *conn)
{
    if (conn->out.cap == 0 && conn->state != CONN_WORKER)
        move(&conn->server->spare_out, &conn->out);
}

void conn_out_settle(struct conn *conn)
{
    conn->out_at = 0;
    buf_reset(&conn->out);
    if (conn->out.cap > 0)
        give_back(conn->server, &conn->server->spare_out, &conn->out, SPARE_OUT_MAX_BYTES);
}
