#include <string.h>

#include "envd/conn.h"
#include "server/base/mem.h"

#define CHUNKED_FIRST_BYTES (16 << 10) /* of a body whose length is not known */

static void refuse_head(struct conn *conn, const struct err *why)
{
    struct exchange *ex = conn->ex;
    int status = why->code == ERR_LIMIT ? 431 : why->code == ERR_UNSUPPORTED ? 505 : 400;

    ex->head.keep_alive = false;
    ex->continued = true;
    http_body_init(&ex->framing, false, 0);
    http_reply_error(ex, status, "%s", why->msg);
}

/* Returns true when there is more to do. */
static bool step_head(struct conn *conn)
{
    struct err err = {0};
    struct exchange *ex;
    struct request_head head;
    ssize_t used;

    if (conn->close_after)
        return false;
    used = conn->in.len > 0 ? request_head_parse(conn->in.data, conn->in.len, &head, &err) : 0;
    if (used == 0)
        return false;
    ex = exchange_new(conn);
    conn->ex = ex;
    conn->state = CONN_HANDLER;
    loop_timer_stop(conn->server->loop, &conn->timer);
    if (used < 0) {
        refuse_head(conn, &err);
        return true;
    }
    buf_consume(&conn->in, (size_t)used);
    ex->head = head;
    ex->continued = !head.expect_continue;
    http_body_init(&ex->framing, head.chunked, head.content_length);
    exchange_dispatch(ex);
    return true;
}

/* One slice of the body to its handler. Returns false when the body is not wanted (answered). */
static void body_slice(struct conn *conn, const char *data, size_t len)
{
    struct exchange *ex = conn->ex;

    if (ex->on_body != NULL) {
        ex->on_body(ex, data, len);
        return;
    }
    if (buf_add(&ex->body, data, len) < 0)
        exchange_too_large(ex);
    else
        budget_take(ex, ex->head.chunked ? ex->body.cap : 0, true);
}

/* The framing of the body is wrong. */
static void refuse_body(struct exchange *ex)
{
    ex->head.keep_alive = false;
    if (ex->begun) {
        conn_close(ex->conn);
        return;
    }
    exchange_ref(ex);
    if (ex->on_gone != NULL) /* who waited for the body waits in vain */
        ex->on_gone(ex);
    http_reply_error(ex, 400, "malformed request body");
    exchange_unref(ex);
}

static bool step_body(struct conn *conn)
{
    struct exchange *ex = conn->ex;
    const char *data = NULL;
    size_t used = 0, len = 0;
    enum http_body_step step;

    if (ex->body_paused || ex->wanted > 0)
        return false;
    step = http_body_next(&ex->framing, buf_str(&conn->in), conn->in.len, &used, &data, &len);
    if (step == HTTP_BODY_DATA)
        body_slice(conn, data, len); /* DATA points into conn->in */
    buf_consume(&conn->in, used);
    if (step == HTTP_BODY_BAD) {
        refuse_body(ex);
        return true;
    }
    if (step == HTTP_BODY_END) {
        loop_timer_stop(conn->server->loop, &conn->timer);
        conn->state = CONN_HANDLER;
        budget_release(ex);
        exchange_body_done(ex);
    }
    return step != HTTP_BODY_MORE;
}

static bool step_drain(struct conn *conn)
{
    const char *data;
    size_t used = 0, len = 0;
    enum http_body_step step;

    step = http_body_next(&conn->ex->framing, buf_str(&conn->in), conn->in.len, &used, &data, &len);
    buf_consume(&conn->in, used);
    conn->drained += used;
    if (step == HTTP_BODY_MORE && conn->drained <= CONN_DRAIN_MAX)
        return false;
    if (step == HTTP_BODY_DATA && conn->drained <= CONN_DRAIN_MAX)
        return true;
    exchange_unref(conn->ex);
    conn->ex = NULL;
    conn->state = CONN_HEAD;
    conn->close_after = step != HTTP_BODY_END;
    conn_arm(conn, HTTP_KEEPALIVE_MS);
    conn_flush_soon(conn);
    return step == HTTP_BODY_END;
}

static bool step_linger(struct conn *conn)
{
    conn->drained += conn->in.len;
    buf_reset(&conn->in);
    if (conn->drained > CONN_DRAIN_MAX)
        conn_close(conn);
    return false;
}

bool conn_step(struct conn *conn)
{
    switch (conn->state) {
    case CONN_HEAD:
        return step_head(conn);
    case CONN_BODY:
        return step_body(conn);
    case CONN_DRAIN:
        return step_drain(conn);
    case CONN_LINGER:
        return step_linger(conn);
    default:
        return false;
    }
}

void conn_start_body(struct exchange *ex, size_t max)
{
    struct conn *conn = ex->conn;

    buf_init(&ex->body, max);
    conn->state = CONN_BODY;
    conn_arm(conn, conn->server->idle_timeout_ms);
    if (ex->on_body == NULL && !ex->head.chunked && (uint64_t)ex->head.content_length > max) {
        exchange_too_large(ex);
        return;
    }
    if (ex->on_body == NULL)
        budget_take(ex, ex->head.chunked ? CHUNKED_FIRST_BYTES : (size_t)ex->head.content_length,
                    false);
    if (!ex->continued) {
        buf_add_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
        ex->continued = true;
        conn_flush_soon(conn);
    }
}
