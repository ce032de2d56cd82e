#include "server/proxy/dial.h"

#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/loop/tls_client.h"
#include "server/proxy/forward.h"

/* Pauses after both addresses refused; a second in all. */
static const uint16_t pauses_ms[] = {20, 40, 80, 160, 320, 380};

/* The engine calls back exactly once, maybe after the client has gone. */
struct dial_call {
    struct forward *fwd; /* NULL when nobody waits any more */
};

static void start(struct forward *fwd);
static void connecting(struct forward *fwd, int fd);

static void on_pause_end(struct timer *timer)
{
    struct forward *fwd = container_of(timer, struct forward, dial.timer);

    start(fwd);
    if (fwd->dial.phase == DIAL_CONNECTED)
        forward_advance(fwd);
}

/* Even attempts go to 127.0.0.1, odd ones to [::1] at once after it. */
static void refused(struct forward *fwd)
{
    struct dial *dial = &fwd->dial;
    unsigned done = ++dial->attempt;

    if (done % 2 != 0) {
        start(fwd);
        return;
    }
    if (done / 2 > array_size(pauses_ms)) {
        dial->phase = DIAL_GAVE_UP;
        return;
    }
    dial->phase = DIAL_PAUSING;
    timer_arm(fwd->proxy->loop, &dial->timer, pauses_ms[done / 2 - 1], on_pause_end);
}

/* A service that does not speak TLS after all is as good as none. */
static void on_handshake(h2o_socket_t *sock, const char *h2o_err)
{
    struct forward *fwd = sock->data;

    if (!tls_client_failed(h2o_err)) {
        fwd->dial.phase = DIAL_CONNECTED;
    } else {
        log_debug("no TLS with a service", "sandbox_id", fwd->id, "problem", h2o_err);
        sock_close(&fwd->dial.sock);
        fwd->dial.phase = DIAL_GAVE_UP;
    }
    forward_advance(fwd);
}

/* The connection is there. */
static void ready(struct forward *fwd)
{
    if (!fwd->https) {
        fwd->dial.phase = DIAL_CONNECTED;
        return;
    }
    fwd->dial.phase = DIAL_HANDSHAKE;
    tls_client_start(fwd->dial.sock, on_handshake);
}

static void on_connected(h2o_socket_t *sock, const char *h2o_err)
{
    struct forward *fwd = sock->data;

    if (h2o_err == NULL) {
        ready(fwd);
    } else {
        sock_close(&fwd->dial.sock);
        refused(fwd);
    }
    forward_advance(fwd);
}

static void on_dialled(void *ctx, int fd, const struct err *err)
{
    struct dial_call *call = ctx;
    struct forward *fwd = call->fwd;

    free(call);
    if (fwd == NULL) {
        fd_close(&fd);
        return;
    }
    fwd->dial.call = NULL;
    if (fd >= 0) {
        connecting(fwd, fd);
        if (fwd->dial.phase == DIAL_CONNECTED)
            forward_advance(fwd);
        return;
    }
    if (err->code == ERR_NOT_FOUND) {
        fwd->dial.phase = DIAL_NO_SANDBOX;
    } else {
        log_err(LOG_DEBUG, "dial failed", fwd->id, err);
        refused(fwd);
    }
    forward_advance(fwd);
}

/* FD's connect has begun; over loopback it has mostly ended too. */
static void connecting(struct forward *fwd, int fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    bool done = getpeername(fd, (struct sockaddr *)&peer, &len) == 0;

    fwd->dial.phase = DIAL_CONNECTING;
    fwd->dial.sock = h2o_evloop_socket_create(loop_h2o(fwd->proxy->loop), fd,
                                              done ? 0 : H2O_SOCKET_FLAG_IS_CONNECTING);
    fwd->dial.sock->data = fwd;
    if (done)
        ready(fwd);
    else
        h2o_socket_notify_write(fwd->dial.sock, on_connected);
}

/* Without waiting, where the engine can. */
static bool start_now(struct forward *fwd, struct engine *engine)
{
    bool ipv6 = fwd->dial.attempt % 2 != 0;
    int fd = -1;

    if (!ipv6 && engine->ops->dial_now != NULL)
        fd = engine->ops->dial_now(engine, fwd->id, fwd->port);
    if (fd < 0)
        return false;
    fwd->dial.local = true;
    connecting(fwd, fd);
    return true;
}

/* Ends in phase CALLING, CONNECTING, HANDSHAKE or CONNECTED. */
static void start(struct forward *fwd)
{
    struct engine *engine = lifecycle_engine(fwd->proxy->config.lifecycle);
    struct dial_call *call;

    fwd->dial.local = false;
    if (start_now(fwd, engine))
        return;
    call = mem_zalloc(sizeof(*call));
    call->fwd = fwd;
    fwd->dial.phase = DIAL_CALLING;
    fwd->dial.call = call;
    engine->ops->dial(engine, fwd->proxy->loop, fwd->id, fwd->port, fwd->dial.attempt % 2 != 0,
                      on_dialled, call);
}

/* An idle connection of this run of the sandbox, if this request could be repeated on another. */
static bool from_pool(struct forward *fwd)
{
    if (fwd->port != ENVD_PORT || fwd->fresh_only ||
        !body_is_whole(&fwd->up.body, fwd->client->input->bytes, fwd->client->input->size))
        return false;
    fwd->upstream = pool_take(&fwd->proxy->pool, fwd->id, fwd->run);
    if (fwd->upstream == NULL)
        return false;
    fwd->upstream->data = fwd;
    fwd->reused = true;
    fwd->up.hold = true;
    return true;
}

static enum step connected(struct forward *fwd)
{
    fwd->upstream = fwd->dial.sock;
    fwd->dial.sock = NULL;
    if (fwd->dial.local && !fwd->https)
        sock_prepare_local(fwd->upstream, fwd);
    else
        sock_prepare(fwd->upstream, fwd);
    fwd->reused = false;
    return STEP_NEXT;
}

enum step dial_run(struct forward *fwd, struct err *err)
{
    (void)err;
    if (forward_client_gone(fwd))
        return STEP_CLOSE;
    switch (fwd->dial.phase) {
    case DIAL_START:
        if (from_pool(fwd))
            return STEP_NEXT;
        start(fwd);
        return fwd->dial.phase == DIAL_CONNECTED ? connected(fwd) : STEP_WAIT;
    case DIAL_CONNECTED:
        return connected(fwd);
    case DIAL_NO_SANDBOX:
        return forward_answer(fwd, RESPOND_NOT_FOUND);
    case DIAL_GAVE_UP:
        return forward_answer(fwd, RESPOND_PORT_CLOSED);
    default:
        return STEP_WAIT;
    }
}

void dial_abort(struct dial *dial)
{
    if (dial->call != NULL)
        dial->call->fwd = NULL;
    dial->call = NULL;
    sock_close(&dial->sock);
    timer_cancel(&dial->timer);
    dial->phase = DIAL_START;
    dial->attempt = 0;
}
