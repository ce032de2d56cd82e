/* New connections, deadlines, and the end of those that have ended. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/gateway/flow.h"

/* linux/netfilter_ipv4.h, which cannot stand beside netinet/in.h */
#define SO_ORIGINAL_DST 80

static void on_client(struct ev_io *io)
{
    flow_run(container_of(io, struct flow, client.io));
}

/* Where it wanted to go, before nftables sent it here. */
static int original_target(int fd, struct sockaddr_in *out)
{
    struct sockaddr_in here;
    socklen_t len = sizeof(*out), here_len = sizeof(here);

    if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, out, &len) < 0 ||
        getsockname(fd, (struct sockaddr *)&here, &here_len) < 0)
        return -1;
    /* sent here by nobody: it would lead to ourselves */
    return out->sin_addr.s_addr == here.sin_addr.s_addr && out->sin_port == here.sin_port ? -1 : 0;
}

static void add_flow(struct gateway *gateway, struct tenant *tenant, struct flow *flow)
{
    flow->gateway = gateway;
    flow->tenant = tenant;
    flow->link = &tenant->flows;
    flow->next = tenant->flows;
    if (flow->next != NULL)
        flow->next->link = &flow->next;
    tenant->flows = flow;
    flow->all_link = &gateway->flows;
    flow->all_next = gateway->flows;
    if (flow->all_next != NULL)
        flow->all_next->all_link = &flow->all_next;
    gateway->flows = flow;
    tenant->flow_count++;
    gateway->flow_count++;
}

/* How long to wait for a name. */
static int64_t peek_ms(const struct flow *flow)
{
    const char *why;

    if (flow->port == 80 || flow->port == 443)
        return FLOW_CLIENT_FIRST_MS;
    return policy_decide(flow->tenant->policy, flow->address, flow->port, "", &why) ==
                   VERDICT_REFUSE
               ? FLOW_HELLO_MS
               : FLOW_QUIET_MS;
}

static void begin(struct gateway *gateway, struct tenant *tenant, int fd,
                  const struct sockaddr_in *to)
{
    struct flow *flow = mem_zalloc(sizeof(*flow));
    const int on = 1;

    add_flow(gateway, tenant, flow);
    flow->client.io = (struct ev_io){.fd = fd, .fn = on_client};
    flow->upstream.io.fd = -1;
    flow->address = ntohl(to->sin_addr.s_addr);
    flow->port = ntohs(to->sin_port);
    buf_init(&flow->in.data, FLOW_BUFFER_BYTES);
    buf_init(&flow->up.data, FLOW_HEAD_MAX_BYTES);
    buf_init(&flow->down.data, FLOW_BUFFER_BYTES + 4096);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (ev_watch(&gateway->ev, &flow->client.io) < 0) {
        flow_abort(flow);
        return;
    }
    if (policy_wants_name(tenant->policy, flow->address, flow->port))
        flow_arm(flow, peek_ms(flow));
    else
        flow_decide(flow);
    flow_run(flow);
}

static void take(struct gateway *gateway, int fd, const struct sockaddr_in *from)
{
    const struct linger now = {.l_onoff = 1};
    struct tenant *tenant = tenant_find(gateway, ntohl(from->sin_addr.s_addr));
    struct sockaddr_in to;

    if (tenant != NULL && tenant->policy != NULL && tenant->flow_count < FLOW_PER_TENANT_MAX &&
        original_target(fd, &to) == 0) {
        begin(gateway, tenant, fd, &to);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    fd_close(&fd);
}

void flow_accept(struct ev_io *listener)
{
    struct gateway *gateway = container_of(listener, struct gateway, listener);

    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        int fd;
        if (gateway->flow_count >= gateway->flow_max) {
            gateway->full = true; /* the queue waits; flow_tick looks again */
            return;
        }
        fd = accept4(listener->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            gateway->full = errno != EAGAIN && errno != ECONNABORTED;
            return;
        }
        take(gateway, fd, &from);
    }
}

static void expire(struct flow *flow)
{
    switch (flow->state) {
    case FLOW_PEEK: /* nothing came that names it */
        if (flow->port == 80 || flow->port == 443)
            flow_abort(flow);
        else
            flow_decide(flow);
        flow_run(flow);
        return;
    case FLOW_STREAM:
        flow_abort(flow);
        return;
    case FLOW_LINGER:
    case FLOW_TLS_DOWN:
        flow_end(flow);
        return;
    default:
        flow_arm(flow, FLOW_SETUP_MS);
        resolver_cancel(&flow->wait);
        flow_failed(flow, "it took too long");
    }
}

void flow_tick(struct gateway *gateway)
{
    int64_t now = time_mono_ms();
    struct flow *next;

    for (struct flow *flow = gateway->flows; flow != NULL; flow = next) {
        next = flow->all_next;
        if (now >= flow->deadline_mono_ms)
            expire(flow);
    }
    if (gateway->full) {
        gateway->full = false;
        flow_accept(&gateway->listener);
    }
}

static void pipe_free(struct pipe *pipe)
{
    buf_clear(&pipe->data);
}

void flow_reap(struct gateway *gateway)
{
    struct flow *flow, *ready = gateway->ready;

    gateway->ready = NULL;
    while ((flow = ready) != NULL) {
        ready = flow->ready_next;
        flow->again = false;
        flow_run(flow);
    }
    while ((flow = gateway->ended) != NULL && !flow->again) {
        gateway->ended = flow->all_next;
        pipe_free(&flow->in);
        pipe_free(&flow->up);
        pipe_free(&flow->down);
        free(flow);
    }
}
