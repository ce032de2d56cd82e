#include "server/proxy/forward.h"

#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"

static enum step run_idle(struct forward *fwd, struct err *err)
{
    (void)err;
    if (fwd->up.failed || (fwd->client->input->size == 0 && (fwd->up.eof || fwd->proxy->draining)))
        return STEP_CLOSE;
    return fwd->client->input->size > 0 ? STEP_NEXT : STEP_WAIT;
}

/* Look again only when a line was completed, so that a slow head costs no more than a fast one. */
static bool head_has_news(struct forward *fwd)
{
    const h2o_buffer_t *input = fwd->client->input;
    size_t from = fwd->head_scanned;

    fwd->head_scanned = input->size;
    return memchr(input->bytes + from, '\n', input->size - from) != NULL;
}

static enum step run_head(struct forward *fwd, struct err *err)
{
    h2o_buffer_t *input = fwd->client->input;
    int rc = 1;

    if (fwd->up.failed)
        return STEP_CLOSE;
    if (input->size > fwd->head_scanned && head_has_news(fwd))
        rc = http_head_scan(input->bytes, input->size, &fwd->proxy->head, err);
    if (rc == 0 && fwd->proxy->head.size <= HEAD_MAX_BYTES)
        return STEP_NEXT;
    fwd->keep = false;
    if (rc < 0)
        return forward_answer_text(fwd, head_refused_status(err->code), err->msg);
    if (input->size >= HEAD_MAX_BYTES)
        return forward_answer_text(fwd, 431, "the request head is too large");
    return fwd->up.eof ? STEP_CLOSE : STEP_WAIT;
}

static enum step run_answer(struct forward *fwd, struct err *err)
{
    struct flow *down = &fwd->down;

    (void)err;
    if (fwd->up.failed)
        return STEP_CLOSE;
    if (down->writing)
        return STEP_WAIT;
    if (down->head.len > 0) {
        h2o_iovec_t vec = h2o_iovec_init(down->head.data, down->head.len);

        down->writing = true;
        h2o_socket_write(fwd->client, &vec, 1, connection_client_written);
        return STEP_WAIT;
    }
    return forward_jump(fwd, fwd->keep ? FWD_IDLE : FWD_LINGER);
}

/*
 * The response came before the request had ended. The client was not told to close, so that it may
 * send its next request after the rest of this one. 0: the rest is not all there; -1: it is not to
 * be followed.
 */
static int skip_request(struct forward *fwd)
{
    h2o_buffer_t **input = &fwd->client->input;
    struct err ignored;
    size_t used, send;

    if (!fwd->keep || fwd->proxy->draining || forward_client_gone(fwd))
        return -1;
    h2o_buffer_consume(input, fwd->up.used); /* upstream has it, or never will */
    fwd->up.used = 0;
    if (body_take(&fwd->up.body, (*input)->bytes, (*input)->size, &used, &send, &ignored) < 0)
        return -1;
    h2o_buffer_consume(input, used);
    return fwd->up.body.done ? 1 : 0;
}

/*
 * Closing with unread bytes at hand sends a reset, which can take the response from the client
 * before it reads it.
 */
static enum step run_linger(struct forward *fwd, struct err *err)
{
    int rc;

    (void)err;
    sock_close(&fwd->upstream);
    fwd->up.writing = false;
    rc = skip_request(fwd);
    if (rc >= 0)
        return rc > 0 ? forward_jump(fwd, FWD_IDLE) : STEP_WAIT;
    fwd->keep = false;
    if (!fwd->down.shut && fwd->client->ssl == NULL)
        sock_shutdown(fwd->client);
    fwd->down.shut = true;
    h2o_buffer_consume(&fwd->client->input, fwd->client->input->size);
    return forward_client_gone(fwd) ? STEP_CLOSE : STEP_WAIT;
}

static enum step expire_close(struct forward *fwd)
{
    (void)fwd;
    return STEP_CLOSE;
}

static enum step expire_head(struct forward *fwd)
{
    fwd->keep = false;
    return forward_answer_text(fwd, 408, "the request head did not arrive in time");
}

static enum step expire_dial(struct forward *fwd)
{
    return forward_answer(fwd, RESPOND_PORT_CLOSED);
}

/* A client that died while nothing is read from it or written to it is noticed here. */
static enum step expire_check(struct forward *fwd)
{
    return sock_is_dead(fwd->client) ? STEP_CLOSE : STEP_WAIT;
}

static const struct {
    const char *name;
    enum step (*run)(struct forward *fwd, struct err *err);
    enum step (*expire)(struct forward *fwd);
    uint32_t timeout_ms; /* 0: the configured idle timeout */
} states[FWD_STATE_COUNT] = {
    [FWD_IDLE] = {"idle", run_idle, expire_close, 0},
    [FWD_HEAD] = {"head", run_head, expire_head, FWD_HEAD_TIMEOUT_MS},
    [FWD_ROUTE] = {"route", route_run, expire_close, FWD_HEAD_TIMEOUT_MS}, /* never waits */
    [FWD_DIAL] = {"dial", dial_run, expire_dial, FWD_DIAL_TIMEOUT_MS},
    [FWD_RESPONSE] = {"response", relay_response, expire_check, FWD_CHECK_INTERVAL_MS},
    [FWD_STREAM] = {"stream", relay_stream, expire_check, FWD_CHECK_INTERVAL_MS},
    [FWD_TUNNEL] = {"tunnel", upgrade_tunnel, expire_check, FWD_CHECK_INTERVAL_MS},
    [FWD_ANSWER] = {"answer", run_answer, expire_close, FWD_ANSWER_TIMEOUT_MS},
    [FWD_LINGER] = {"linger", run_linger, expire_close, FWD_LINGER_TIMEOUT_MS},
    [FWD_WAKE] = {"wake", wake_run, wake_expire, FWD_WAKE_TIMEOUT_MS},
};

