/* Bytes both ways, with bounded buffers: what one side does not take is not read of the other. */
#include <errno.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/gateway/flow.h"

#define READ_BYTES 32768

/* Read what fits. True: something came, or the end did. */
static bool fill(struct flow *flow, struct end *from, struct pipe *pipe)
{
    static char data[READ_BYTES]; /* one thread; what is read is copied at once */
    size_t max = pipe == &flow->in ? FLOW_BUFFER_BYTES : flow_room(flow); /* a whole head fits */
    size_t left = pipe->data.len < max ? max - pipe->data.len : 0;
    ssize_t n;

    if (pipe->eof || left == 0)
        return false;
    n = end_read(from, data, left < sizeof(data) ? left : sizeof(data));
    if (n == -EAGAIN)
        return false;
    if (n <= 0) {
        pipe->eof = true;
        if (n < 0 && from == &flow->client)
            flow_abort(flow); /* whoever wanted it is gone */
        else if (n < 0)
            flow->cut = true;
        return true;
    }
    if (from == &flow->upstream)
        http_answered(flow, data, (size_t)n);
    buf_add(&pipe->data, data, (size_t)n);
    return true;
}

/* Write what is there, then the end. */
static bool drain(struct flow *flow, struct pipe *pipe, struct end *to)
{
    ssize_t n;

    if (pipe->data.len > 0) {
        n = end_write(to, pipe->data.data, pipe->data.len);
        if (n == -EAGAIN)
            return false;
        if (n < 0) {
            flow_abort(flow);
            return true;
        }
        buf_consume(&pipe->data, (size_t)n);
        if (pipe->data.len == 0 && pipe->data.cap > READ_BYTES)
            buf_clear(&pipe->data); /* idle flows hold no memory */
        return true;
    }
    if (!pipe->eof || pipe->closed)
        return false;
    pipe->closed = true;
    if (!flow->cut)
        end_shut(to);
    return true;
}

/* The sandbox's bytes on their way up. */
static bool go_up(struct flow *flow)
{
    bool moved = fill(flow, &flow->client, flow->kind == KIND_PLAIN ? &flow->up : &flow->in);

    if (flow->state != FLOW_STREAM)
        return true;
    if (flow->kind != KIND_PLAIN) {
        moved |= http_step(flow);
        if (flow->in.eof && flow->in.data.len == 0 && !flow->up.eof) {
            flow->up.eof = true;
            moved = true;
        }
        if (flow->in.eof && flow->http == HTTP_HEAD && flow->in.data.len > 0 && !flow->refused) {
            buf_reset(&flow->in.data); /* half a head: nobody will send the rest */
            moved = true;
        }
    }
    if (flow->upstream.io.fd >= 0)
        moved |= drain(flow, &flow->up, &flow->upstream);
    return moved;
}

bool pump_step(struct flow *flow)
{
    bool moved = go_up(flow);

    if (flow->state != FLOW_STREAM)
        return true;
    if (!flow->refused && flow->upstream.io.fd >= 0)
        moved |= fill(flow, &flow->upstream, &flow->down);
    moved |= drain(flow, &flow->down, &flow->client);
    if (flow->state != FLOW_STREAM)
        return true;
    if (flow->down.closed) {
        if (flow->refused)
            flow_linger(flow);
        else if (flow->cut && flow->kind == KIND_PLAIN)
            flow_abort(flow);
        else if (flow->cut || flow->up.closed || flow->kind != KIND_PLAIN)
            flow_end(flow);
        return true;
    }
    if (moved)
        flow_arm(flow, FLOW_IDLE_MS);
    return moved;
}
