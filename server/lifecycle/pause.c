/*
 * server/lifecycle/pause.c - pause and resume, in two ways: frozen with its memory, or stopped with
 * its files alone.
 */
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

#define GUEST_PAUSE_MS 1000  /* envd has so long to answer before a pause */
#define GUEST_RESUME_MS 3000 /* and so long after a resume, if it had not */

/* Back to BEFORE after a failure; *ERR of the caller stays. */
static void revert(struct lifecycle *lifecycle, struct entry *entry,
                   const struct pause_marks *before)
{
    struct err err = {0};

    entry_set_pause(&lifecycle->registry, entry, before);
    if (store_sandbox_put(lifecycle->config.store, &entry->sandbox, &err) < 0)
        log_err(LOG_ERROR, "stored state is behind", entry->sandbox.id, &err);
}

/* The intent: the row, then memory. */
static int intend(struct lifecycle *lifecycle, struct entry *entry, const struct pause_marks *marks,
                  struct err *err)
{
    struct sandbox row = entry->sandbox; /* borrows the strings */

    row.state = marks->state;
    row.paused_files = marks->files;
    row.paused_deaf = marks->deaf;
    if (store_sandbox_put(lifecycle->config.store, &row, err) < 0)
        return -1;
    entry_set_pause(&lifecycle->registry, entry, marks);
    return 0;
}

/* The outcome: one row with state and times. Memory follows the store. */
static int settle(struct lifecycle *lifecycle, struct entry *entry, const struct pause_marks *marks,
                  int64_t started_unix_ms, const struct span *span, struct err *err)
{
    struct sandbox row = entry->sandbox; /* borrows the strings */

    row.state = marks->state;
    row.paused_files = marks->files;
    row.paused_deaf = marks->deaf;
    row.started_unix_ms = started_unix_ms;
    row.end_unix_ms = span->end_unix_ms;
    if (store_sandbox_put(lifecycle->config.store, &row, err) < 0)
        return -1;
    entry_set_times(&lifecycle->registry, entry, started_unix_ms, span->end_unix_ms,
                    span->end_mono_ms);
    entry_set_pause(&lifecycle->registry, entry, marks);
    return 0;
}

static struct pause_marks marks_of(const struct entry *entry)
{
    return (struct pause_marks){
        .state = entry->sandbox.state,
        .files = entry->sandbox.paused_files,
        .deaf = entry->sandbox.paused_deaf,
    };
}

static bool can_pause(const struct engine_ops *ops, bool files)
{
    return files ? ops->stop != NULL && ops->start != NULL
                 : ops->freeze != NULL && ops->thaw != NULL;
}

static int need_pause(const struct lifecycle *lifecycle, bool files, struct err *err)
{
    const struct engine_ops *ops = lifecycle->config.engine->ops;

    if (can_pause(ops, files))
        return 0;
    if (files)
        return err_set(err, ERR_UNSUPPORTED,
                       "the %s engine cannot pause or resume without memory (memory=false)",
                       ops->name);
    return err_set(err, ERR_UNSUPPORTED, "the %s engine cannot pause sandboxes", ops->name);
}

/* The engine's call (freeze or thaw) alone; a settle that fails is undone by the other one. */
static void undo(struct lifecycle *lifecycle, const char *id,
                 int (*call)(struct engine *engine, const char *id, struct err *err))
{
    struct err err = {0};

    if (call(lifecycle->config.engine, id, &err) < 0)
        log_err(LOG_ERROR, "cannot undo a pause or resume", id, &err);
}

/* --- pause ----------------------------------------------------------------------------------- */

/* *DEAF: envd does not answer. -1: and HOW wants one that does. */
static int look_at_guest(struct lifecycle *lifecycle, const struct entry *entry,
                         const struct lifecycle_pause *how, bool *deaf, struct err *err)
{
    *deaf = false;
    if (how->files_only && !how->require_healthy)
        return 0; /* what envd is doing does not matter: it will not go on */
    *deaf = !guest_answers(lifecycle, entry->sandbox.id, GUEST_PAUSE_MS);
    if (!*deaf || !how->require_healthy)
        return 0;
    return err_set(err, ERR_BUSY,
                   "Sandbox '%s' was not paused and keeps running: its envd does not answer",
                   entry->sandbox.id);
}

