#include "envd/rpc.h"

#include <string.h>

#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/str.h"

/* A client stream holds at most this beside its message while it is paused. */
#define PENDING_MAX (1 << 20)

const struct settings *rpc_settings(const struct rpc_call *call)
{
    return http_settings(call->ex);
}

const char *rpc_header(const struct rpc_call *call, const char *name)
{
    return http_header(call->ex, name);
}

int64_t rpc_timeout_ms(const struct rpc_call *call)
{
    return call->timeout_ms;
}

void rpc_set_state(struct rpc_call *call, void *state)
{
    call->state = state;
}

void *rpc_state(const struct rpc_call *call)
{
    return call->state;
}

void rpc_set_code(struct rpc_call *call, enum connect_code code)
{
    call->code = code;
}

const struct user *rpc_user(struct rpc_call *call, struct err *err)
{
    const char *name = rpc_settings(call)->default_user;
    struct user *user;

    if (call->ex->user != NULL)
        return call->ex->user;
    if (call->user != NULL)
        return call->user;
    if (name[0] == '\0') {
        err_set(err, ERR_UNAUTHENTICATED, "no user specified");
        return NULL;
    }
    user = mem_zalloc(sizeof(*user));
    if (user_find(name, user) < 0) {
        free(user);
        err_set(err, ERR_UNAUTHENTICATED, "invalid default user: '%s'", name);
        return NULL;
    }
    call->user = user;
    return user;
}

struct loop *rpc_loop(const struct rpc_call *call)
{
    return call->ex->server->loop;
}

static void call_unref(struct rpc_call *call)
{
    if (--call->refs > 0)
        return;
    loop_timer_stop(rpc_loop(call), &call->deadline);
    loop_timer_stop(rpc_loop(call), &call->keepalive);
    envelope_reader_clear(&call->reader);
    buf_clear(&call->pending);
    codec_free(call->request);
    codec_free(call->response);
    free(call->user);
    exchange_unref(call->ex);
    free(call);
}

/* Nothing more is sent or heard. Drops the reference that the open call was. */
static void call_over(struct rpc_call *call)
{
    call->over = true;
    loop_timer_stop(rpc_loop(call), &call->deadline);
    loop_timer_stop(rpc_loop(call), &call->keepalive);
    call->ex->owner = NULL;
    call->ex->on_gone = NULL;
    call->ex->on_writable = NULL;
    call->ex->on_body = NULL;
    call_unref(call);
}

void rpc_finish(struct rpc_call *call, const ProtobufCMessage *response, const struct err *err)
{
    if (call->over)
        return;
    call->refs++;
    call_over(call);
    wire_finish(call, response, err);
    call_unref(call);
}

/* Tell a handler that has taken charge and did not finish. */
static void tell_closed(struct rpc_call *call)
{
    if (call->method->closed != NULL && call->state != NULL)
        call->method->closed(call);
}

static void on_gone(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;

    call->refs++;
    call_over(call);
    tell_closed(call);
    call_unref(call);
}

static void on_deadline(struct loop_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, deadline);
    struct err err = {0};

    err_set(&err, ERR_TIMEOUT, "context deadline exceeded");
    call->refs++;
    tell_closed(call);
    rpc_finish(call, NULL, &err);
    call_unref(call);
}

static void on_silence(struct loop_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, keepalive);

    rpc_send(call, call->method->keepalive);
}

int rpc_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct err err = {0};

    if (call->over)
        return -1;
    if (wire_send(call, message, &err) < 0) {
        call->refs++;
        tell_closed(call);
        rpc_finish(call, NULL, &err);
        call_unref(call);
        return -1;
    }
    if (call->method->keepalive != NULL)
        loop_timer_set(rpc_loop(call), &call->keepalive, call->keepalive_ms, on_silence);
    return conn_backlog(call->ex->conn) > CONN_OUT_HIGH ? 0 : 1;
}

static void on_writable(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;

    if (call->method->writable != NULL)
        call->method->writable(call);
}

/* ---- Starting methods ---- */

static void fail(struct rpc_call *call, const struct err *err)
{
    rpc_finish(call, NULL, err);
}

static void worker_run(struct job *job)
{
    struct rpc_call *call = container_of(job, struct rpc_call, job);

    call->rc = call->method->unary(call, call->request, &call->response, &call->err);
}

static void worker_done(struct job *job)
{
    struct rpc_call *call = container_of(job, struct rpc_call, job);

    rpc_finish(call, call->response, call->rc < 0 ? &call->err : NULL);
    call_unref(call);
}

static void start_method(struct rpc_call *call)
{
    const struct rpc_method *method = call->method;
    struct err err = {0};
    int rc;

    switch (method->kind) {
    case RPC_WORKER:
        call->refs++; /* the job's */
        rc = pool_submit(call->ex->server->disk, &call->job, worker_run, worker_done, &err);
        if (rc < 0)
            call_unref(call);
        break;
    case RPC_UNARY:
        rc = method->unary(call, call->request, &call->response, &err);
        if (rc == 0)
            rpc_finish(call, call->response, NULL);
        break;
    default:
        rc = method->start(call, call->request, &err);
        break;
    }
    if (rc < 0)
        fail(call, &err);
}

