#include "envd/rpc_call.h"
#include "server/base/mem.h"

void client_stream_init(struct rpc_call *call, size_t message_max)
{
    call->input = mem_zalloc(sizeof(*call->input));
    envelope_reader_init(&call->input->reader, message_max);
    buf_init(&call->input->pending, CLIENT_STREAM_PENDING_MAX);
    call->ex->on_body = client_stream_body;
}

void client_stream_free(struct client_stream *input)
{
    if (input == NULL)
        return;
    envelope_reader_clear(&input->reader);
    buf_clear(&input->pending);
    free(input);
}

static void take_message(struct rpc_call *call)
{
    _cleanup_message_ ProtobufCMessage *request = NULL;
    struct err err = {0};
    bool compressed = (call->input->reader.head[0] & ENVELOPE_COMPRESSED) != 0;

    if (call->input->reader.head[0] & ENVELOPE_END)
        return; /* a client may send one; the end of the body is what counts */
    if (wire_decode(call, buf_str(&call->input->reader.payload), call->input->reader.payload.len,
                    compressed, &request, &err) < 0 ||
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
    call->input->taking = true;
    while (!call->over && !call->input->paused && call->input->pending.len > 0) {
        size_t used = 0;
        int rc = envelope_reader_feed(&call->input->reader, call->input->pending.data,
                                      call->input->pending.len, &used, &err);

        buf_consume(&call->input->pending, used);
        if (rc < 0) {
            call_tell_closed(call);
            call_fail(call, &err);
        } else if (rc > 0) {
            take_message(call);
            envelope_reader_next(&call->input->reader);
        }
    }
    call->input->taking = false;
    if (!call->over)
        call->ex->body_paused = call->input->paused;
    call_unref(call);
}

void client_stream_body(struct exchange *ex, const char *data, size_t len)
{
    struct rpc_call *call = ex->owner;

    buf_add(&call->input->pending, data, len);
    take_pending(call);
}

void rpc_pause(struct rpc_call *call)
{
    call->input->paused = true;
}

void rpc_resume(struct rpc_call *call)
{
    if (call->over || !call->input->paused)
        return;
    call->input->paused = false;
    if (call->input->taking)
        return; /* it goes on by itself */
    call->refs++;
    take_pending(call);
    if (!call->over && !call->input->paused)
        http_body_resume(call->ex);
    call_unref(call);
}

void client_stream_end(struct rpc_call *call)
{
    struct err err = {0};

    if (envelope_reader_partial(&call->input->reader)) {
        err_set(&err, ERR_INVALID, "protocol error: incomplete envelope");
        call_tell_closed(call);
        call_fail(call, &err);
        return;
    }
    call->method->end(call);
}