static int act_pause(struct lifecycle *lifecycle, const struct entry *entry, bool files,
                     struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const char *id = entry->sandbox.id;

    if (lifecycle->config.on_end != NULL)
        lifecycle->config.on_end(lifecycle->config.on_end_ctx, id);
    if ((files ? engine->ops->stop : engine->ops->freeze)(engine, id, err) < 0)
        return engine_failed(files ? "stop" : "freeze", id, err);
    return 0;
}

int entry_pause(struct lifecycle *lifecycle, struct entry *entry, const struct lifecycle_pause *how,
                struct err *err)
{
    const struct pause_marks running = {.state = SANDBOX_RUNNING};
    struct pause_marks marks = {.state = SANDBOX_PAUSING, .files = how->files_only};
    struct span now;

    if (need_pause(lifecycle, how->files_only, err) < 0 ||
        look_at_guest(lifecycle, entry, how, &marks.deaf, err) < 0 ||
        intend(lifecycle, entry, &marks, err) < 0)
        return -1;
    fault_point("pause.intended");
    if (act_pause(lifecycle, entry, how->files_only, err) < 0) {
        revert(lifecycle, entry, &running);
        return -1;
    }
    fault_point("pause.acted");
    now = span_from_now(0);
    marks.state = SANDBOX_PAUSED;
    if (settle(lifecycle, entry, &marks, entry->sandbox.started_unix_ms, &now, err) < 0) {
        if (how->files_only) { /* it has ended; the row says PAUSING, and the next start settles */
            entry_set_pause(&lifecycle->registry, entry, &marks);
            entry_disarm(&lifecycle->registry, entry);
            err->code = ERR_INTERNAL; /* a store that is busy would mean: nothing was changed */
            return -1;
        }
        undo(lifecycle, entry->sandbox.id, lifecycle->config.engine->ops->thaw);
        revert(lifecycle, entry, &running);
        return -1;
    }
    entry_disarm(&lifecycle->registry, entry);
    entry_tell(lifecycle, entry, LIFECYCLE_PAUSED, SANDBOX_END_NONE);
    log_info("sandbox paused", "sandbox_id", entry->sandbox.id, "kept",
             how->files_only ? "filesystem" : "memory");
    return 0;
}

int entry_pause_again(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    struct pause_marks marks = marks_of(entry);
    const struct span now = span_from_now(0);

    if (need_pause(lifecycle, marks.files, err) < 0 ||
        act_pause(lifecycle, entry, marks.files, err) < 0)
        return -1;
    marks.state = SANDBOX_PAUSED;
    return settle(lifecycle, entry, &marks, entry->sandbox.started_unix_ms, &now, err);
}

int entry_forget_memory(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    const struct pause_marks marks = {.state = SANDBOX_PAUSED, .files = true};
    int64_t paused_at =
        entry->sandbox.state == SANDBOX_PAUSED ? entry->sandbox.end_unix_ms : time_unix_ms();
    struct span span = {.end_unix_ms = paused_at, .end_mono_ms = time_mono_ms()};

    if (settle(lifecycle, entry, &marks, entry->sandbox.started_unix_ms, &span, err) < 0)
        return -1;
    entry_not_exited(&lifecycle->registry, entry);
    entry_disarm(&lifecycle->registry, entry);
    log_warn("memory of a paused sandbox is lost, its files are kept", "sandbox_id",
             entry->sandbox.id);
    return 0;
}

/* --- resume ---------------------------------------------------------------------------------- */

