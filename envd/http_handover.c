#include <string.h>
#include <unistd.h>

#include "envd/conn.h"
#include "envd/handover.h"
#include "envd/http_handover.h"
#include "envd/rpc_call.h"
#include "envd/transfer.h"
#include "server/base/mem.h"
#include "server/base/time.h"

/* A request that is handled again: the owner of its exchange until it is. */
struct again {
    struct http_body framing;
    struct buf body;
    int64_t deadline_mono_ms;
    bool done; /* the body */
};

/* ---- Saving ---- */

static void save_head(const struct request_head *head, struct buf *out)
{
    if (head->memory == NULL)
        return;
    buf_printf(out, "%s %s%s%s HTTP/1.%d\r\n", head->method, head->path,
               head->query[0] != '\0' ? "?" : "", head->query, head->minor);
    for (size_t i = 0; i < head->header_count; i++)
        buf_printf(out, "%s: %s\r\n", head->headers[i].name, head->headers[i].value);
    buf_add_str(out, "\r\n");
}

static Handover__Exchange__Kind kind_of(const struct conn *conn, struct handover_call *call)
{
    struct exchange *ex = conn->ex;

    if (conn->state == CONN_DRAIN)
        return HANDOVER__EXCHANGE__KIND__DRAIN;
    if (ex->owner != NULL && ex->route->rpc != NULL && call_save(ex->owner, call) == 0)
        return HANDOVER__EXCHANGE__KIND__CALL;
    if (conn->state == CONN_HANDLER && ex->route->rpc == NULL)
        return HANDOVER__EXCHANGE__KIND__UPGRADE;
    return HANDOVER__EXCHANGE__KIND__AGAIN;
}

static void save_exchange(const struct conn *conn, Handover__Exchange *out,
                          struct handover_call *call, struct buf *head, struct handover_out *to)
{
    struct exchange *ex = conn->ex; /* whose own connection is unset while it is drained */
    const struct rpc_call *owner = ex->route != NULL && ex->route->rpc != NULL ? ex->owner : NULL;

    save_head(&ex->head, head);
    out->kind = kind_of(conn, call);
    if (out->kind == HANDOVER__EXCHANGE__KIND__CALL)
        out->call = &call->call;
    out->head = handover_bytes(head->data, head->len);
    out->minor = (uint32_t)ex->head.minor;
    out->keep_alive = ex->head.keep_alive;
    out->body_state = ex->framing.state;
    out->body_left = ex->framing.left;
    out->body_digits = ex->framing.digits;
    out->body_line = ex->framing.line;
    out->body_done = conn->state == CONN_HANDLER;
    if (out->kind == HANDOVER__EXCHANGE__KIND__AGAIN)
        out->body = handover_bytes(ex->body.data, ex->body.len);
    if (out->kind == HANDOVER__EXCHANGE__KIND__AGAIN && ex->begun)
        handover_refuse(to, ex->route->path);
    out->continued = ex->continued;
    if (owner != NULL && owner->deadline.slot > 0)
        out->deadline_mono_ms = owner->deadline.due_mono_ms;
}

static void save_conn(struct conn *conn, struct handover_out *out)
{
    Handover__Record record = HANDOVER__RECORD__INIT;
    Handover__Connection to = HANDOVER__CONNECTION__INIT;
    Handover__Exchange exchange = HANDOVER__EXCHANGE__INIT;
    _cleanup_buf_ struct buf head;
    struct handover_call call = {0};

    buf_init(&head, 4 * REQUEST_HEAD_MAX_BYTES);
    to.fd = handover_fd(out, conn->io.fd);
    to.in = handover_bytes(conn->in.data, conn->in.len);
    to.out = handover_bytes(conn->out.data + conn->out_at, conn_backlog(conn));
    to.eof = conn->eof;
    to.close_after = conn->close_after;
    to.linger = conn->state == CONN_LINGER;
    to.drained = conn->drained;
    to.timer_mono_ms = conn->timer.slot > 0 ? conn->timer.due_mono_ms : 0;
    if (conn->ex != NULL) {
        save_exchange(conn, &exchange, &call, &head, out);
        to.exchange = &exchange;
    }
    record.kind_case = HANDOVER__RECORD__KIND_CONNECTION;
    record.connection = &to;
    handover_put(out, &record);
    buf_clear(&call.reader);
}

void http_save(struct http_server *server, struct handover_out *out)
{
    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next)
        save_conn(conn, out);
}

bool http_can_save(const struct http_server *server, const struct exchange *upgrade)
{
    if (!pool_idle(server->files) || !pool_idle(server->disk) || !pool_idle(server->bulk))
        return false;
    for (const struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->state == CONN_WORKER && conn->ex->transfer->begun)
            return false;
        if (conn->state == CONN_HANDLER && conn->ex != upgrade &&
            (conn->ex->route == NULL || conn->ex->route->rpc == NULL))
            return false; /* a loop handler that answers later */
    }
    return true;
}

/* ---- Loading ---- */

static int load_framing(const Handover__Exchange *in, struct http_body *out, struct err *err)
{
    if (in->body_state > BODY_DONE || in->body_digits > 16 || in->body_line > HTTP_BODY_LINE_MAX ||
        in->body_left > INT64_MAX)
        return err_set(err, ERR_INVALID, "a body of the state makes no sense");
    out->state = (enum http_body_state)in->body_state;
    out->left = in->body_left;
    out->digits = in->body_digits;
    out->line = (size_t)in->body_line;
    return 0;
}

