#include "server/lifecycle/lifecycle.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

#define META_INSTALLED "installed_unix_ms"

struct span span_from_now(int64_t timeout_ms)
{
    int64_t now = time_unix_ms();

    return (struct span){
        .start_unix_ms = now,
        .end_unix_ms = now + timeout_ms,
        .end_mono_ms = time_mono_ms() + timeout_ms,
    };
}

int engine_failed(const char *what, const char *id, struct err *err)
{
    switch (err->code) {
    case ERR_LIMIT:
    case ERR_UNSUPPORTED:
    case ERR_BUSY:
    case ERR_TIMEOUT:
    case ERR_NO_SPACE:
        break;
    default:
        err->code = ERR_INTERNAL;
    }
    return err_wrap(err, "%s %s", what, id);
}

void entry_tell(struct lifecycle *lifecycle, const struct entry *entry, enum lifecycle_event event,
                enum sandbox_end why)
{
    const struct lifecycle_config *config = &lifecycle->config;

    if (config->on_event != NULL)
        config->on_event(config->on_event_ctx, event, &entry->sandbox, why);
}

static void engine_exited(void *ctx, const char *id)
{
    struct lifecycle *lifecycle = ctx;

    registry_exited(&lifecycle->registry, id);
}

/* When the state folder was first used; it is the base template's date. */
static int load_installed(struct lifecycle *lifecycle, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_free_ char *now = NULL;

    if (store_meta_get(lifecycle->config.store, META_INSTALLED, &text, err) < 0)
        return -1;
    if (text != NULL)
        return str_to_i64(text, strlen(text), 0, INT64_MAX, META_INSTALLED,
                          &lifecycle->installed_unix_ms, err);
    lifecycle->installed_unix_ms = time_unix_ms();
    now = mem_asprintf("%lld", (long long)lifecycle->installed_unix_ms);
    return store_meta_set(lifecycle->config.store, META_INSTALLED, now, err);
}

int lifecycle_new(const struct lifecycle_config *config, struct lifecycle **out, struct err *err)
{
    struct lifecycle *lifecycle = mem_zalloc(sizeof(*lifecycle));

    lifecycle->config = *config;
    lifecycle->config.on_end = NULL; /* nobody is connected before this returns */
    registry_init(&lifecycle->registry);
    pthread_mutex_init(&lifecycle->claims.lock, NULL);
    catalog_init(&lifecycle->catalog);
    pthread_mutex_init(&lifecycle->works_lock, NULL);
    pthread_mutex_init(&lifecycle->volumes_lock, NULL);
    pthread_cond_init(&lifecycle->works_done, NULL);
    config->engine->on_exit_ctx = lifecycle;
    config->engine->on_exit = engine_exited;
    if (load_installed(lifecycle, err) < 0 || lifecycle_reconcile(lifecycle, err) < 0)
        goto failed;
    lifecycle->config.on_end = config->on_end;
    if (timeout_start(lifecycle, err) < 0)
        goto failed;
    *out = lifecycle;
    return 0;
failed:
    config->engine->on_exit = NULL;
    lifecycle_free(lifecycle);
    return -1;
}

void lifecycle_stop(struct lifecycle *lifecycle)
{
    if (lifecycle != NULL)
        timeout_stop(lifecycle);
}

void lifecycle_free(struct lifecycle *lifecycle)
{
    if (lifecycle == NULL)
        return;
    lifecycle_stop(lifecycle);
    registry_clear(&lifecycle->registry);
    pthread_mutex_destroy(&lifecycle->claims.lock);
    catalog_clear(&lifecycle->catalog);
    pthread_cond_destroy(&lifecycle->works_done);
    pthread_mutex_destroy(&lifecycle->works_lock);
    pthread_mutex_destroy(&lifecycle->volumes_lock);
    secret_clear(&lifecycle->config.master);
    free(lifecycle);
}

int lifecycle_get(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                  struct sandbox *out, struct err *err)
{
    return registry_get(&lifecycle->registry, namespace_, id, out, err);
}

/* Newest start first; equal starts by id, so that pages have one order. */
static int by_start_descending(const void *a, const void *b)
{
    const struct sandbox *x = a, *y = b;

    if (x->started_unix_ms != y->started_unix_ms)
        return x->started_unix_ms < y->started_unix_ms ? 1 : -1;
    return strcmp(y->id, x->id);
}

int lifecycle_list(struct lifecycle *lifecycle, const char *namespace_, struct sandbox **out,
                   size_t *count, struct err *err)
{
    (void)err;
    registry_list(&lifecycle->registry, namespace_, out, count);
    qsort(*out, *count, sizeof(**out), by_start_descending);
    return 0;
}

void sandbox_list_free(struct sandbox *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sandbox_clear(&list[i]);
    free(list);
}

static void read_route(const struct entry *entry, void *ctx)
{
    struct lifecycle_route *out = ctx;

    out->running = entry->sandbox.state == SANDBOX_RUNNING;
    out->wakes = !out->running && entry->sandbox.auto_resume && !entry->sandbox.paused_files;
    out->secure = entry->sandbox.secure;
    out->private_traffic = entry->sandbox.private_traffic;
    out->ingress = entry->ingress;
    out->started_unix_ms = entry->sandbox.started_unix_ms;
    memcpy(out->traffic_token, entry->traffic_token, sizeof(out->traffic_token));
    memcpy(out->jwt_key, entry->jwt_key, sizeof(out->jwt_key));
}

int lifecycle_route(struct lifecycle *lifecycle, const char *id, struct lifecycle_route *out,
                    struct err *err)
{
    return registry_read(&lifecycle->registry, id, read_route, out) ? 0
                                                                    : sandbox_not_found(id, err);
}

int lifecycle_envd_changed(struct lifecycle *lifecycle, const char *id, const char *version,
                           const char *build, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (strlen(version) >= ENVD_VERSION_SIZE || strlen(build) >= ENVD_BUILD_SIZE)
        return err_set(err, ERR_INVALID, "the version of an envd is too long");
    if (registry_hold(&lifecycle->registry, NULL, id, &entry, err) < 0)
        return -1;
    rc = store_sandbox_envd(lifecycle->config.store, id, version, build, err);
    if (rc == 0)
        entry_set_envd(&lifecycle->registry, entry, version, build);
    registry_release(&lifecycle->registry, entry);
    return rc;
}

struct engine *lifecycle_engine(struct lifecycle *lifecycle)
{
    return lifecycle->config.engine;
}

void lifecycle_accept(struct lifecycle *lifecycle, bool accept)
{
    registry_refuse(&lifecycle->registry, !accept);
}

void lifecycle_stats_get(struct lifecycle *lifecycle, struct lifecycle_stats *out)
{
    registry_count(&lifecycle->registry, &out->running, &out->paused, &out->starting);
    out->created = atomic_load(&lifecycle->created);
    out->create_failed = atomic_load(&lifecycle->create_failed);
    for (size_t why = 0; why < SANDBOX_END_COUNT; why++)
        out->ended[why] = atomic_load(&lifecycle->ended[why]);
}

static void write_time(const struct histogram *histogram, const char *name, const char *help,
                       struct buf *out)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    histogram_write(histogram, name, "", out);
}

void lifecycle_metrics(struct lifecycle *lifecycle, struct buf *out)
{
    write_time(&lifecycle->create_time, "sandpit_sandbox_create_duration_seconds",
               "Creates that worked, from the request's check to the stored outcome.", out);
    write_time(&lifecycle->resume_time, "sandpit_sandbox_resume_duration_seconds",
               "Resumes that worked.", out);
}
