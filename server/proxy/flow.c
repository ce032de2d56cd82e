#include "server/proxy/forward.h"

#define FLOW_KEEP_BYTES 8192 /* of a head's memory, on an idle connection */

void flow_init(struct flow *flow)
{
    *flow = (struct flow){.hint = SOCK_FIRST_READ_BYTES};
    buf_init(&flow->head, HEAD_OUT_MAX_BYTES);
}

void flow_clear(struct flow *flow)
{
    buf_clear(&flow->head);
}

void flow_reset(struct flow *flow)
{
    struct buf head = flow->head;
    bool eof = flow->eof, failed = flow->failed;

    buf_reset(&head);
    if (head.cap > FLOW_KEEP_BYTES)
        buf_clear(&head);
    *flow = (struct flow){.head = head, .hint = SOCK_FIRST_READ_BYTES};
    flow->eof = eof;
    flow->failed = failed;
}

int flow_pump(struct flow *flow, h2o_socket_t *from, h2o_socket_t *to, h2o_socket_cb written,
              struct err *err)
{
    h2o_iovec_t vec[2];
    size_t count = 0, send;

    if (flow->writing || flow->held || flow->blocked)
        return 0;
    if (body_take(&flow->body, from->input->bytes, from->input->size, &flow->used, &send, err) < 0)
        return -1;
    if (flow->head.len > 0)
        vec[count++] = h2o_iovec_init(flow->head.data, flow->head.len);
    if (send > 0) {
        vec[count++] = h2o_iovec_init(from->input->bytes, send);
        h2o_socket_read_stop(from); /* reading could move what is being written */
    }
    if (count == 0) {
        h2o_buffer_consume(&from->input, flow->used); /* framing alone, stripped */
        flow->used = 0;
        return 0;
    }
    flow->writing = true;
    h2o_socket_write(to, vec, count, written);
    return 0;
}

void flow_release(struct flow *flow, h2o_socket_t *from)
{
    flow->hold = false;
    if (flow->writing)
        return;
    flow->held = false;
    buf_reset(&flow->head);
    h2o_buffer_consume(&from->input, flow->used);
    flow->used = 0;
}

void flow_written(struct flow *flow, h2o_socket_t *from)
{
    flow->writing = false;
    if (flow->hold)
        flow->held = true;
    else
        flow_release(flow, from);
}

bool flow_may_read(const struct flow *flow, const h2o_socket_t *from, size_t limit)
{
    return !flow->writing && !flow->eof && !flow->failed && from->input->size < limit;
}
