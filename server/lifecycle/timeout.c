/*
 * server/lifecycle/timeout.c - when sandboxes end: the thread that waits for deadlines, what is
 * done when one comes, and how clients move it.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define SUBMIT_RETRY_MS 100                        /* the pool's queue was full */
#define BUSY_RETRY_MS 1000                         /* another operation held the sandbox for long */
#define TIMEOUT_MAX_MS (INT32_MAX * INT64_C(1000)) /* so that sums do not overflow */
#define EXPIRIES_MAX 4 /* at once: many that are due must not take every worker */

/* --- what happens at a deadline -------------------------------------------------------------- */

/* The held ENTRY has reached its end time. Lets go of it. */
static void end_or_pause(struct lifecycle *lifecycle, struct entry *entry)
{
    const struct lifecycle_pause how = {.files_only = entry->sandbox.auto_pause_files};
    struct err err = {0};

    if (entry->sandbox.auto_pause && entry->sandbox.state == SANDBOX_RUNNING) {
        if (entry_pause(lifecycle, entry, &how, &err) == 0) {
            registry_release(&lifecycle->registry, entry);
            return;
        }
        log_err(LOG_WARN, "cannot pause at its timeout, ending it", entry->sandbox.id, &err);
    }
    if (entry_end(lifecycle, entry, SANDBOX_END_TIMEOUT, &err) < 0)
        log_err(LOG_ERROR, "cannot end a sandbox, will retry", NULL, &err);
}

static void end_now(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_end why)
{
    struct err err = {0};

    if (entry_end(lifecycle, entry, why, &err) < 0)
        log_err(LOG_ERROR, "cannot end a sandbox, will retry", NULL, &err);
}

/* The init of the held ENTRY has ended by itself. Lets go of it. */
static void end_exited(struct lifecycle *lifecycle, struct entry *entry)
{
    struct err err = {0};

    if (entry->sandbox.state == SANDBOX_PAUSED && lifecycle->config.engine->ops->start != NULL) {
        /* somebody will come back for it: its files are still there */
        if (entry_forget_memory(lifecycle, entry, &err) == 0) {
            registry_release(&lifecycle->registry, entry);
            return;
        }
        log_err(LOG_WARN, "cannot keep the files of a paused sandbox", entry->sandbox.id, &err);
    }
    end_now(lifecycle, entry, SANDBOX_END_EXITED);
}

void lifecycle_expire(struct lifecycle *lifecycle, const char *id)
{
    struct registry *registry = &lifecycle->registry;
    struct entry *entry = NULL;
    struct err err = {0};

    if (registry_hold_to_end(registry, NULL, id, &entry, &err) < 0) {
        if (err.code == ERR_BUSY)
            registry_arm_id(registry, id, time_mono_ms() + BUSY_RETRY_MS);
        return;
    }
    if (entry == NULL)
        return;
    if (entry_exited(registry, entry)) {
        end_exited(lifecycle, entry);
    } else if (entry->sandbox.state == SANDBOX_KILLING) {
        end_now(lifecycle, entry, SANDBOX_END_KILLED);
    } else if (entry->sandbox.state == SANDBOX_RUNNING && entry->end_mono_ms <= time_mono_ms()) {
        end_or_pause(lifecycle, entry);
    } else { /* extended, or paused, since it was due */
        if (entry->sandbox.state == SANDBOX_RUNNING)
            entry_arm(registry, entry, entry->end_mono_ms);
        registry_release(registry, entry);
    }
}

/* --- the thread ------------------------------------------------------------------------------ */

struct expiry {
    struct work work;
    struct lifecycle *lifecycle;
    char id[SANDBOX_ID_SIZE];
};

static void works_add(struct lifecycle *lifecycle, int delta)
{
    pthread_mutex_lock(&lifecycle->works_lock);
    lifecycle->works = (size_t)((ssize_t)lifecycle->works + delta);
    pthread_cond_broadcast(&lifecycle->works_done);
    pthread_mutex_unlock(&lifecycle->works_lock);
}

/* Wait until at most MAX are in the pool. */
static void works_wait(struct lifecycle *lifecycle, size_t max)
{
    pthread_mutex_lock(&lifecycle->works_lock);
    while (lifecycle->works > max)
        pthread_cond_wait(&lifecycle->works_done, &lifecycle->works_lock);
    pthread_mutex_unlock(&lifecycle->works_lock);
}

