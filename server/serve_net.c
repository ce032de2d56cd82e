/* Loops, listeners and what answers on them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mapper/host.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/proxy/head.h"
#include "server/serve.h"

#define PROXY_IDLE_MS 630000 /* longer than SDKs keep connections: the client closes first */

static const enum setting listen_settings[LISTEN_KINDS] = {
    [LISTEN_OPS] = SETTING_OPS_LISTEN,
    [LISTEN_API] = SETTING_API_LISTEN,
    [LISTEN_TRAFFIC] = SETTING_TRAFFIC_LISTEN,
    [LISTEN_TLS] = SETTING_TLS_LISTEN,
};

static int bind_one(struct server *server, enum listen_kind kind, const char *address,
                    struct listener **out, struct err *err)
{
    struct tls *tls = kind == LISTEN_TLS ? server->tls : NULL;

    if (kind == LISTEN_OPS)
        return listener_new(address, &server->ops.loop, 1, tls, out, err);
    return listener_new(address, server->loop_list, server->loop_count, tls, out, err);
}

/* A machine without IPv6 still gets the other half of the default of --dev. */
static bool may_lack(const struct server *server, enum listen_kind kind, const char *address,
                     const struct err *err)
{
    return kind == LISTEN_TLS && server->settings.source[SETTING_TLS_LISTEN] == FROM_DEFAULT &&
           address[0] == '[' && err->code != ERR_BUSY;
}

static int bind_kind(struct server *server, enum listen_kind kind, struct err *err)
{
    const char *text = settings_text(&server->settings, listen_settings[kind]);
    char addresses[LISTEN_MAX][ADDRESS_SIZE];
    size_t count = settings_addresses(text, addresses);

    for (size_t i = 0; i < count; i++) {
        struct err why = {0};
        if (bind_one(server, kind, addresses[i], &server->listeners[kind][i], &why) == 0)
            continue;
        if (!may_lack(server, kind, addresses[i], &why)) {
            *err = why;
            return err_set(err, why.code, "--%s: %.400s", setting_name(listen_settings[kind]),
                           why.msg);
        }
        log_err(LOG_WARN, "an IPv6 address is left out", NULL, &why);
    }
    return 0;
}

int serve_bind(struct server *server, struct err *err)
{
    server->ops.server = server;
    server->ops.loop = loop_new();
    server->loop_count = settings_threads(&server->settings);
    server->loops = mem_calloc(server->loop_count, sizeof(*server->loops));
    server->loop_list = mem_calloc(server->loop_count, sizeof(struct loop *));
    for (size_t i = 0; i < server->loop_count; i++) {
        server->loops[i].server = server;
        server->loops[i].loop = server->loop_list[i] = loop_new();
    }
    for (int kind = 0; kind < LISTEN_KINDS; kind++) {
        if (bind_kind(server, (enum listen_kind)kind, err) < 0)
            return -1;
    }
    return 0;
}

static uint16_t port_of(const struct server *server, enum listen_kind kind)
{
    for (size_t i = 0; i < LISTEN_MAX; i++) {
        if (server->listeners[kind][i] != NULL)
            return listener_port(server->listeners[kind][i]);
    }
    return 0;
}

void serve_ports(const struct server *server, struct dev_ports *out)
{
    out->api = port_of(server, LISTEN_API);
    out->traffic = port_of(server, LISTEN_TRAFFIC);
    out->tls = port_of(server, LISTEN_TLS);
}

static void accept_http(void *ctx, struct loop *loop, struct st_h2o_socket_t *sock)
{
    (void)loop;
    http_server_accept(ctx, sock);
}

static void accept_proxy(void *ctx, struct loop *loop, struct st_h2o_socket_t *sock)
{
    (void)loop;
    proxy_accept(ctx, sock);
}

/* On the one TLS port: the request was for api.<domain>. */
static void accept_api_from_proxy(void *ctx, struct st_h2o_socket_t *sock)
{
    http_server_accept_shared(ctx, sock);
}

static bool api_serves(void *ctx, const struct http_head *head)
{
    const struct api *api = ctx;
    struct host_target target;
    struct head_target where;
    struct err ignored;

    return head_target(head, &where, &ignored) == 0 && where.host.data != NULL &&
           host_parse(where.host.data, where.host.len, api->domain, NULL, NULL, &target,
                      &ignored) == 0 &&
           target.kind == HOST_API;
}

static void start_listeners(struct server *server, enum listen_kind kind, accept_fn fn,
                            void *const *ctxs)
{
    for (size_t i = 0; i < LISTEN_MAX; i++) {
        if (server->listeners[kind][i] != NULL)
            listener_start(server->listeners[kind][i], fn, ctxs);
    }
}

/* h2o keeps free buffers per thread: sockets are closed by the thread that opened them. */
static void *loop_main(void *arg)
{
    struct serve_loop *loop = arg;

    loop_run(loop->loop);
    proxy_free(loop->proxy);
    http_server_free(loop->http);
    loop->proxy = NULL;
    loop->http = NULL;
    return NULL;
}

