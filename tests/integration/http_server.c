/*
 * A small server on server/loop and server/http, for http_test.py: plain and TLS listeners, one
 * route for each thing a handler may do. SIGHUP reloads TLS, SIGTERM drains and ends.
 *
 * usage: http_server THREADS CERT KEY; prints "ready PORT TLS_PORT PEEK_PORT". On the third, TLS
 * too, a connection is read from before it is handed to HTTP, as the proxy does.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/http.h"
#include "server/loop/listener.h"
#include "server/loop/signal.h"
#include "server/loop/work.h"

#define H2O_USE_LIBUV 0
#include <h2o.h>

#define THREADS_MAX 16
#define BODY_MAX 65536
#define SCOPE_READ 1

struct thread {
    pthread_t id;
    struct loop *loop;
    struct http_server *http;
    struct loop_msg drain_msg;
    struct timer drain_timer;
};

struct app {
    struct thread threads[THREADS_MAX];
    size_t thread_count;
    struct listener *plain;
    struct listener *secure;
    struct listener *peeking;
    struct tls *tls;
    struct work_pool *workers;
    bool stopping;
    atomic_int gone; /* deferred requests whose client had left */
};

static struct app app;

static int hello(struct request *req, struct err *err)
{
    (void)err;
    reply_bytes(request_reply(req), 200, "text/plain", "hello\n", 6);
    return 0;
}

static int item(struct request *req, struct err *err)
{
    size_t raw_len = 0;
    const char *raw = request_query_raw(req, "q", &raw_len);
    json_t *json = json_object();

    (void)err;
    json_put_str(json, "id", request_param(req, "itemID"));
    json_put_str(json, "q", request_query(req, "q"));
    json_put(json, "raw", raw == NULL ? json_null() : json_stringn(raw, raw_len));
    json_put_str(json, "path", request_path(req));
    json_put_str(json, "agent", request_header(req, "user-agent"));
    json_put_str(json, "user", request_user(req));
    reply_header(request_reply(req), "x-seen", request_method(req));
    reply_json(request_reply(req), 200, json);
    return 0;
}

static int item_new(struct request *req, struct err *err)
{
    json_t *json = request_json(req, err);

    if (json == NULL)
        return -1;
    reply_json(request_reply(req), 201, json);
    return 0;
}

static int item_delete(struct request *req, struct err *err)
{
    (void)err;
    reply_empty(request_reply(req), 204);
    return 0;
}

static int echo(struct request *req, struct err *err)
{
    size_t len;
    const char *body = request_body(req, &len);

    (void)err;
    reply_bytes(request_reply(req), 200, "application/octet-stream", body, len);
    return 0;
}

static int forget(struct request *req, struct err *err)
{
    (void)req;
    (void)err;
    return 0;
}

struct later {
    struct timer timer;
    struct work work;
    struct reply *reply;
};

static void later_answer(struct later *later)
{
    if (reply_client_gone(later->reply))
        atomic_fetch_add(&app.gone, 1);
    reply_bytes(later->reply, 200, "text/plain", "late\n", 5);
    reply_unref(later->reply);
    free(later);
}

static void on_later(struct timer *timer)
{
    later_answer(container_of(timer, struct later, timer));
}

static int slow(struct request *req, struct err *err)
{
    const char *ms = request_query(req, "ms");
    struct later *later;
    uint64_t after_ms = 0;

    if (ms == NULL)
        return err_set(err, ERR_INVALID, "ms is missing");
    if (str_to_u64(ms, strlen(ms), 0, 60000, "ms", &after_ms, err) < 0)
        return -1;
    later = mem_zalloc(sizeof(*later));
    later->reply = request_defer(req);
    timer_arm(loop_current(), &later->timer, (int64_t)after_ms, on_later);
    return 0;
}

static void work_run(struct work *work)
{
    (void)work;
    usleep(1000);
}

static void work_done(struct work *work)
{
    later_answer(container_of(work, struct later, work));
}

static int work(struct request *req, struct err *err)
{
    _cleanup_free_ struct later *later = mem_zalloc(sizeof(*later));

    if (work_submit(request_workers(req), &later->work, work_run, work_done, err) < 0)
        return -1;
    later->reply = request_defer(req);
    later = NULL;
    return 0;
}

static int gone(struct request *req, struct err *err)
{
    json_t *json = json_object();
    struct http_stats stats;

    (void)err;
    http_stats_get("test", &stats);
    json_put_i64(json, "gone", atomic_load(&app.gone));
    json_put_i64(json, "requests", (int64_t)stats.requests);
    json_put_i64(json, "ok", (int64_t)stats.by_class[2]);
    reply_json(request_reply(req), 200, json);
    return 0;
}

static const struct route routes[] = {
    {"GET", "/hello", 0, hello},
    {"GET", "/items/{itemID}", SCOPE_READ, item},
    {"DELETE", "/items/{itemID}", SCOPE_READ, item_delete},
    {"POST", "/items", 0, item_new},
    {"GET", "/items/special", 0, hello},
    {"POST", "/echo", 0, echo},
    {"GET", "/slow", 0, slow},
    {"GET", "/work", 0, work},
    {"GET", "/forget", 0, forget},
    {"GET", "/gone", 0, gone},
    {"POST", "/items/{itemID}/pause", 0, NULL},
};

static int authorize(void *ctx, struct request *req, uint32_t scope, struct err *err)
{
    const char *key = request_header(req, "x-api-key");

    (void)ctx;
    (void)scope;
    if (key == NULL || !str_eq(key, "let-me-in"))
        return err_set(err, ERR_UNAUTHENTICATED, "authorization header is missing");
    request_set_user(req, "tester", sizeof("tester"));
    return 0;
}

