#include "server/proxy/proxy.h"

#include <stdatomic.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/proxy/forward.h"

static struct {
    _Atomic uint64_t requests, upgrades, errors, bytes_in, bytes_out;
} stats;

static void add(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

void stats_add_request(void)
{
    add(&stats.requests, 1);
}

void stats_add_upgrade(void)
{
    add(&stats.upgrades, 1);
}

void stats_add_error(void)
{
    add(&stats.errors, 1);
}

void stats_add_bytes(uint64_t in, uint64_t out)
{
    if (in > 0)
        add(&stats.bytes_in, in);
    if (out > 0)
        add(&stats.bytes_out, out);
}

void proxy_stats_get(struct proxy_stats *out)
{
    out->requests = atomic_load_explicit(&stats.requests, memory_order_relaxed);
    out->upgrades = atomic_load_explicit(&stats.upgrades, memory_order_relaxed);
    out->errors = atomic_load_explicit(&stats.errors, memory_order_relaxed);
    out->bytes_in = atomic_load_explicit(&stats.bytes_in, memory_order_relaxed);
    out->bytes_out = atomic_load_explicit(&stats.bytes_out, memory_order_relaxed);
}

struct proxy *proxy_new(const struct proxy_config *config, struct loop *loop)
{
    struct proxy *proxy = mem_zalloc(sizeof(*proxy));

    proxy->config = *config;
    proxy->domain = mem_strdup(config->domain);
    proxy->config.domain = proxy->domain;
    proxy->loop = loop;
    pool_init(&proxy->pool, loop);
    token_cache_init(&proxy->tokens);
    return proxy;
}

void proxy_accept(struct proxy *proxy, h2o_socket_t *sock)
{
    connection_accept(proxy, sock);
}

void proxy_drain(struct proxy *proxy)
{
    struct forward *fwd = proxy->first;

    proxy->draining = true;
    while (fwd != NULL) {
        struct forward *next = fwd->next;

        if (fwd->state == FWD_IDLE)
            connection_free(fwd);
        fwd = next;
    }
    pool_clear(&proxy->pool);
}

size_t proxy_active(const struct proxy *proxy)
{
    return proxy->active;
}

void proxy_free(struct proxy *proxy)
{
    if (proxy == NULL)
        return;
    while (proxy->first != NULL)
        connection_free(proxy->first);
    pool_clear(&proxy->pool);
    token_cache_clear(&proxy->tokens);
    free(proxy->domain);
    free(proxy);
}

struct ended_msg {
    struct loop_msg msg;
    struct proxy *proxy;
    char id[SANDBOX_ID_SIZE];
};

/* The exchange is with a sandbox, not an answer of ours about it. */
static bool is_connected(const struct forward *fwd)
{
    return fwd->state >= FWD_DIAL && fwd->state <= FWD_TUNNEL;
}

static void run_ended(struct loop_msg *msg)
{
    _cleanup_free_ struct ended_msg *ended = container_of(msg, struct ended_msg, msg);
    struct forward *fwd = ended->proxy->first;

    while (fwd != NULL) {
        struct forward *next = fwd->next;

        if (is_connected(fwd) && str_eq(fwd->id, ended->id)) {
            sock_reset(&fwd->client);
            sock_reset(&fwd->upstream);
            connection_free(fwd);
        }
        fwd = next;
    }
    pool_drop(&ended->proxy->pool, ended->id);
}

void proxy_sandbox_ended(struct proxy *proxy, const char *id)
{
    struct ended_msg *ended = mem_zalloc(sizeof(*ended));

    ended->proxy = proxy;
    ended->msg.run = run_ended;
    if (str_copy(ended->id, sizeof(ended->id), id, strlen(id)) < 0) {
        free(ended); /* no sandbox has such an id */
        return;
    }
    loop_post(proxy->loop, &ended->msg);
}
