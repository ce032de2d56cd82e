/*
 * server/serve.h - the running server: which parts there are and who wired them. Used by
 * cmd_serve.c (order of start and stop), serve_net.c (loops and listeners), serve_run.c (signals,
 * reload, drain).
 *
 * Threads: main starts and stops everything and waits for signals; one thread runs the operations
 * loop; --threads run a loop each with an API server and a proxy of its own.
 */
#ifndef SANDPIT_SERVE_H
#define SANDPIT_SERVE_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/api/api.h"
#include "server/auth/auth.h"
#include "server/config.h"
#include "server/dev.h"
#include "server/engine/engine.h"
#include "server/envd_upgrade.h"
#include "server/http/http.h"
#include "server/lifecycle/lifecycle.h"
#include "server/observe/observe.h"
#include "server/loop/listener.h"
#include "server/loop/loop.h"
#include "server/gateway/gateway.h"
#include "server/loop/signal.h"
#include "server/loop/work.h"
#include "server/privsep.h"
#include "server/proxy/proxy.h"
#include "server/store/store.h"

#define DRAIN_MS 30000 /* for requests that run when SIGTERM comes */

enum listen_kind { LISTEN_OPS, LISTEN_API, LISTEN_TRAFFIC, LISTEN_TLS, LISTEN_KINDS };

struct server;

struct serve_loop { /* one thread of the network */
    struct server *server;
    struct loop *loop;
    pthread_t thread;
    bool started;
    struct http_server *http;
    struct proxy *proxy; /* NULL on the operations loop */
    struct loop_msg drain_msg;
    struct loop_msg count_msg;
    atomic_bool counting; /* count_msg is under way */
    atomic_size_t active; /* what it found last */
};

struct server {
    int argc; /* serve's words, for SIGHUP */
    char **argv;
    struct settings settings;
    struct privsep_user user;
    int lock_fd;
    int launcher_fd;
    struct gateway_config gateway;       /* the engine borrows it */
    char *gateway_ca_dir, *gateway_root; /* of that */
    char *gateway_ca;                    /* PEM, for sandboxes */
    struct secret master;                /* until lifecycle has it */

    struct serve_loop ops;
    struct serve_loop *loops;
    size_t loop_count;
    struct loop **loop_list; /* the same loops, for listener_new */
    struct listener *listeners[LISTEN_KINDS][LISTEN_MAX];
    struct tls *tls;
    struct signal_watch *signals;

    struct store *store;
    struct auth *auth;
    struct engine *engine;
    struct work_pool *workers;
    struct lifecycle *lifecycle;
    struct observe *observe;
    struct node *node;
    struct envd_program envd;
    struct envd_upgrade *envd_upgrade;
    struct api api;
    struct api ops_api;
    struct http_config api_config;
    struct http_config ops_config;
    char *dev_help;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    size_t proxy_count; /* loops[0..] whose proxy is there for serve_sandbox_ended */
    unsigned stop_signals;
    bool reload;
};

/* serve_gateway.c: fill `gateway` and `gateway_ca`. As root, before the launcher. */
int serve_gateway_prepare(struct server *server, struct err *err);
/* After lifecycle and engine have ended. */
void serve_gateway_free(struct server *server);
/* Bind every address. As root; no connection is accepted yet. */
int serve_bind(struct server *server, struct err *err);
/* The ports in use. */
void serve_ports(const struct server *server, struct dev_ports *out);
/* Run the operations loop: /livez answers from here on. */
int serve_start_ops(struct server *server, struct err *err);
/* Run the other loops. */
int serve_start(struct server *server, struct err *err);
/*
 * Let /readyz answer 200 (last of all, after what a waiting script wants to read), or 503 while the
 * server drains.
 */
void serve_ready(struct server *server, bool is_ready);
/* Stop and join the loops; each frees its API server and proxy. */
void serve_stop_loops(struct server *server);
/* Cut the connections of a sandbox that ended (lifecycle_end_fn). Any thread. */
void serve_sandbox_ended(void *ctx, const char *id);

/* SIGTERM, SIGINT, SIGHUP (on the operations loop). */
void serve_on_signal(void *ctx, int signo);
/* Main thread: until told to stop, reloading when asked; then drain. */
void serve_run(struct server *server);
/* "<PRIVSEP_STATE>/…" for a PATH in the state folder, else PATH. To free(). */
char *serve_inner_path(const struct server *server, const char *path);

#endif
