#include <string.h>

#include "envd/rpc_call.h"
#include "server/base/mem.h"

bool rpc_may_take_long(const struct rpc_call *call)
{
    return call->work->bulk;
}

static void worker_run(struct job *job)
{
    struct rpc_work *work = container_of(job, struct rpc_work, job);
    struct rpc_call *call = work->call;

    work->rc = call->method->unary(call, call->request, &call->response, &work->err);
    if (work->rc == 0 && !call->stream)
        work->rc = wire_encode(call, call->response, &work->out, &work->packed, &work->err);
    if (call->stream || work->rc > 0)
        return;
    codec_free(call->response);
    call->response = NULL;
}

static void worker_done(struct job *job)
{
    struct rpc_work *work = container_of(job, struct rpc_work, job);
    struct rpc_call *call = work->call;

    if (work->rc == RPC_AGAIN && !call->over) {
        work->bulk = true;
        if (pool_submit(call->ex->server->bulk, &work->job, worker_run, worker_done, &work->err) ==
            0)
            return; /* WORK is the other thread's now */
        work->rc = -1;
    }
    rpc_finish(call, call->response, work->rc < 0 ? &work->err : NULL);
    call_unref(call);
}

static int start_work(struct rpc_call *call, struct err *err)
{
    call->work = mem_zalloc(sizeof(*call->work));
    call->work->call = call;
    if (pool_submit(call->ex->server->disk, &call->work->job, worker_run, worker_done, err) < 0)
        return -1;
    call->refs++; /* the job's */
    return 0;
}

static void start_method(struct rpc_call *call)
{
    const struct rpc_method *method = call->method;
    struct err err = {0};
    int rc;

    switch (method->kind) {
    case RPC_WORKER:
        rc = method->quick != NULL ? method->quick(call, call->request, &call->response) : 0;
        if (rc > 0)
            rpc_finish(call, call->response, NULL);
        else
            rc = start_work(call, &err);
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
    call->started = true;
    call_trim(call);
}

/* The one message of a body: bare, or in one envelope. */
static int read_request(struct rpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf text;
    bool compressed;
    size_t len;
    const char *body = http_body(call->ex, &len);
    struct envelope envelope;

    buf_init(&text, REQUEST_HEAD_MAX_BYTES);
    if (call->get)
        return wire_read_query(call, &text, &compressed, err) < 0
                   ? -1
                   : wire_decode(call, buf_str(&text), text.len, compressed, &call->request, err);
    if (!call->stream)
        return wire_decode(call, body, len, call->gzip, &call->request, err);
    if (len == 0)
        return err_set(err, ERR_UNSUPPORTED, "unary request has zero messages");
    if (envelope_split(body, len, wire_message_max(call->method), &envelope, err) < 0)
        return -1;
    if (envelope.flags & ENVELOPE_END)
        return err_set(err, ERR_UNSUPPORTED, "unary request has zero messages");
    if (envelope.used != len)
        return err_set(err, ERR_UNSUPPORTED, "unary request has multiple messages");
    return wire_decode(call, envelope.payload, envelope.len,
                       (envelope.flags & ENVELOPE_COMPRESSED) != 0, &call->request, err);
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

void rpc_body_starved(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;
    struct err err = {0};

    err_set(&err, ERR_LIMIT, HTTP_STARVED_TEXT);
    call->refs++;
    call_tell_closed(call);
    call_fail(call, &err);
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
    size_t max = wire_message_max(method);
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
    call_arm_deadline(call);
    if (method->kind == RPC_CLIENT_STREAM)
        client_stream_init(call, max);
    conn_start_body(ex, max + ENVELOPE_HEAD_BYTES);
}