/* Thaw; one whose envd did not answer at its pause must answer now, else it is frozen again. */
static int act_thaw(struct lifecycle *lifecycle, const struct entry *entry, bool was_deaf,
                    struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const char *id = entry->sandbox.id;

    if (engine->ops->thaw(engine, id, err) < 0)
        return engine_failed("thaw", id, err);
    if (!was_deaf || guest_answers(lifecycle, id, GUEST_RESUME_MS))
        return 0;
    undo(lifecycle, id, engine->ops->freeze);
    err_set(err, ERR_CONFLICT,
            "Sandbox '%s' was paused while its envd did not answer, and it still does not: resume "
            "it from its files with memory=false",
            id);
    return err_name(err, "sandbox_snapshot_guest_agent_unresponsive");
}

/* End what is left of its last run and boot from its files. */
static int act_boot(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const struct sandbox *sandbox = &entry->sandbox;
    _cleanup_(secret_text_free) char *config = NULL;
    _cleanup_(secret_text_free) char *policy = NULL;
    _cleanup_json_ json_t *env = NULL;
    struct engine_sandbox made = {0};
    struct engine_spec spec;
    bool internet;

    if (env_open(lifecycle, sandbox->namespace_, sandbox->env, &env, err) < 0 ||
        network_policy(lifecycle, sandbox, &internet, &policy, err) < 0)
        return -1;
    config = envd_config(lifecycle, entry, env);
    spec = engine_spec_of(sandbox, config, internet, policy);
    if (engine->ops->stop(engine, sandbox->id, err) < 0)
        return engine_failed("stop", sandbox->id, err);
    fault_point("resume.stopped");
    entry_not_exited(&lifecycle->registry, entry);
    if (engine->ops->start(engine, &spec, &made, err) < 0)
        return engine_failed("start", sandbox->id, err);
    entry_set_engine_data(&lifecycle->registry, entry, made.engine_data);
    return 0;
}

/* A resume whose outcome could not be stored: as it was before, as far as that goes. */
static void undo_resume(struct lifecycle *lifecycle, struct entry *entry,
                        const struct pause_marks *before, bool boot)
{
    const struct engine_ops *ops = lifecycle->config.engine->ops;

    undo(lifecycle, entry->sandbox.id, boot ? ops->stop : ops->freeze);
    revert(lifecycle, entry, before);
}

int entry_resume(struct lifecycle *lifecycle, struct entry *entry, int64_t timeout_ms, bool reboot,
                 struct err *err)
{
    struct pause_marks before = marks_of(entry);
    const struct pause_marks running = {.state = SANDBOX_RUNNING};
    bool boot = reboot || before.files;
    struct pause_marks marks = {SANDBOX_RESUMING, .files = boot, .deaf = before.deaf};
    int64_t begun_us = time_mono_us();
    struct span span;

    before.state = SANDBOX_PAUSED;
    if (need_pause(lifecycle, boot, err) < 0 || intend(lifecycle, entry, &marks, err) < 0)
        return -1;
    fault_point("resume.intended");
    if ((boot ? act_boot(lifecycle, entry, err) : act_thaw(lifecycle, entry, before.deaf, err)) <
        0) {
        before.files = boot; /* its memory may be gone */
        revert(lifecycle, entry, &before);
        return -1;
    }
    fault_point("resume.acted");
    span = span_from_now(timeout_ms);
    if (settle(lifecycle, entry, &running, span.start_unix_ms, &span, err) < 0) {
        before.files = boot;
        undo_resume(lifecycle, entry, &before, boot);
        return -1;
    }
    entry_arm(&lifecycle->registry, entry, span.end_mono_ms);
    histogram_add(&lifecycle->resume_time, time_mono_us() - begun_us);
    entry_tell(lifecycle, entry, LIFECYCLE_RESUMED, SANDBOX_END_NONE);
    log_info("sandbox resumed", "sandbox_id", entry->sandbox.id, "kept",
             boot ? "filesystem" : "memory");
    return 0;
}

/* --- calls of clients ------------------------------------------------------------------------ */

