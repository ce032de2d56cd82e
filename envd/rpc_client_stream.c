#include "envd/rpc_call.h"
#include "server/base/mem.h"

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
            call_tell_closed(call);
        call_fail(call, &err);
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
            call_fail(call, &err);
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

void client_stream_body(struct exchange *ex, const char *data, size_t len)
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

void client_stream_end(struct rpc_call *call)
{
    struct err err = {0};

    if (envelope_reader_partial(&call->reader)) {
        err_set(&err, ERR_INVALID, "protocol error: incomplete envelope");
        call_tell_closed(call);
        call_fail(call, &err);
        return;
    }
    call->method->end(call);
}
