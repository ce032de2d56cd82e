/*
 * The Platform API on an engine in memory, for api_test.py: real loops, HTTP, keys and store.
 *
 * usage: api_server STATE_DIR
 * Prints "ready PORT OPS_PORT KEY READ_KEY OTHER_KEY": keys of namespace "team" for everything and
 * for reading, and one of namespace "other". Then it obeys lines: "fail create|destroy|freeze N",
 * "drain".
 * It ends with standard input, sandboxes stay.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "server/api/api.h"
#include "server/api/node.h"
#include "server/base/log.h"
#include "server/base/version.h"
#include "server/loop/listener.h"
#include "tests/unit/lifecycle/test_engine.h"

#define THREADS 2
#define WORKERS 8
#define QUEUE_MAX 256
#define LINE_SIZE 64

struct thread {
    pthread_t id;
    struct loop *loop;
    struct http_server *api, *ops;
};

static struct thread threads[THREADS];
static struct test_engine test;

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "%s: %s (%s)\n", what, err->msg, err->detail);
    exit(1);
}

static void add_key(struct store *store, const char *namespace_, uint32_t scopes,
                    char text[KEY_TEXT_SIZE])
{
    struct key key = {.scopes = scopes};
    struct err err = {0};

    key_make(&key, text);
    snprintf(key.namespace_, sizeof(key.namespace_), "%s", namespace_);
    snprintf(key.client, sizeof(key.client), "tester");
    if (store_key_add(store, &key, &err) < 0)
        die("key", &err);
}

static void on_accept(void *ctx, struct loop *loop, struct st_h2o_socket_t *sock)
{
    (void)loop;
    http_server_accept(ctx, sock);
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;

    loop_run(thread->loop);
    /* Here, not in main: an empty buffer of an h2o socket is a variable of its thread. */
    http_server_free(thread->api);
    http_server_free(thread->ops);
    return NULL;
}

/* A listener on a free port for the server that CTXS holds for each thread. */
static struct listener *listen_on(struct loop *const *loops, void *const *ctxs)
{
    struct listener *listener;
    struct err err = {0};

    if (listener_new("127.0.0.1:0", loops, THREADS, NULL, &listener, &err) < 0)
        die("listen", &err);
    listener_start(listener, on_accept, ctxs);
    return listener;
}

static void obey(struct api *api)
{
    static const struct {
        const char *name;
        enum call call;
    } calls[] = {{"create", CALL_CREATE}, {"destroy", CALL_DESTROY}, {"freeze", CALL_FREEZE}};
    char line[LINE_SIZE], name[LINE_SIZE];
    unsigned times;

    while (fgets(line, sizeof(line), stdin) != NULL) {
        times = 0;
        name[0] = '\0';
        if (strcmp(line, "drain\n") == 0)
            atomic_store(&api->draining, true);
        else if (sscanf(line, "fail %63s %u", name, &times) != 2)
            continue;
        for (size_t i = 0; i < array_size(calls); i++)
            if (strcmp(calls[i].name, name) == 0)
                test_engine_fail(&test, calls[i].call, times);
        printf("ok\n");
        fflush(stdout);
    }
}

static void start(struct api *api, struct work_pool *workers, struct listener *listeners[2])
{
    static struct http_config api_config, ops_config;
    struct loop *loops[THREADS];
    void *apis[THREADS], *opses[THREADS];

    api_http_config(api, workers, &api_config);
    ops_http_config(api, workers, &ops_config);
    for (size_t i = 0; i < THREADS; i++) {
        loops[i] = threads[i].loop = loop_new();
        apis[i] = threads[i].api = http_server_new(&api_config, loops[i]);
        opses[i] = threads[i].ops = http_server_new(&ops_config, loops[i]);
    }
    listeners[0] = listen_on(loops, apis);
    listeners[1] = listen_on(loops, opses);
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i].id, NULL, thread_main, &threads[i]);
}

/* The order that lifecycle.h asks for. */
static void stop(struct lifecycle *lifecycle, struct observe *observe, struct work_pool *workers,
                 struct listener *listeners[2])
{
    lifecycle_stop(lifecycle);
    listener_stop(listeners[0]);
    listener_stop(listeners[1]);
    for (size_t i = 0; i < THREADS; i++) {
        loop_stop(threads[i].loop);
        pthread_join(threads[i].id, NULL);
    }
    work_pool_free(workers);
    observe_stop(observe);
    lifecycle_free(lifecycle);
    observe_free(observe);
    listener_free(listeners[0]);
    listener_free(listeners[1]);
    for (size_t i = 0; i < THREADS; i++)
        loop_free(threads[i].loop);
}

int main(int argc, char **argv)
{
    struct lifecycle_config config = {
        .engine = &test.engine, .master = {.bytes = "0123456789abcdef0123456789abcdef", .len = 32}};
    struct observe_config observing = {.engine = &test.engine, .master = &config.master};
    struct api api = {.engine_name = "test", .domain = "box.test", .envd_version = ENVD_VERSION};
    char key[KEY_TEXT_SIZE], read_key[KEY_TEXT_SIZE], other_key[KEY_TEXT_SIZE],
        admin_key[KEY_TEXT_SIZE];
    struct listener *listeners[2];
    struct err err = {0};

    if (argc != 2 || hash_init() < 0)
        return 2;
    test_engine_init(&test);
    if (store_open(argv[1], &api.store, &err) < 0)
        die("store", &err);
    add_key(api.store, "team", SCOPE_READ | SCOPE_WRITE | SCOPE_KEYS, key);
    add_key(api.store, "team", SCOPE_READ, read_key);
    add_key(api.store, "other", SCOPE_READ | SCOPE_WRITE | SCOPE_KEYS, other_key);
    add_key(api.store, "ops", SCOPE_ADMIN, admin_key);
    config.store = api.store;
    config.workers = work_pool_new("work", WORKERS, QUEUE_MAX);
    observing.state_dir = argv[1];
    if (observe_new(&observing, &api.observe, &err) < 0)
        die("journal", &err);
    config.on_event = observe_event;
    config.on_event_ctx = api.observe;
    if (auth_new(api.store, &api.auth, &err) < 0 ||
        lifecycle_new(&config, &api.lifecycle, &err) < 0 ||
        observe_start(api.observe, api.lifecycle, &err) < 0 ||
        node_new(api.store, api.lifecycle, argv[1], &api.node, &err) < 0)
        die("start", &err);
    start(&api, config.workers, listeners);
    printf("ready %u %u %s %s %s %s\n", listener_port(listeners[0]), listener_port(listeners[1]),
           key, read_key, other_key, admin_key);
    fflush(stdout);
    obey(&api);
    stop(api.lifecycle, api.observe, config.workers, listeners);
    node_free(api.node);
    auth_free(api.auth);
    store_close(api.store);
    return 0;
}