int lifecycle_pause(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                    const struct lifecycle_pause *how, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (registry_hold(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_RUNNING)
        rc = entry_pause(lifecycle, entry, how, err);
    else
        rc = err_set(err, ERR_CONFLICT, "Error pausing sandbox - sandbox '%s' is already paused",
                     id);
    registry_release(&lifecycle->registry, entry);
    return rc;
}

/* Somebody else is starting ID now. */
static bool start_runs(struct lifecycle *lifecycle, const char *namespace_, const char *id)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct err ignored = {0};

    return registry_get(&lifecycle->registry, namespace_, id, &sandbox, &ignored) == 0 &&
           sandbox.state == SANDBOX_RESUMING;
}

static int wake(struct lifecycle *lifecycle, struct entry *entry, const struct lifecycle_wake *how,
                struct lifecycle_woken *out, struct err *err)
{
    bool boot = how->reboot || entry->sandbox.paused_files;

    if (how->traffic && entry->sandbox.paused_files)
        return err_set(err, ERR_CONFLICT,
                       "Sandbox \"%s\" was paused without memory: it is resumed by connect, not by "
                       "traffic",
                       entry->sandbox.id);
    if (entry_reserve(lifecycle, entry, err) < 0 ||
        entry_resume(lifecycle, entry, how->timeout_ms, how->reboot, err) < 0)
        return -1;
    out->resumed = true;
    out->booted = boot;
    return 0;
}

/* Not longer than a run may be; one that has run for so long already is not extended either. */
static int check_timeout(struct lifecycle *lifecycle, const struct entry *entry,
                         const struct lifecycle_wake *how, struct err *err)
{
    struct quotas quotas;

    limits_of(lifecycle, entry->sandbox.namespace_, entry->sandbox.key_id, &quotas);
    if (limits_check_timeout(&quotas, how->timeout_ms / 1000, err) < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_RUNNING && !how->must_be_paused &&
        time_mono_ms() - entry->started_mono_ms > limits_lifetime_ms(&quotas))
        return err_set(err, ERR_INVALID, "Max instance length exceeded");
    return 0;
}

int lifecycle_wake(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                   const struct lifecycle_wake *how, struct lifecycle_woken *out, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (how->reboot && start_runs(lifecycle, namespace_, id)) {
        err_set(err, ERR_CONFLICT,
                "Sandbox \"%s\" is being started: memory=false cannot join that start", id);
        return err_name(err, "sandbox_start_in_flight");
    }
    if (registry_hold(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    out->resumed = out->booted = false;
    if (check_timeout(lifecycle, entry, how, err) < 0)
        rc = -1;
    else if (entry->sandbox.state == SANDBOX_PAUSED)
        rc = wake(lifecycle, entry, how, out, err);
    else if (how->must_be_paused)
        rc = err_set(err, ERR_CONFLICT, "Sandbox %s is already running", id);
    else
        rc = entry_move_end(lifecycle, entry, how->timeout_ms, true, err);
    if (rc == 0)
        sandbox_copy(&out->sandbox, &entry->sandbox);
    registry_release(&lifecycle->registry, entry);
    return rc;
}

int lifecycle_resume(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                     int64_t timeout_ms, struct sandbox *out, struct err *err)
{
    const struct lifecycle_wake how = {.timeout_ms = timeout_ms, .must_be_paused = true};
    struct lifecycle_woken woken = {0};

    if (lifecycle_wake(lifecycle, namespace_, id, &how, &woken, err) < 0)
        return -1;
    *out = woken.sandbox;
    return 0;
}

int lifecycle_connect(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                      int64_t timeout_ms, bool *resumed, struct sandbox *out, struct err *err)
{
    const struct lifecycle_wake how = {.timeout_ms = timeout_ms};
    struct lifecycle_woken woken = {0};

    if (lifecycle_wake(lifecycle, namespace_, id, &how, &woken, err) < 0)
        return -1;
    *resumed = woken.resumed;
    *out = woken.sandbox;
    return 0;
}