static void write_error(struct reply *reply, const struct err *err)
{
    static const int statuses[ERR_CODE_COUNT] = {
        [ERR_INVALID] = 400,  [ERR_UNAUTHENTICATED] = 401, [ERR_NOT_FOUND] = 404,
        [ERR_INTERNAL] = 500, [ERR_UNSUPPORTED] = 501,     [ERR_BUSY] = 503,
    };
    int status = statuses[err->code] != 0 ? statuses[err->code] : 500;
    json_t *json = json_object();

    json_put_i64(json, "code", status);
    json_put_str(json, "message", err->msg);
    reply_json(reply, status, json);
}

static void on_accept(void *ctx, struct loop *loop, struct st_h2o_socket_t *sock)
{
    (void)loop;
    http_server_accept(ctx, sock);
}

static void on_peeked(h2o_socket_t *sock, const char *h2o_err)
{
    struct http_server *http = sock->data;

    if (h2o_err != NULL)
        h2o_socket_close(sock);
    else if (sock->input->size >= 4)
        http_server_accept(http, sock);
}

static void on_accept_peeking(void *ctx, struct loop *loop, struct st_h2o_socket_t *sock)
{
    (void)loop;
    sock->data = ctx;
    h2o_socket_read_start(sock, on_peeked);
    if (sock->input->size >= 4)
        on_peeked(sock, NULL);
}

static void on_drain_timer(struct timer *timer)
{
    struct thread *thread = container_of(timer, struct thread, drain_timer);

    if (http_server_active(thread->http) == 0)
        loop_stop(thread->loop);
    else
        timer_arm(thread->loop, timer, 20, on_drain_timer);
}

static void on_drain_msg(struct loop_msg *msg)
{
    struct thread *thread = container_of(msg, struct thread, drain_msg);

    http_server_drain(thread->http);
    on_drain_timer(&thread->drain_timer);
}

static void on_signal(void *ctx, int signo)
{
    struct err err = {0};

    (void)ctx;
    if (signo == SIGHUP) {
        if (tls_reload(app.tls, &err) < 0)
            log_err(LOG_ERROR, "reload failed", NULL, &err);
        puts("reloaded");
        fflush(stdout);
        return;
    }
    if (app.stopping)
        return;
    app.stopping = true;
    listener_stop(app.plain);
    listener_stop(app.secure);
    listener_stop(app.peeking);
    for (size_t i = 0; i < app.thread_count; i++)
        loop_post(app.threads[i].loop, &app.threads[i].drain_msg);
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;

    loop_run(thread->loop);
    return NULL;
}

static const struct http_config config = {
    .name = "test",
    .routes = routes,
    .route_count = array_size(routes),
    .authorize = authorize,
    .write_error = write_error,
    .body_max_bytes = BODY_MAX,
    .idle_timeout_ms = 3000,
    .request_timeout_ms = 1000,
};

static int start(struct http_config *with_workers, const char *cert, const char *key,
                 struct err *err)
{
    struct loop *loops[THREADS_MAX];
    void *ctxs[THREADS_MAX];

    for (size_t i = 0; i < app.thread_count; i++) {
        struct thread *thread = &app.threads[i];

        thread->loop = loop_new();
        thread->http = http_server_new(with_workers, thread->loop);
        thread->drain_msg.run = on_drain_msg;
        loops[i] = thread->loop;
        ctxs[i] = thread->http;
    }
    if (tls_new(cert, key, &app.tls, err) < 0 ||
        listener_new("localhost:0", loops, app.thread_count, NULL, &app.plain, err) < 0 ||
        listener_new("127.0.0.1:0", loops, app.thread_count, app.tls, &app.secure, err) < 0 ||
        listener_new("127.0.0.1:0", loops, app.thread_count, app.tls, &app.peeking, err) < 0)
        return -1;
    listener_start(app.plain, on_accept, ctxs);
    listener_start(app.secure, on_accept, ctxs);
    listener_start(app.peeking, on_accept_peeking, ctxs);
    return 0;
}

static void stop(struct signal_watch *watch)
{
    for (size_t i = 1; i < app.thread_count; i++)
        pthread_join(app.threads[i].id, NULL);
    work_pool_free(app.workers);
    signal_watch_free(watch);
    listener_free(app.plain);
    listener_free(app.secure);
    listener_free(app.peeking);
    tls_free(app.tls);
    for (size_t i = 0; i < app.thread_count; i++) {
        http_server_free(app.threads[i].http);
        loop_free(app.threads[i].loop);
    }
}

int main(int argc, char **argv)
{
    struct http_config with_workers = config;
    struct signal_watch *watch = NULL;
    struct err err = {0};
    uint64_t threads = 1;

    if (argc != 4 ||
        str_to_u64(argv[1], strlen(argv[1]), 1, THREADS_MAX, "THREADS", &threads, &err) < 0)
        return 2;
    signal_block();
    hash_init();
    app.thread_count = threads;
    app.workers = work_pool_new("test", 4, 1000);
    with_workers.workers = app.workers;
    if (start(&with_workers, argv[2], argv[3], &err) < 0 ||
        signal_watch_new(app.threads[0].loop, on_signal, NULL, &watch, &err) < 0) {
        log_err(LOG_ERROR, "cannot start", NULL, &err);
        return 1;
    }
    for (size_t i = 1; i < app.thread_count; i++)
        pthread_create(&app.threads[i].id, NULL, thread_main, &app.threads[i]);
    printf("ready %u %u %u\n", listener_port(app.plain), listener_port(app.secure),
           listener_port(app.peeking));
    fflush(stdout);
    loop_run(app.threads[0].loop);
    stop(watch);
    puts("stopped");
    return 0;
}
