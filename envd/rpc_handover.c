#include <stdio.h>
#include <string.h>

#include "envd/handover.h"
#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

static void save_wire(struct rpc_call *call, struct handover_call *out)
{
    Handover__Call *to = &out->call;

    snprintf(out->path, sizeof(out->path), "/%s/%s", call->method->service, call->method->name);
    to->path = out->path;
    to->codec = call->codec;
    to->stream = call->stream;
    to->gzip = call->gzip;
    to->gzip_answer = call->gzip_answer;
    to->begun = call->begun;
    to->chunked = call->ex->chunked;
    to->held = call->ex->conn->held;
    to->keepalive_ms = call->keepalive_ms;
    to->keepalive_mono_ms = call->keepalive.slot > 0 ? call->keepalive.due_mono_ms : 0;
}

static void save_client_stream(struct rpc_call *call, struct handover_call *out)
{
    const struct client_stream *input = call->input;
    const struct envelope_reader *reader = &input->reader;

    buf_init(&out->reader, ENVELOPE_HEAD_BYTES + reader->payload.max);
    buf_add(&out->reader, reader->head, reader->head_len);
    buf_add(&out->reader, buf_str(&reader->payload), reader->payload.len);
    out->call.reader = handover_bytes(out->reader.data, out->reader.len);
    out->call.pending = handover_bytes(input->pending.data, input->pending.len);
    out->call.paused = input->paused;
}

int call_save(struct rpc_call *call, struct handover_call *out)
{
    *out = (struct handover_call){.call = HANDOVER__CALL__INIT,
                                  .follower = HANDOVER__FOLLOWER__INIT,
                                  .delivery = HANDOVER__DELIVERY__INIT,
                                  .feeder = HANDOVER__FEEDER__INIT};
    if (call->method->save == NULL || call->method->save(call, out) != 0)
        return 1;
    save_wire(call, out);
    if (call->method->kind == RPC_CLIENT_STREAM)
        save_client_stream(call, out);
    return 0;
}

/* ---- Loading ---- */

static const struct route *route_of(const char *path)
{
    char allow[ROUTE_ALLOW_SIZE];
    const struct route *route;
    int status;

    route = route_find("POST", path, &status, allow);
    return route != NULL && route->rpc != NULL && route->rpc->load != NULL ? route : NULL;
}

static int check(const Handover__Call *in, struct err *err)
{
    if (in->codec > CODEC_PROTO || in->keepalive_ms < 0 || in->keepalive_ms > 86400 * 1000 ||
        in->pending.len > CLIENT_STREAM_PENDING_MAX)
        return err_set(err, ERR_INVALID, "a call of the state makes no sense");
    return 0;
}

static int load_client_stream(struct rpc_call *call, const Handover__Call *in, struct err *err)
{
    size_t used = 0;
    int rc = 0;

    client_stream_init(call, wire_message_max(call->method));
    if (in->reader.len > 0)
        rc = envelope_reader_feed(&call->input->reader, (const char *)in->reader.data,
                                  in->reader.len, &used, err);
    if (rc != 0 || used != in->reader.len)
        return err_set(err, ERR_INVALID, "a client stream of the state makes no sense");
    if (in->pending.len > 0)
        buf_add(&call->input->pending, in->pending.data, in->pending.len);
    call->input->paused = in->paused;
    call->ex->body_paused = in->paused;
    return 0;
}

static void load_wire(struct rpc_call *call, const Handover__Call *in)
{
    call->codec = (enum codec)in->codec;
    call->stream = in->stream;
    call->gzip = in->gzip;
    call->gzip_answer = in->gzip_answer;
    call->begun = in->begun;
    call->keepalive_ms = in->keepalive_ms;
    call->ex->begun = in->begun;
    call->ex->chunked = in->chunked;
    call->ex->left = -1;
    call->ex->conn->held = in->held;
    if (in->keepalive_mono_ms > 0)
        call_arm_keepalive(call, in->keepalive_mono_ms - time_mono_ms());
}

int call_load(struct exchange *ex, const Handover__Call *in, int64_t deadline_mono_ms,
              struct err *err)
{
    const struct route *route = route_of(in->path);
    const struct rpc_method *method;
    struct rpc_call *call;

    if (route == NULL)
        return err_set(err, ERR_INVALID, "the state has a call of %.100s", in->path);
    if (check(in, err) < 0)
        return -1;
    ex->route = route;
    method = route->rpc;
    call = call_new(ex, method);
    call->started = true;
    load_wire(call, in);
    if (deadline_mono_ms > 0)
        call_arm_deadline_in(call, deadline_mono_ms - time_mono_ms());
    if ((method->kind != RPC_CLIENT_STREAM || load_client_stream(call, in, err) == 0) &&
        method->load(call, in, err) == 0)
        return 0;
    call_over(call);
    return -1;
}
