#include "envd/rpc_call.h"
#include "server/base/mem.h"

#define UNCOUNTED_BYTES (1 << 10) /* of half a message */
#define KEEP_BYTES (16 << 10)     /* for the next message of a stream */

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

/* On to the next one; a large one's memory is not kept. */
static void message_done(struct rpc_call *call)
{
    struct envelope_reader *reader = &call->input->reader;

    if (reader->payload.cap > KEEP_BYTES)
        envelope_reader_clear(reader);
    envelope_reader_next(reader);
    budget_release(call->ex);
}

/* Envelopes of DATA, until the handler pauses or the call is over. Returns the bytes used. */
static size_t take(struct rpc_call *call, const char *data, size_t len)
{
    struct client_stream *input = call->input;
    struct err err = {0};
    size_t at = 0;

    input->taking = true;
    while (!call->over && !input->paused && at < len) {
        size_t used = 0;
        int rc = envelope_reader_feed(&input->reader, data + at, len - at, &used, &err);

        at += used;
        if (rc < 0) {
            call_tell_closed(call);
            call_fail(call, &err);
        } else if (rc > 0) {
            take_message(call);
            message_done(call);
        }
    }
    input->taking = false;
    return at;
}

/* What of a message has come counts; a paused client is not read from. */
static void settle(struct rpc_call *call)
{
    if (call->over)
        return;
    call->ex->body_paused = call->input->paused;
    if (call->input->reader.payload.len > UNCOUNTED_BYTES)
        budget_take(call->ex, call->input->reader.payload.cap, true);
}

static void take_pending(struct rpc_call *call)
{
    struct buf *pending = &call->input->pending;

    call->refs++;
    buf_consume(pending, take(call, buf_str(pending), pending->len));
    if (pending->len == 0)
        buf_clear(pending);
    settle(call);
    call_unref(call);
}

void client_stream_body(struct exchange *ex, const char *data, size_t len)
{
    struct rpc_call *call = ex->owner;
    struct buf *pending = &call->input->pending;
    size_t used = 0;

    call->refs++;
    if (pending->len == 0)
        used = take(call, data, len);
    if (used < len)
        buf_add(pending, data + used, len - used);
    settle(call);
    call_unref(call);
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
