#include "server/gateway/flow.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define STEPS_MAX 64 /* of one flow in one round */
#define ALERT_ACCESS_DENIED 49
#define ALERT_INTERNAL_ERROR 80

void flow_arm(struct flow *flow, int64_t ms)
{
    flow->deadline_mono_ms = time_mono_ms() + ms;
}

void flow_later(struct flow *flow)
{
    if (flow->again || flow->state == FLOW_ENDED)
        return;
    flow->again = true;
    flow->ready_next = flow->gateway->ready;
    flow->gateway->ready = flow;
    ev_again(&flow->gateway->ev);
}

static void unlink_flow(struct flow *flow)
{
    *flow->link = flow->next;
    if (flow->next != NULL)
        flow->next->link = flow->link;
    *flow->all_link = flow->all_next;
    if (flow->all_next != NULL)
        flow->all_next->all_link = flow->all_link;
    flow->tenant->flow_count--;
    flow->gateway->flow_count--;
}

void flow_end(struct flow *flow)
{
    struct gateway *gateway = flow->gateway;

    if (flow->state == FLOW_ENDED)
        return;
    flow->state = FLOW_ENDED;
    resolver_cancel(&flow->wait);
    unlink_flow(flow);
    SSL_free(flow->upstream.ssl); /* may lead through proxy_ssl, so it goes first */
    SSL_free(flow->proxy_ssl);
    SSL_free(flow->client.ssl);
    ev_close(&gateway->ev, &flow->client.io);
    ev_close(&gateway->ev, &flow->upstream.io);
    flow->all_next = gateway->ended;
    gateway->ended = flow;
    if (gateway->full)
        ev_again(&gateway->ev);
}

void flow_abort(struct flow *flow)
{
    const struct linger now = {.l_onoff = 1};

    if (flow->client.io.fd >= 0)
        setsockopt(flow->client.io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    flow_end(flow);
}

void flow_linger(struct flow *flow)
{
    flow->state = FLOW_LINGER;
    ev_close(&flow->gateway->ev, &flow->upstream.io);
    shutdown(flow->client.io.fd, SHUT_WR);
    flow_arm(flow, FLOW_LINGER_MS);
}

/* The last words in clear, before any of ours. They fit a new connection's buffer. */
static void say(struct flow *flow, const void *data, size_t len)
{
    if (send(flow->client.io.fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
        flow_abort(flow);
    else
        flow_linger(flow);
}

static void say_alert(struct flow *flow, uint8_t code)
{
    const uint8_t alert[] = {21, 3, 3, 0, 2, 2 /* fatal */, code};

    say(flow, alert, sizeof(alert));
}

static void say_http(struct flow *flow, int status, const char *text)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, 4096);
    http_answer(&out, status, text);
    say(flow, buf_str(&out), out.len);
}

static void log_refused(const struct flow *flow, const char *why)
{
    log_debug("egress refused", "sandbox_id", flow->tenant->id, "name", flow->name, "port",
              log_num(flow->port), "why", why);
}

void flow_refuse(struct flow *flow, const char *why)
{
    char text[HELLO_NAME_SIZE + 256];

    log_refused(flow, why);
    snprintf(text, sizeof(text),
             "sandpit: the network rules of this sandbox do not allow %s port %u: %s",
             flow->name[0] != '\0' ? flow->name : "this address", flow->port, why);
    if (flow->first_http)
        say_http(flow, 403, text);
    else if (flow->first_tls)
        say_alert(flow, ALERT_ACCESS_DENIED);
    else
        flow_abort(flow);
}

void flow_failed(struct flow *flow, const char *why)
{
    char text[HELLO_NAME_SIZE + 256];

    log_refused(flow, why);
    snprintf(text, sizeof(text), "sandpit: cannot reach %s port %u: %s",
             flow->name[0] != '\0' ? flow->name : "this address", flow->port, why);
    if (flow->kind == KIND_TLS && flow->state < FLOW_TLS_DOWN) {
        /* within TLS, as the destination: so that it can be read */
        snprintf(flow->failure, sizeof(flow->failure), "%.159s", text);
        SSL_free(flow->upstream.ssl);
        flow->upstream.ssl = NULL;
        ev_close(&flow->gateway->ev, &flow->upstream.io);
        if (tls_begin_down(flow) < 0) {
            flow_abort(flow);
            return;
        }
        flow->state = FLOW_TLS_DOWN;
        flow_later(flow);
    } else if (flow->first_http) {
        say_http(flow, 502, text);
    } else if (flow->first_tls && flow->kind != KIND_TLS) {
        say_alert(flow, ALERT_INTERNAL_ERROR);
    } else {
        flow_abort(flow);
    }
}

static enum flow_kind kind_of(const struct flow *flow)
{
    bool headers =
        flow->name[0] != '\0' && policy_headers(flow->tenant->policy, flow->name) != NULL;

    if (flow->first_tls)
        return headers ? KIND_TLS : KIND_PLAIN;
    return flow->first_http && (headers || flow->verdict == VERDICT_NAME) ? KIND_HTTP : KIND_PLAIN;
}

void flow_decide(struct flow *flow)
{
    const char *why = "";

    if (flow->tenant->policy == NULL) {
        flow_abort(flow);
        return;
    }
    flow->verdict =
        policy_decide(flow->tenant->policy, flow->address, flow->port, flow->name, &why);
    if (flow->verdict == VERDICT_REFUSE) {
        flow_refuse(flow, why);
        return;
    }
    flow->kind = kind_of(flow);
    if (flow->kind == KIND_TLS && flow->gateway->ca == NULL) {
        flow_refuse(flow, "this server has no certificate authority to set headers with");
        return;
    }
    flow_arm(flow, FLOW_SETUP_MS);
    connect_start(flow);
}

static bool linger_step(struct flow *flow)
{
    char data[4096];
    ssize_t n = read(flow->client.io.fd, data, sizeof(data));

    if (n > 0)
        return true;
    if (n == 0)
        flow_end(flow);
    return false;
}

static bool step(struct flow *flow)
{
    switch (flow->state) {
    case FLOW_PEEK:
        if (!peek_name(flow))
            return false;
        if (flow->state == FLOW_PEEK)
            flow_decide(flow);
        return true;
    case FLOW_STREAM:
        return pump_step(flow);
    case FLOW_LINGER:
        return linger_step(flow);
    case FLOW_RESOLVE:
    case FLOW_ENDED:
        return false;
    default:
        return connect_step(flow);
    }
}

void flow_run(struct flow *flow)
{
    for (int i = 0; i < STEPS_MAX; i++) {
        if (!step(flow))
            return;
    }
    flow_later(flow);
}