static void expiry_run(struct work *work)
{
    struct expiry *expiry = container_of(work, struct expiry, work);

    lifecycle_expire(expiry->lifecycle, expiry->id);
}

static void expiry_done(struct work *work)
{
    struct expiry *expiry = container_of(work, struct expiry, work);
    struct lifecycle *lifecycle = expiry->lifecycle;

    free(expiry);
    works_add(lifecycle, -1);
}

static void submit(struct lifecycle *lifecycle, const char *id)
{
    struct expiry *expiry = mem_zalloc(sizeof(*expiry));
    struct err err = {0};

    expiry->lifecycle = lifecycle;
    memcpy(expiry->id, id, sizeof(expiry->id));
    works_add(lifecycle, 1);
    if (work_submit(lifecycle->config.workers, &expiry->work, expiry_run, expiry_done, &err) == 0)
        return;
    free(expiry);
    works_add(lifecycle, -1);
    registry_arm_id(&lifecycle->registry, id, time_mono_ms() + SUBMIT_RETRY_MS);
}

static void *timer_main(void *ctx)
{
    struct lifecycle *lifecycle = ctx;
    char id[SANDBOX_ID_SIZE];

    while (registry_wait_due(&lifecycle->registry, id)) {
        submit(lifecycle, id);
        works_wait(lifecycle, EXPIRIES_MAX - 1);
    }
    return NULL;
}

int timeout_start(struct lifecycle *lifecycle, struct err *err)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&lifecycle->timer, NULL, timer_main, lifecycle);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_sys(err, rc, "cannot start the timeout thread");
    pthread_setname_np(lifecycle->timer, "timeouts");
    lifecycle->timer_started = true;
    return 0;
}

void timeout_stop(struct lifecycle *lifecycle)
{
    registry_stop(&lifecycle->registry);
    if (lifecycle->timer_started)
        pthread_join(lifecycle->timer, NULL);
    lifecycle->timer_started = false;
    works_wait(lifecycle, 0);
}

/* --- how clients move the end ---------------------------------------------------------------- */

/* A run has its longest, from its start on; an end that was allowed once stays allowed. */
static int64_t last_end_mono_ms(struct lifecycle *lifecycle, const struct entry *entry)
{
    struct quotas quotas;
    int64_t last;

    limits_of(lifecycle, entry->sandbox.namespace_, entry->sandbox.key_id, &quotas);
    last = entry->started_mono_ms + limits_lifetime_ms(&quotas);
    return last > entry->end_mono_ms ? last : entry->end_mono_ms;
}

int entry_move_end(struct lifecycle *lifecycle, struct entry *entry, int64_t timeout_ms,
                   bool extend_only, struct err *err)
{
    struct span span = span_from_now(timeout_ms);
    int64_t beyond_ms = span.end_mono_ms - last_end_mono_ms(lifecycle, entry);

    if (beyond_ms > 0) {
        span.end_mono_ms -= beyond_ms;
        span.end_unix_ms -= beyond_ms;
    }
    if (extend_only && span.end_mono_ms <= entry->end_mono_ms)
        return 0;
    if (store_sandbox_end(lifecycle->config.store, entry->sandbox.id, span.end_unix_ms, err) < 0)
        return -1;
    entry_set_times(&lifecycle->registry, entry, 0, span.end_unix_ms, span.end_mono_ms);
    entry_arm(&lifecycle->registry, entry, span.end_mono_ms);
    entry_tell(lifecycle, entry, LIFECYCLE_UPDATED, SANDBOX_END_NONE);
    return 0;
}

int lifecycle_set_timeout(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                          int64_t timeout_ms, bool extend_only, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (timeout_ms > TIMEOUT_MAX_MS)
        timeout_ms = TIMEOUT_MAX_MS;
    if (registry_hold(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_RUNNING)
        rc = entry_move_end(lifecycle, entry, timeout_ms, extend_only, err);
    else
        rc = err_set(err, ERR_CONFLICT, "Sandbox \"%s\" is paused", id);
    registry_release(&lifecycle->registry, entry);
    if (rc == 0 && timeout_ms <= 0 && !extend_only)
        lifecycle_expire(lifecycle, id); /* now, not when the timer thread gets to it */
    return rc;
}
