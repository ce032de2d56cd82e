#include <string.h>

#include "envd/rpc_call.h"
#include "server/base/mem.h"

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
        call_fail(call, &err);
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

/* ---- From the HTTP side ---- */

void rpc_body_done(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;
    struct err err = {0};

    if (call->method->kind == RPC_CLIENT_STREAM) {
        client_stream_end(call);
        return;
    }
    call->refs++;
    if (read_request(call, &err) < 0)
        call_fail(call, &err);
    else
        start_method(call);
    call_unref(call);
}

void rpc_body_too_large(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;
    struct err err = {0};

    err_set(&err, ERR_LIMIT, "message is larger than configured max %zu", ex->body.max);
    call_fail(call, &err);
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
        call_fail(call, &err);
        return;
    }
    envelope_reader_init(&call->reader, max);
    buf_init(&call->pending, CLIENT_STREAM_PENDING_MAX);
    call_arm_deadline(call);
    if (method->kind == RPC_CLIENT_STREAM)
        ex->on_body = client_stream_body;
    conn_start_body(ex, max + ENVELOPE_HEAD_BYTES);
}
