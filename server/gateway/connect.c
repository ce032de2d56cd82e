/* From a decision to a connected upstream: resolve, connect, proxy, handshakes. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "server/base/mem.h"
#include "server/gateway/flow.h"

static void on_upstream(struct ev_io *io)
{
    flow_run(container_of(io, struct flow, upstream.io));
}

/* Keep of ANSWER what may be reached. */
static void take_answer(struct flow *flow, const struct dns_answer *answer)
{
    const struct policy *policy = flow->tenant->policy;
    bool listed =
        flow->resolving_proxy || net_policy_host(&policy->net, flow->name, strlen(flow->name));

    for (size_t i = 0; i < answer->count; i++) {
        if (policy_resolved_ok(policy, answer->addresses[i], listed))
            flow->targets[flow->target_count++] = answer->addresses[i];
    }
}

static void on_resolved(struct resolver_wait *wait, const struct dns_answer *answer,
                        const char *why)
{
    struct flow *flow = container_of(wait, struct flow, wait);

    if (flow->tenant->policy == NULL) {
        flow_abort(flow);
        return;
    }
    if (answer == NULL) {
        flow_failed(flow, why);
        return;
    }
    take_answer(flow, answer);
    if (flow->target_count == 0) {
        flow_refuse(flow, "the name leads to an address that may not be reached");
        return;
    }
    flow->state = FLOW_CONNECT;
    flow_later(flow);
}

static void resolve(struct flow *flow, const char *name)
{
    flow->state = FLOW_RESOLVE;
    flow->wait.done = on_resolved;
    resolver_ask(flow->gateway->resolver, name, &flow->wait);
}

/* HOST is an address: as if it had been resolved to itself. */
static bool take_literal(struct flow *flow, const char *host)
{
    struct net_cidr cidr;
    bool ipv6 = false;

    if (net_cidr_parse(host, strlen(host), &cidr, &ipv6) < 0 || ipv6 || cidr.prefix != 32)
        return false;
    on_resolved(&flow->wait, &(struct dns_answer){.addresses = {cidr.address}, .count = 1}, NULL);
    return true;
}

void connect_start(struct flow *flow)
{
    const struct policy *policy = flow->tenant->policy;

    flow->resolving_proxy = policy->has_proxy;
    if (policy->has_proxy) {
        if (!take_literal(flow, policy->proxy.host))
            resolve(flow, policy->proxy.host);
    } else if (flow->verdict == VERDICT_NAME) {
        resolve(flow, flow->name);
    } else {
        flow->targets[flow->target_count++] = flow->address;
        flow->state = FLOW_CONNECT;
    }
}

