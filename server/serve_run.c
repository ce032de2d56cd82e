/* The main thread of a running server: signals, reload, drain. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/serve.h"

#define DRAIN_LOOK_MS 50

void serve_on_signal(void *ctx, int signo)
{
    struct server *server = ctx;

    pthread_mutex_lock(&server->lock);
    if (signo == SIGHUP)
        server->reload = true;
    else
        server->stop_signals++;
    pthread_cond_signal(&server->wake);
    pthread_mutex_unlock(&server->lock);
}

/* Wait for a signal, at most MS (negative: for ever). What came since the last call is taken. */
static unsigned wait_signal(struct server *server, int64_t ms, unsigned seen, bool *reload)
{
    struct timespec until;
    unsigned stops;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    if (ms > 0) {
        until.tv_nsec += (long)(ms % 1000) * 1000000;
        until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
    }
    pthread_mutex_lock(&server->lock);
    while (rc != ETIMEDOUT && server->stop_signals == seen && !server->reload)
        rc = ms < 0 ? pthread_cond_wait(&server->wake, &server->lock)
                    : pthread_cond_timedwait(&server->wake, &server->lock, &until);
    stops = server->stop_signals;
    *reload = server->reload;
    server->reload = false;
    pthread_mutex_unlock(&server->lock);
    return stops;
}

/* Take over what may change while running and tell what may not. */
static void apply_settings(struct server *server, struct settings *fresh)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        enum setting id = (enum setting)i;
        const char *before = settings_text(&server->settings, id);
        const char *after = settings_text(fresh, id);
        if (str_eq(before, after) || id == SETTING_STATE_DIR || id == SETTING_RUN_DIR)
            continue; /* the two folders were resolved at start and cannot be compared */
        if (id == SETTING_ENVD && fresh->source[id] == FROM_DEFAULT)
            continue; /* without root it is not known where this program lies */
        if (id != SETTING_LOG_LEVEL) {
            log_warn("a changed setting needs a restart", "setting", setting_name(id));
            continue;
        }
        log_set_level((enum log_level)fresh->number[id]);
        log_info("setting changed", "setting", setting_name(id), "from", before, "to", after);
        free(server->settings.text[id]);
        server->settings.text[id] = mem_strdup(after);
        server->settings.number[id] = fresh->number[id];
    }
}

static void reload(struct server *server)
{
    _cleanup_settings_ struct settings fresh;
    struct err err = {0};

    settings_init(&fresh);
    log_info("reloading settings");
    if (settings_args(&fresh, server->argc, server->argv, &err) < 0 ||
        settings_finish(&fresh, &err) < 0)
        log_err(LOG_ERROR, "settings are wrong; the old ones stay", NULL, &err);
    else
        apply_settings(server, &fresh);
    if (server->tls == NULL)
        return;
    if (tls_reload(server->tls, &err) < 0)
        log_err(LOG_WARN, "TLS certificate cannot be read again; the old one stays", NULL, &err);
    else
        log_info("TLS certificate read again");
}

static void on_drain(struct loop_msg *msg)
{
    struct serve_loop *loop = container_of(msg, struct serve_loop, drain_msg);

    http_server_drain(loop->http);
    proxy_drain(loop->proxy);
}

static void on_count(struct loop_msg *msg)
{
    struct serve_loop *loop = container_of(msg, struct serve_loop, count_msg);

    atomic_store(&loop->active, http_server_active(loop->http) + proxy_active(loop->proxy));
    atomic_store(&loop->counting, false);
}

static void begin_drain(struct server *server)
{
    for (int kind = LISTEN_API; kind < LISTEN_KINDS; kind++) {
        for (size_t i = 0; i < LISTEN_MAX; i++) {
            if (server->listeners[kind][i] != NULL)
                listener_stop(server->listeners[kind][i]);
        }
    }
    for (size_t i = 0; i < server->loop_count; i++) {
        struct serve_loop *loop = &server->loops[i];
        atomic_store(&loop->active, 1); /* until counted */
        loop->drain_msg.run = on_drain;
        loop_post(loop->loop, &loop->drain_msg);
    }
}

/* Ask each loop, and sum what they said last. */
static size_t count_active(struct server *server)
{
    size_t sum = 0;

    for (size_t i = 0; i < server->loop_count; i++) {
        struct serve_loop *loop = &server->loops[i];
        sum += atomic_load(&loop->active);
        if (atomic_exchange(&loop->counting, true))
            continue;
        loop->count_msg.run = on_count;
        loop_post(loop->loop, &loop->count_msg);
    }
    return sum;
}

static void drain(struct server *server, unsigned stops)
{
    int64_t deadline = time_mono_ms() + DRAIN_MS;
    size_t active;
    bool ignored;

    begin_drain(server);
    while ((active = count_active(server)) > 0) {
        if (time_mono_ms() > deadline) {
            log_warn("requests are cut off", "active", log_num((long long)active));
            return;
        }
        if (wait_signal(server, DRAIN_LOOK_MS, stops, &ignored) != stops) {
            log_warn("second signal: requests are cut off", "active", log_num((long long)active));
            return;
        }
    }
}

void serve_run(struct server *server)
{
    unsigned stops;
    bool reload_wanted;

    for (;;) {
        stops = wait_signal(server, -1, 0, &reload_wanted);
        if (stops > 0)
            break;
        if (reload_wanted)
            reload(server);
    }
    log_info("stopping: running requests are finished, sandboxes stay", "drain_ms",
             log_num(DRAIN_MS));
    serve_ready(server, false); /* load balancers look elsewhere */
    drain(server, stops);
}