const char *forward_state_name(enum fwd_state state)
{
    return states[state].name;
}

bool forward_client_gone(const struct forward *fwd)
{
    return fwd->up.eof || fwd->up.failed;
}

enum step forward_jump(struct forward *fwd, enum fwd_state state)
{
    fwd->jump = state;
    return STEP_JUMP;
}

/* Take the request out of the input; what is not there yet cannot be waited for: close then. */
static void drop_request(struct forward *fwd)
{
    struct body *body = &fwd->up.body;
    h2o_buffer_t **input = &fwd->client->input;
    struct err ignored;
    size_t used, send;

    h2o_buffer_consume(input, fwd->head_size + fwd->up.used);
    fwd->head_size = fwd->up.used = 0;
    if (!body->done && !body_is_whole(body, (*input)->bytes, (*input)->size)) {
        fwd->keep = false;
        return;
    }
    if (body_take(body, (*input)->bytes, (*input)->size, &used, &send, &ignored) == 0)
        h2o_buffer_consume(input, used);
}

static void prepare_answer(struct forward *fwd)
{
    stats_add_error();
    dial_abort(&fwd->dial);
    sock_close(&fwd->upstream);
    fwd->up.writing = fwd->up.hold = fwd->up.held = false;
    drop_request(fwd);
    fwd->keep = fwd->keep && !fwd->proxy->draining;
    fwd->to.close = !fwd->keep;
    buf_reset(&fwd->down.head);
}

enum step forward_answer(struct forward *fwd, enum respond_case what)
{
    if (fwd->down.writing)
        return STEP_RESET; /* an interim response is half out */
    prepare_answer(fwd);
    respond_case(&fwd->down.head, &fwd->to, what);
    return forward_jump(fwd, FWD_ANSWER);
}

enum step forward_answer_text(struct forward *fwd, int status, const char *text)
{
    if (fwd->down.writing)
        return STEP_RESET;
    prepare_answer(fwd);
    respond_text(&fwd->down.head, &fwd->to, status, text);
    return forward_jump(fwd, FWD_ANSWER);
}

size_t forward_client_limit(const struct forward *fwd)
{
    bool flowing = fwd->state >= FWD_RESPONSE && fwd->state <= FWD_TUNNEL;

    return flowing && !fwd->up.body.done ? SOCK_BUFFER_BYTES : HEAD_MAX_BYTES;
}

/* Read from each side exactly when there is room for what comes. */
static void listen_to_both(struct forward *fwd)
{
    sock_listen(fwd->client,
                fwd->state != FWD_ANSWER &&
                    flow_may_read(&fwd->up, fwd->client, forward_client_limit(fwd)),
                connection_client_readable);
    if (fwd->upstream != NULL)
        sock_listen(fwd->upstream, flow_may_read(&fwd->down, fwd->upstream, SOCK_BUFFER_BYTES),
                    connection_upstream_readable);
}

static void on_timeout(struct timer *timer);

static void wait_for_more(struct forward *fwd)
{
    uint32_t timeout_ms = states[fwd->state].timeout_ms;

    listen_to_both(fwd);
    if (!fwd->entered)
        return;
    fwd->entered = false;
    timer_arm(fwd->proxy->loop, &fwd->timer,
              timeout_ms > 0 ? timeout_ms : (int64_t)fwd->proxy->config.idle_timeout_ms,
              on_timeout);
}

static void hand_over(struct forward *fwd)
{
    struct proxy_config config = fwd->proxy->config;
    h2o_socket_t *client = fwd->client;

    sock_release(client);
    fwd->client = NULL;
    connection_free(fwd);
    config.on_api(config.on_api_ctx, client);
}

static void enter(struct forward *fwd, enum fwd_state state)
{
    log_debug("forward", "sandbox_id", fwd->id, "from", states[fwd->state].name, "to",
              states[state].name);
    fwd->proxy->active += (state != FWD_IDLE) - (size_t)(fwd->state != FWD_IDLE);
    fwd->state = state;
    fwd->entered = true;
    if (state == FWD_IDLE)
        connection_next(fwd);
    if (state == FWD_TUNNEL) {
        body_init(&fwd->up.body, BODY_TO_EOF, 0);
        body_init(&fwd->down.body, BODY_TO_EOF, 0);
        stats_add_upgrade();
    }
}

/* The only place where the state changes or the connection ends. True when FWD still exists. */
static bool take_step(struct forward *fwd, enum step step)
{
    switch (step) {
    case STEP_WAIT:
        return true;
    case STEP_NEXT:
        enter(fwd, fwd->state + 1);
        return true;
    case STEP_JUMP:
        enter(fwd, fwd->jump);
        return true;
    case STEP_HANDOVER:
        hand_over(fwd);
        return false;
    case STEP_RESET:
        sock_reset(&fwd->client);
        sock_reset(&fwd->upstream);
        break;
    case STEP_CLOSE:
        break;
    }
    connection_free(fwd);
    return false;
}

void forward_advance(struct forward *fwd)
{
    struct err err = {0};
    enum step step;

    do {
        step = states[fwd->state].run(fwd, &err);
        if (!take_step(fwd, step))
            return;
    } while (step != STEP_WAIT);
    wait_for_more(fwd);
}

static void on_timeout(struct timer *timer)
{
    struct forward *fwd = container_of(timer, struct forward, timer);

    fwd->entered = true; /* arm again */
    if (take_step(fwd, states[fwd->state].expire(fwd)))
        forward_advance(fwd);
}