static void set_options(int fd)
{
    const int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static struct sockaddr_in target(const struct flow *flow)
{
    struct sockaddr_in to = {.sin_family = AF_INET};

    to.sin_addr.s_addr = htonl(flow->targets[flow->target_next]);
    to.sin_port = htons(flow->resolving_proxy ? flow->tenant->policy->proxy.port : flow->port);
    return to;
}

/* Begin with, or ask after, the present target. 1 connected, 0 wait, -1 this one failed. */
static int try_target(struct flow *flow)
{
    struct sockaddr_in to = target(flow);
    struct end *up = &flow->upstream;

    if (up->io.fd < 0) {
        up->io = (struct ev_io){.fn = on_upstream};
        up->io.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (up->io.fd < 0 || ev_watch(&flow->gateway->ev, &up->io) < 0)
            return -1;
        set_options(up->io.fd);
    }
    if (connect(up->io.fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EISCONN)
        return 1;
    return errno == EINPROGRESS || errno == EALREADY || errno == EINTR ? 0 : -1;
}

/* What comes after the connection, or the handshake, that has just been made. */
static void next_stage(struct flow *flow)
{
    bool proxied = flow->resolving_proxy;

    if (flow->state == FLOW_CONNECT && proxied && flow->tenant->policy->proxy.tls) {
        flow->state = FLOW_PROXY_TLS;
        if (tls_begin_proxy(flow) < 0)
            flow_failed(flow, "the proxy's TLS cannot be begun");
        return;
    }
    if (flow->state < FLOW_SOCKS && proxied) {
        flow->state = FLOW_SOCKS;
        flow->socks_step = SOCKS_GREET;
        flow->socks_sending = true;
        flow->socks_at = 0;
        flow->socks_len = socks_greeting(flow->tenant->policy->proxy.user != NULL, flow->socks);
        return;
    }
    if (flow->kind == KIND_TLS && flow->state < FLOW_TLS_UP) {
        flow->state = FLOW_TLS_UP;
        if (tls_begin_up(flow) < 0)
            flow_failed(flow, "TLS cannot be begun");
        return;
    }
    if (flow->kind == KIND_TLS && flow->state < FLOW_TLS_DOWN) {
        flow->state = FLOW_TLS_DOWN;
        if (tls_begin_down(flow) < 0)
            flow_abort(flow);
        return;
    }
    if (flow->kind != KIND_TLS && flow->proxy_ssl != NULL) {
        flow->upstream.ssl = flow->proxy_ssl;
        flow->proxy_ssl = NULL;
    }
    flow->state = FLOW_STREAM;
    flow_arm(flow, FLOW_IDLE_MS);
}

static bool connect_targets(struct flow *flow)
{
    int rc = try_target(flow);

    if (rc == 0)
        return false;
    if (rc > 0) {
        next_stage(flow);
        return true;
    }
    ev_close(&flow->gateway->ev, &flow->upstream.io);
    if (++flow->target_next == flow->target_count)
        flow_failed(flow, flow->resolving_proxy ? "the proxy does not answer"
                                                : "it does not accept the connection");
    return true;
}

static bool handshake(struct flow *flow, SSL *ssl)
{
    const char *why = "";
    int rc = tls_handshake(ssl, &why);

    if (rc > 0)
        next_stage(flow);
    else if (rc < 0 && flow->state == FLOW_TLS_DOWN)
        flow_end(flow); /* the alert has been sent */
    else if (rc < 0)
        flow_failed(flow, why);
    return rc != 0;
}

/* --- SOCKS5 ---------------------------------------------------------------------------------- */

/* Send the rest, or receive up to socks_len. 1 done, 0 wait, -1 failed. */
static int socks_io(struct flow *flow)
{
    struct end proxy = {.io = flow->upstream.io, .ssl = flow->proxy_ssl};

    while (flow->socks_at < flow->socks_len) {
        uint8_t *at = flow->socks + flow->socks_at;
        size_t left = flow->socks_len - flow->socks_at;
        ssize_t n = flow->socks_sending ? end_write(&proxy, at, left) : end_read(&proxy, at, left);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return -1;
        flow->socks_at += (size_t)n;
    }
    return 1;
}

static void socks_expect(struct flow *flow, size_t len)
{
    flow->socks_sending = false;
    flow->socks_at = 0;
    flow->socks_len = len;
}

static bool socks_send(struct flow *flow, int socks_step, size_t len)
{
    flow->socks_step = socks_step;
    flow->socks_sending = true;
    flow->socks_at = 0;
    flow->socks_len = len;
    return len > 0;
}

static bool socks_send_connect(struct flow *flow)
{
    const char *name = flow->verdict == VERDICT_NAME ? flow->name : NULL;

    return socks_send(flow, SOCKS_GO, socks_connect(name, flow->address, flow->port, flow->socks));
}

/* A whole message has come. NULL, or what is wrong. */
static const char *socks_received(struct flow *flow)
{
    const struct policy_proxy *proxy = &flow->tenant->policy->proxy;
    const uint8_t *in = flow->socks;
    size_t size;

    switch (flow->socks_step) {
    case SOCKS_GREET:
        if (in[0] != 5 || in[1] != (proxy->user != NULL ? SOCKS_METHOD_PASSWORD : 0))
            return "the proxy does not offer the way to log in";
        if (proxy->user == NULL)
            return socks_send_connect(flow) ? NULL : "the name is too long for the proxy";
        return socks_send(flow, SOCKS_AUTH,
                          socks_password(proxy->user,
                                         proxy->password != NULL ? proxy->password : "",
                                         flow->socks))
                   ? NULL
                   : "the proxy's credentials are too long";
    case SOCKS_AUTH:
        if (in[1] != 0)
            return "the proxy refuses the credentials";
        return socks_send_connect(flow) ? NULL : "the name is too long for the proxy";
    case SOCKS_GO:
        size = socks_reply_size(in, flow->socks_at);
        if (size == 0)
            return "the proxy's answer is malformed";
        if (socks_reply_error(in) != NULL)
            return socks_reply_error(in);
        if (size > flow->socks_at) {
            flow->socks_len = size;
            return NULL;
        }
        next_stage(flow);
        return NULL;
    }
    return "the proxy failed";
}

static bool socks_stage(struct flow *flow)
{
    int rc = socks_io(flow);
    const char *why = "the proxy closed the connection";

    if (rc == 0)
        return false;
    if (rc > 0 && flow->socks_sending) {
        memset(flow->socks, 0, sizeof(flow->socks)); /* the password was there */
        socks_expect(flow, flow->socks_step == SOCKS_GO ? socks_reply_size(NULL, 0) : 2);
        return true;
    }
    if (rc > 0)
        why = socks_received(flow);
    if (why != NULL)
        flow_failed(flow, why);
    return true;
}

bool connect_step(struct flow *flow)
{
    if (flow->tenant->policy == NULL) {
        flow_abort(flow);
        return false;
    }
    switch (flow->state) {
    case FLOW_CONNECT:
        return connect_targets(flow);
    case FLOW_PROXY_TLS:
        return handshake(flow, flow->proxy_ssl);
    case FLOW_SOCKS:
        return socks_stage(flow);
    case FLOW_TLS_UP:
        return handshake(flow, flow->upstream.ssl);
    case FLOW_TLS_DOWN:
        return handshake(flow, flow->client.ssl);
    default:
        return false;
    }
}
