/*
 * server/proxy/proxy.h - sandbox traffic: finds the target of each request, dials it through the
 * engine, streams both ways with bounded memory.
 *
 * Never h2o's HTTP layer: heads are parsed here (phr_*), strictly. Loop thread only, except
 * proxy_sandbox_ended. Source: routing.md.
 */
#ifndef SANDPIT_PROXY_PROXY_H
#define SANDPIT_PROXY_PROXY_H

#include <stddef.h>
#include <stdint.h>

#include "server/lifecycle/lifecycle.h"
#include "server/loop/loop.h"
#include "server/loop/work.h"

struct proxy;
struct st_h2o_socket_t;

struct proxy_config {
    struct lifecycle *lifecycle;
    struct work_pool *workers; /* to resume paused sandboxes; NULL: traffic wakes none */
    const char *domain;        /* --domain without scheme, may hold a port; NULL: any domain */
    /*
     * One TLS port: a request for api.<domain> is not ours. Called with nothing of it consumed;
     * takes over the socket. NULL: such a host is answered 400 as any other that is no sandbox.
     */
    void (*on_api)(void *ctx, struct st_h2o_socket_t *sock);
    void *on_api_ctx;
    uint64_t idle_timeout_ms; /* keep-alive to the client; 630 s by the contract */
};

/* One per loop. CONFIG is copied; what it points at outlives the proxy. */
struct proxy *proxy_new(const struct proxy_config *config, struct loop *loop);
/* Take over a connected client socket (TLS done, if any). */
void proxy_accept(struct proxy *proxy, struct st_h2o_socket_t *sock);
/* Idle connections close; running ones go on. */
void proxy_drain(struct proxy *proxy);
size_t proxy_active(const struct proxy *proxy);
void proxy_free(struct proxy *proxy);
/* Reset every connection of sandbox ID and close idle ones to it. Any thread. */
void proxy_sandbox_ended(struct proxy *proxy, const char *id);

struct proxy_stats {
    uint64_t requests, upgrades, errors, bytes_in, bytes_out;
};
void proxy_stats_get(struct proxy_stats *out); /* summed over loops; any thread */

#endif