static int load_head(const Handover__Exchange *in, struct exchange *ex, struct err *err)
{
    ssize_t used = 0;

    if (in->head.len > 0)
        used = request_head_parse((const char *)in->head.data, in->head.len, &ex->head, err);
    if (used < 0 || (size_t)used != in->head.len)
        return err_set(err, ERR_INVALID, "a request of the state makes no sense");
    ex->head.minor = in->minor == 0 ? 0 : 1;
    ex->head.keep_alive = in->keep_alive;
    ex->continued = in->continued;
    return load_framing(in, &ex->framing, err);
}

static void load_again(struct exchange *ex, const Handover__Exchange *in)
{
    struct again *again = mem_zalloc(sizeof(*again));

    again->framing = ex->framing;
    again->done = in->body_done;
    again->deadline_mono_ms = in->deadline_mono_ms;
    buf_init(&again->body, in->body.len);
    buf_add(&again->body, in->body.data, in->body.len);
    http_body_init(&ex->framing, ex->head.chunked, ex->head.content_length);
    ex->owner = again;
}

static int load_kind(struct exchange *ex, const Handover__Exchange *in, struct err *err)
{
    struct conn *conn = ex->conn;

    conn->state = CONN_HANDLER;
    switch (in->kind) {
    case HANDOVER__EXCHANGE__KIND__DRAIN:
        conn->state = CONN_DRAIN;
        ex->conn = NULL; /* it is answered */
        return 0;
    case HANDOVER__EXCHANGE__KIND__UPGRADE:
        ex->server->upgrade = ex;
        return 0;
    case HANDOVER__EXCHANGE__KIND__CALL:
        if (in->call == NULL)
            break;
        if (!in->body_done)
            conn->state = CONN_BODY;
        return call_load(ex, in->call, in->deadline_mono_ms, err);
    case HANDOVER__EXCHANGE__KIND__AGAIN:
        if (ex->head.memory == NULL)
            break;
        load_again(ex, in);
        return 0;
    default:
        break;
    }
    return err_set(err, ERR_INVALID, "an exchange of the state makes no sense");
}

static int load_exchange(struct conn *conn, const Handover__Exchange *in, struct err *err)
{
    struct exchange *ex = exchange_new(conn);

    conn->ex = ex;
    return load_head(in, ex, err) < 0 ? -1 : load_kind(ex, in, err);
}

static int load_bytes(struct buf *to, const ProtobufCBinaryData *from, struct err *err)
{
    if (from->len > 0 && buf_add(to, from->data, from->len) < 0)
        return err_set(err, ERR_INVALID, "a connection of the state holds too much");
    return 0;
}

int http_load(struct http_server *server, const Handover__Connection *in, struct err *err)
{
    struct conn *conn;
    int fd;

    if (handover_take_fd(in->fd, &fd, err) < 0)
        return -1;
    if (fd < 0)
        return err_set(err, ERR_INVALID, "a connection of the state has no descriptor");
    conn = conn_new(server, fd, err);
    if (conn == NULL)
        return -1;
    conn->eof = in->eof;
    conn->close_after = in->close_after;
    conn->drained = (size_t)in->drained;
    conn->state = in->linger ? CONN_LINGER : CONN_HEAD;
    if (load_bytes(&conn->in, &in->in, err) < 0 || load_bytes(&conn->out, &in->out, err) < 0 ||
        (in->exchange != NULL && load_exchange(conn, in->exchange, err) < 0)) {
        conn_close(conn);
        return -1;
    }
    if (in->timer_mono_ms > 0)
        conn_arm(conn, in->timer_mono_ms - time_mono_ms());
    return 0;
}

/* ---- Going on ---- */

static bool is_again(const struct conn *conn)
{
    return conn->state == CONN_HANDLER && conn->ex->route == NULL && conn->ex->owner != NULL;
}

/* Handle a request from its head on; then what had come of its body. */
static void handle_again(struct conn *conn)
{
    struct exchange *ex = exchange_ref(conn->ex);
    struct again *again = steal_ptr(&ex->owner);

    exchange_dispatch(ex);
    if (again->deadline_mono_ms > 0 && ex->owner != NULL)
        call_arm_deadline_in(ex->owner, again->deadline_mono_ms - time_mono_ms());
    if (conn->ex == ex && conn->state == CONN_BODY && ex->on_body == NULL) {
        ex->framing = again->framing;
        if (again->body.len > 0 && buf_add(&ex->body, again->body.data, again->body.len) < 0) {
            exchange_too_large(ex);
        } else if (again->done) {
            loop_timer_stop(conn->server->loop, &conn->timer);
            conn->state = CONN_HANDLER;
            exchange_body_done(ex);
        }
    }
    buf_clear(&again->body);
    free(again);
    exchange_unref(ex);
}

void http_go_on(struct http_server *server)
{
    struct conn *conn, *next;

    for (conn = server->conns; conn != NULL; conn = next) {
        next = conn->next;
        if (is_again(conn))
            handle_again(conn);
        conn_flush_soon(conn); /* which reads on, too */
    }
}

struct exchange *http_take_upgrade(struct http_server *server)
{
    return steal_ptr(&server->upgrade);
}
