#include "server/base/log.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

static int set_state(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_state state,
                     struct err *err)
{
    if (store_sandbox_state(lifecycle->config.store, entry->sandbox.id, state, err) < 0)
        return -1;
    entry_set_state(&lifecycle->registry, entry, state);
    return 0;
}

/* Back to STATE after a failure; *ERR of the caller stays. */
static void revert(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_state state)
{
    struct err err = {0};

    entry_set_state(&lifecycle->registry, entry, state);
    if (store_sandbox_state(lifecycle->config.store, entry->sandbox.id, state, &err) < 0)
        log_err(LOG_ERROR, "stored state is behind", entry->sandbox.id, &err);
}

/* The outcome: one row with state and times. Memory follows the store. */
static int settle(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_state state,
                  int64_t started_unix_ms, const struct span *span, struct err *err)
{
    struct sandbox row = entry->sandbox; /* borrows the strings */

    row.state = state;
    row.started_unix_ms = started_unix_ms;
    row.end_unix_ms = span->end_unix_ms;
    if (store_sandbox_put(lifecycle->config.store, &row, err) < 0)
        return -1;
    entry_set_times(&lifecycle->registry, entry, started_unix_ms, span->end_unix_ms,
                    span->end_mono_ms);
    entry_set_state(&lifecycle->registry, entry, state);
    return 0;
}

static bool can_pause(const struct lifecycle *lifecycle)
{
    const struct engine_ops *ops = lifecycle->config.engine->ops;

    return ops->freeze != NULL && ops->thaw != NULL;
}

static int need_pause(const struct lifecycle *lifecycle, struct err *err)
{
    if (can_pause(lifecycle))
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "the %s engine cannot pause sandboxes",
                   lifecycle->config.engine->ops->name);
}

/* The engine's call (freeze or thaw) alone; a settle that fails is undone by the other one. */
static void undo(struct lifecycle *lifecycle, const char *id,
                 int (*call)(struct engine *engine, const char *id, struct err *err))
{
    struct err err = {0};

    if (call(lifecycle->config.engine, id, &err) < 0)
        log_err(LOG_ERROR, "cannot undo a pause or resume", id, &err);
}

int entry_pause(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const char *id = entry->sandbox.id;
    struct span now = span_from_now(0);

    if (need_pause(lifecycle, err) < 0 || set_state(lifecycle, entry, SANDBOX_PAUSING, err) < 0)
        return -1;
    if (lifecycle->config.on_end != NULL)
        lifecycle->config.on_end(lifecycle->config.on_end_ctx, id);
    if (engine->ops->freeze(engine, id, err) < 0) {
        revert(lifecycle, entry, SANDBOX_RUNNING);
        return engine_failed("freeze", id, err);
    }
    if (settle(lifecycle, entry, SANDBOX_PAUSED, entry->sandbox.started_unix_ms, &now, err) < 0) {
        undo(lifecycle, id, engine->ops->thaw);
        revert(lifecycle, entry, SANDBOX_RUNNING);
        return -1;
    }
    entry_disarm(&lifecycle->registry, entry);
    entry_tell(lifecycle, entry, LIFECYCLE_PAUSED, SANDBOX_END_NONE);
    log_info("sandbox paused", "sandbox_id", id, "kept", "memory");
    return 0;
}

int entry_resume(struct lifecycle *lifecycle, struct entry *entry, int64_t timeout_ms,
                 struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const char *id = entry->sandbox.id;
    struct span span;

    if (need_pause(lifecycle, err) < 0 || set_state(lifecycle, entry, SANDBOX_RESUMING, err) < 0)
        return -1;
    if (engine->ops->thaw(engine, id, err) < 0) {
        revert(lifecycle, entry, SANDBOX_PAUSED);
        return engine_failed("thaw", id, err);
    }
    span = span_from_now(timeout_ms);
    if (settle(lifecycle, entry, SANDBOX_RUNNING, span.start_unix_ms, &span, err) < 0) {
        undo(lifecycle, id, engine->ops->freeze);
        revert(lifecycle, entry, SANDBOX_PAUSED);
        return -1;
    }
    entry_arm(&lifecycle->registry, entry, span.end_mono_ms);
    entry_tell(lifecycle, entry, LIFECYCLE_RESUMED, SANDBOX_END_NONE);
    log_info("sandbox resumed", "sandbox_id", id);
    return 0;
}

int lifecycle_pause(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                    struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (registry_hold(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_RUNNING)
        rc = entry_pause(lifecycle, entry, err);
    else
        rc = err_set(err, ERR_CONFLICT, "Error pausing sandbox - sandbox '%s' is already paused",
                     id);
    registry_release(&lifecycle->registry, entry);
    return rc;
}

int lifecycle_resume(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                     int64_t timeout_ms, struct sandbox *out, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (timeout_check(timeout_ms / 1000, err) < 0 ||
        registry_hold(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_PAUSED)
        rc = entry_resume(lifecycle, entry, timeout_ms, err);
    else
        rc = err_set(err, ERR_CONFLICT, "Sandbox %s is already running", id);
    if (rc == 0)
        sandbox_copy(out, &entry->sandbox);
    registry_release(&lifecycle->registry, entry);
    return rc;
}
