/*
 * server/proxy/relay.c - the two states in which a request and its response flow.
 */
#include "server/base/log.h"
#include "server/proxy/forward.h"

static int pump_up(struct forward *fwd, struct err *err)
{
    return flow_pump(&fwd->up, fwd->client, fwd->upstream, connection_upstream_written, err);
}

static int pump_down(struct forward *fwd, struct err *err)
{
    return flow_pump(&fwd->down, fwd->upstream, fwd->client, connection_client_written, err);
}

/* Send the request again on a new connection: envd had closed the kept one. */
static enum step repeat(struct forward *fwd)
{
    sock_close(&fwd->upstream);
    dial_abort(&fwd->dial);
    fwd->fresh_only = true;
    fwd->head_scanned = 0;
    fwd->up.body = fwd->body_start;
    fwd->up.used = 0;
    fwd->up.writing = fwd->up.hold = fwd->up.held = fwd->up.blocked = false;
    fwd->down.eof = fwd->down.failed = false;
    return forward_jump(fwd, FWD_DIAL);
}

/* Upstream ended without a response. */
static enum step no_response(struct forward *fwd)
{
    if (fwd->reused && fwd->up.hold)
        return repeat(fwd);
    return forward_answer(fwd, RESPOND_PORT_CLOSED);
}

/* 100 and 103 go to the client, and the real response is still to come. */
static enum step pass_interim(struct forward *fwd, struct err *err)
{
    if (fwd->http_1_0) { /* a client of that version would not understand */
        buf_reset(&fwd->down.head);
        return STEP_WAIT;
    }
    body_init(&fwd->down.body, BODY_NONE, 0);
    pump_down(fwd, err); /* a body of no bytes cannot be malformed */
    return STEP_WAIT;
}

static enum step got_response(struct forward *fwd, const struct response_head *response,
                              struct err *err)
{
    if (response->status == 101) {
        if (!upgrade_agrees(fwd, response->upgrade)) {
            buf_reset(&fwd->down.head);
            return forward_answer(fwd, RESPOND_PORT_CLOSED);
        }
        h2o_buffer_consume(&fwd->upstream->input, response->size);
        return forward_jump(fwd, FWD_TUNNEL);
    }
    h2o_buffer_consume(&fwd->upstream->input, response->size);
    if (response->status < 200)
        return pass_interim(fwd, err);
    body_init(&fwd->down.body, response->framing, response->content_length);
    fwd->down.body.strip = fwd->http_1_0 && response->framing == BODY_CHUNKED;
    fwd->keep_upstream =
        fwd->port == ENVD_PORT && response->keep_alive && response->framing != BODY_TO_EOF;
    fwd->keep = fwd->keep && response->framing != BODY_TO_EOF;
    return STEP_NEXT;
}

static enum step read_response(struct forward *fwd, struct err *err)
{
    h2o_buffer_t *input = fwd->upstream->input;
    struct response_want want = {
        .head_request = fwd->head_request,
        .http_1_0 = fwd->http_1_0,
        .close = !fwd->keep || fwd->proxy->draining,
        .scanned = fwd->head_scanned,
    };
    struct response_head response;
    int rc = head_pass_response(input->bytes, input->size, &want, &fwd->down.head, &response, err);

    fwd->head_scanned = rc > 0 ? input->size : 0;
    if (rc == 0)
        return got_response(fwd, &response, err);
    if (rc > 0)
        return STEP_WAIT;
    log_err(LOG_DEBUG, "bad response from a sandbox", fwd->id, err);
    return forward_answer(fwd, RESPOND_PORT_CLOSED);
}

enum step relay_response(struct forward *fwd, struct err *err)
{
    enum step step = STEP_WAIT;
    size_t before;

    if (forward_client_gone(fwd))
        return STEP_CLOSE;
    if (fwd->up.hold && fwd->upstream->input->size > 0)
        flow_release(&fwd->up, fwd->client);
    if (pump_up(fwd, err) < 0)
        return forward_answer_text(fwd, 400, err->msg);
    do { /* several interim responses may have come at once */
        before = fwd->upstream->input->size;
        if (before == 0 || fwd->down.writing)
            break;
        step = read_response(fwd, err);
    } while (step == STEP_WAIT && fwd->upstream->input->size < before);
    if (step == STEP_WAIT && !fwd->down.writing && (fwd->down.eof || fwd->down.failed))
        return no_response(fwd);
    return step;
}

/* The response is complete and written. */
static enum step finish(struct forward *fwd)
{
    bool request_done = fwd->up.body.done && !fwd->up.writing && !fwd->up.blocked;

    if (fwd->keep_upstream && request_done && !fwd->down.eof && !fwd->down.failed &&
        fwd->upstream->input->size == 0) {
        pool_put(&fwd->proxy->pool, fwd->id, fwd->run, fwd->upstream);
        fwd->upstream = NULL;
    }
    sock_close(&fwd->upstream);
    if (!request_done)
        return forward_jump(fwd, FWD_LINGER);
    if (fwd->keep && !fwd->proxy->draining)
        return forward_jump(fwd, FWD_IDLE);
    /* TLS says its end only by closing */
    return fwd->client->ssl != NULL && fwd->client->input->size == 0
               ? STEP_CLOSE
               : forward_jump(fwd, FWD_LINGER);
}

enum step relay_stream(struct forward *fwd, struct err *err)
{
    struct flow *down = &fwd->down;

    if (forward_client_gone(fwd))
        return STEP_CLOSE;
    if (pump_up(fwd, err) < 0 || pump_down(fwd, err) < 0) {
        log_err(LOG_DEBUG, "malformed body", fwd->id, err);
        return STEP_RESET;
    }
    if (down->writing)
        return STEP_WAIT;
    if (down->body.kind == BODY_TO_EOF && down->eof)
        down->body.done = true;
    if (down->body.done)
        return finish(fwd);
    return down->eof || down->failed ? STEP_RESET : STEP_WAIT;
}