static int start_thread(struct serve_loop *loop, const char *name, struct err *err)
{
    int rc = pthread_create(&loop->thread, NULL, loop_main, loop);

    if (rc != 0)
        return err_sys(err, rc, "cannot start a network thread");
    pthread_setname_np(loop->thread, name);
    loop->started = true;
    return 0;
}

int serve_start_ops(struct server *server, struct err *err)
{
    void *ctx;

    server->ops_api = (struct api){.engine_name = server->api.engine_name,
                                   .domain = server->api.domain,
                                   .envd_version = server->api.envd_version,
                                   .extra_metrics = server->api.extra_metrics};
    ops_http_config(&server->ops_api, server->workers, &server->ops_config);
    server->ops.http = http_server_new(&server->ops_config, server->ops.loop);
    ctx = server->ops.http;
    start_listeners(server, LISTEN_OPS, accept_http, &ctx);
    if (signal_watch_new(server->ops.loop, serve_on_signal, server, &server->signals, err) < 0)
        return -1;
    return start_thread(&server->ops, "ops", err);
}

struct ready_msg {
    struct loop_msg msg;
    struct server *server;
    bool ready;
};

/* On the operations loop, whose handlers look at these. Without a store /readyz is 503. */
static void on_ready(struct loop_msg *msg)
{
    struct ready_msg *ready = container_of(msg, struct ready_msg, msg);
    struct server *server = ready->server;

    server->ops_api.store = ready->ready ? server->store : NULL;
    server->ops_api.auth = server->auth;
    server->ops_api.lifecycle = server->lifecycle;
    server->ops_api.observe = server->observe;
    free(ready);
}

static void make_handlers(struct server *server, void **http_ctxs, void **proxy_ctxs)
{
    for (size_t i = 0; i < server->loop_count; i++) {
        struct serve_loop *loop = &server->loops[i];
        loop->http = http_server_new(&server->api_config, loop->loop);
        struct proxy_config config = {
            .lifecycle = server->lifecycle,
            .domain = settings_text(&server->settings, SETTING_DOMAIN),
            .workers = server->workers,
            .on_api = accept_api_from_proxy,
            .on_api_ctx = loop->http,
            .idle_timeout_ms = PROXY_IDLE_MS,
        };
        loop->proxy = proxy_new(&config, loop->loop);
        http_ctxs[i] = loop->http;
        proxy_ctxs[i] = loop->proxy;
    }
    pthread_mutex_lock(&server->lock);
    server->proxy_count = server->loop_count;
    pthread_mutex_unlock(&server->lock);
}

int serve_start(struct server *server, struct err *err)
{
    _cleanup_free_ void **http_ctxs = mem_calloc(server->loop_count, sizeof(void *));
    _cleanup_free_ void **proxy_ctxs = mem_calloc(server->loop_count, sizeof(void *));

    server->api.store = server->store;
    server->api.auth = server->auth;
    server->api.node = server->node;
    server->api.lifecycle = server->lifecycle;
    server->api.observe = server->observe;
    api_http_config(&server->api, server->workers, &server->api_config);
    server->api_config.serves = api_serves;
    make_handlers(server, http_ctxs, proxy_ctxs);
    start_listeners(server, LISTEN_API, accept_http, http_ctxs);
    start_listeners(server, LISTEN_TRAFFIC, accept_proxy, proxy_ctxs);
    start_listeners(server, LISTEN_TLS, accept_proxy, proxy_ctxs);
    for (size_t i = 0; i < server->loop_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "net-%zu", i % 1000);
        if (start_thread(&server->loops[i], name, err) < 0)
            return -1;
    }
    return 0;
}

void serve_ready(struct server *server, bool is_ready)
{
    struct ready_msg *ready = mem_zalloc(sizeof(*ready));

    ready->server = server;
    ready->ready = is_ready;
    ready->msg.run = on_ready;
    loop_post(server->ops.loop, &ready->msg);
}

void serve_sandbox_ended(void *ctx, const char *id)
{
    struct server *server = ctx;

    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->proxy_count; i++)
        proxy_sandbox_ended(server->loops[i].proxy, id); /* posts, does not wait */
    pthread_mutex_unlock(&server->lock);
}

static void join(struct serve_loop *loop)
{
    if (!loop->started)
        return;
    loop_stop(loop->loop);
    pthread_join(loop->thread, NULL);
    loop->started = false;
}

void serve_stop_loops(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    server->proxy_count = 0;
    pthread_mutex_unlock(&server->lock);
    for (int kind = 0; kind < LISTEN_KINDS; kind++) {
        for (size_t i = 0; i < LISTEN_MAX; i++) {
            if (server->listeners[kind][i] != NULL)
                listener_stop(server->listeners[kind][i]);
        }
    }
    for (size_t i = 0; i < server->loop_count; i++)
        join(&server->loops[i]);
    join(&server->ops);
}