/* The one message of a body: bare, or in one envelope. */
static int read_request(struct rpc_call *call, struct err *err)
{
    size_t len, used = 0;
    const char *body = http_body(call->ex, &len);
    int rc;

    if (!call->stream)
        return wire_decode(call, body, len, call->gzip, &call->request, err);
    rc = envelope_reader_feed(&call->reader, body, len, &used, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return err_set(err, ERR_INVALID, "protocol error: incomplete envelope");
    if (call->reader.head[0] & ENVELOPE_END)
        return err_set(err, ERR_UNSUPPORTED, "unary request has zero messages");
    if (used != len)
        return err_set(err, ERR_UNSUPPORTED, "unary request has multiple messages");
    return wire_decode(call, buf_str(&call->reader.payload), call->reader.payload.len,
                       (call->reader.head[0] & ENVELOPE_COMPRESSED) != 0, &call->request, err);
}

/* ---- Client streams ---- */

static void take_message(struct rpc_call *call)
{
    _cleanup_message_ ProtobufCMessage *request = NULL;
    struct err err = {0};
    bool compressed = (call->reader.head[0] & ENVELOPE_COMPRESSED) != 0;

    if (call->reader.head[0] & ENVELOPE_END)
        return; /* a client may send one; the end of the body is what counts */
    if (wire_decode(call, buf_str(&call->reader.payload), call->reader.payload.len, compressed,
                    &request, &err) < 0 ||
        call->method->start(call, request, &err) < 0) {
        if (!call->over)
            tell_closed(call);
        fail(call, &err);
    }
}

/* Envelopes from what has arrived, until the handler pauses or the call is over. */
static void take_pending(struct rpc_call *call)
{
    struct err err = {0};

    call->refs++;
    call->taking = true;
    while (!call->over && !call->paused && call->pending.len > 0) {
        size_t used = 0;
        int rc =
            envelope_reader_feed(&call->reader, call->pending.data, call->pending.len, &used, &err);

        buf_consume(&call->pending, used);
        if (rc < 0)
            fail(call, &err);
        else if (rc > 0) {
            take_message(call);
            envelope_reader_next(&call->reader);
        }
    }
    call->taking = false;
    if (!call->over)
        call->ex->body_paused = call->paused;
    call_unref(call);
}

static void on_body(struct exchange *ex, const char *data, size_t len)
{
    struct rpc_call *call = ex->owner;

    buf_add(&call->pending, data, len);
    take_pending(call);
}

void rpc_pause(struct rpc_call *call)
{
    call->paused = true;
}

void rpc_resume(struct rpc_call *call)
{
    if (call->over || !call->paused)
        return;
    call->paused = false;
    if (call->taking)
        return; /* it goes on by itself */
    call->refs++;
    take_pending(call);
    if (!call->over && !call->paused)
        http_body_resume(call->ex);
    call_unref(call);
}

static void end_client_stream(struct rpc_call *call)
{
    struct err err = {0};

    if (envelope_reader_partial(&call->reader)) {
        err_set(&err, ERR_INVALID, "protocol error: incomplete envelope");
        tell_closed(call);
        fail(call, &err);
        return;
    }
    call->method->end(call);
}

/* ---- From the HTTP side ---- */

void rpc_body_done(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;
    struct err err = {0};

    if (call->method->kind == RPC_CLIENT_STREAM) {
        end_client_stream(call);
        return;
    }
    call->refs++;
    if (read_request(call, &err) < 0)
        fail(call, &err);
    else
        start_method(call);
    call_unref(call);
}

void rpc_body_too_large(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;
    struct err err = {0};

    err_set(&err, ERR_LIMIT, "message is larger than configured max %zu", ex->body.max);
    fail(call, &err);
}

static struct rpc_call *call_new(struct exchange *ex, const struct rpc_method *method)
{
    struct rpc_call *call = mem_zalloc(sizeof(*call));

    call->refs = 1;
    call->ex = exchange_ref(ex);
    call->method = method;
    ex->owner = call;
    ex->on_gone = on_gone;
    ex->on_writable = on_writable;
    return call;
}

/* What can be said from the head alone. */
static int check_head(struct rpc_call *call, struct err *err)
{
    if (call->ex->bad_user != NULL)
        return err_set(err, ERR_UNAUTHENTICATED, "invalid username: '%.256s'", call->ex->bad_user);
    return wire_read_head(call, err);
}

void rpc_begin(struct exchange *ex, const struct rpc_method *method)
{
    struct rpc_call *call = call_new(ex, method);
    size_t max = method->body_max_bytes > 0 ? method->body_max_bytes : RPC_BODY_MAX_BYTES;
    struct err err = {0};

    if (!wire_read_type(call)) {
        call_over(call);
        wire_refuse_type(ex, method);
        return;
    }
    if (check_head(call, &err) < 0) {
        fail(call, &err);
        return;
    }
    envelope_reader_init(&call->reader, max);
    buf_init(&call->pending, PENDING_MAX);
    if (call->timeout_ms > 0 && !method->owns_timeout)
        loop_timer_set(rpc_loop(call), &call->deadline, call->timeout_ms, on_deadline);
    if (method->kind == RPC_CLIENT_STREAM)
        ex->on_body = on_body;
    conn_start_body(ex, max + ENVELOPE_HEAD_BYTES);
}
