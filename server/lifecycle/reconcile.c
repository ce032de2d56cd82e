/*
 * server/lifecycle/reconcile.c - at start-up, make store, engine and memory agree.
 *
 * Runs alone, before any request, timer or exit is served, except that the engine may report exits.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

/* A held entry for a stored sandbox; its end on this process's monotonic clock. */
static struct entry *load(struct lifecycle *lifecycle, struct sandbox *row, struct err *err)
{
    struct entry *entry = entry_new(row);

    entry->started_mono_ms = time_mono_ms() + (entry->sandbox.started_unix_ms - time_unix_ms());
    entry->end_mono_ms = time_mono_ms() + (entry->sandbox.end_unix_ms - time_unix_ms());
    entry_derive(lifecycle, entry);
    if (registry_add(&lifecycle->registry, entry, NULL, err) < 0) {
        entry_free(entry);
        return NULL;
    }
    return entry;
}

/*
 * A pause that a crash interrupted goes on. A resume is taken back: nobody was told that it runs,
 * so nobody would keep it from its timeout. Lets go of ENTRY on success.
 */
static int finish(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    int rc = 0;

    if (entry->sandbox.state == SANDBOX_PAUSING || entry->sandbox.state == SANDBOX_RESUMING)
        rc = entry_pause_again(lifecycle, entry, err);
    if (rc < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_RUNNING)
        entry_arm(&lifecycle->registry, entry, entry->end_mono_ms);
    else /* paused: no timeout, unless it ended meanwhile */
        entry_disarm(&lifecycle->registry, entry);
    registry_release(&lifecycle->registry, entry);
    return 0;
}

static void drop_lost(struct lifecycle *lifecycle, struct entry *entry)
{
    struct err err = {0};

    log_warn("sandbox ended", "sandbox_id", entry->sandbox.id, "reason",
             sandbox_end_name(SANDBOX_END_LOST));
    atomic_fetch_add(&lifecycle->ended[SANDBOX_END_LOST], 1);
    entry_tell(lifecycle, entry, LIFECYCLE_KILLED, SANDBOX_END_LOST);
    if (store_claim_lost(lifecycle->config.store, entry->sandbox.id, &err) < 0 ||
        store_sandbox_delete(lifecycle->config.store, entry->sandbox.id, &err) < 0)
        log_err(LOG_ERROR, "row of a lost sandbox stays", entry->sandbox.id, &err);
    registry_remove(&lifecycle->registry, entry);
}

/* A failed end is logged here and tried again by the timer. */
static void end_it(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_end why)
{
    struct err err = {0};

    if (entry_end(lifecycle, entry, why, &err) < 0)
        log_err(LOG_ERROR, "cannot end a sandbox, will retry", NULL, &err);
}

/* The engine keeps no text of rules; those in force hold until they are said again. */
static void say_rules(struct lifecycle *lifecycle, struct entry *entry)
{
    struct err err = {0};

    if (entry_network(lifecycle, entry, &err) < 0)
        log_err(LOG_ERROR, "network rules cannot be renewed", entry->sandbox.id, &err);
}

static int take_up(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    say_rules(lifecycle, entry);
    return finish(lifecycle, entry, err);
}

/*
 * The processes of ENTRY are gone, as after a restart of the machine, and its file system is kept.
 * Paused ones stay paused, without memory. Of running ones, those that were to be paused at their
 * end are, now; the others have ended.
 */
static void keep_files(struct lifecycle *lifecycle, struct entry *entry)
{
    struct err err = {0};

    if (entry->sandbox.state == SANDBOX_RUNNING && !entry->sandbox.auto_pause) {
        end_it(lifecycle, entry, SANDBOX_END_LOST);
    } else if (entry_forget_memory(lifecycle, entry, &err) < 0) {
        log_err(LOG_ERROR, "cannot keep the files of a sandbox, ending it", entry->sandbox.id,
                &err);
        end_it(lifecycle, entry, SANDBOX_END_LOST);
    } else {
        registry_release(&lifecycle->registry, entry);
    }
}

static void take_over(struct lifecycle *lifecycle, struct entry *entry)
{
    struct engine *engine = lifecycle->config.engine;
    const struct sandbox *sandbox = &entry->sandbox;
    struct err err = {0};

    if (engine->ops->adopt(engine, sandbox->id, sandbox->engine_data, &err) < 0) {
        if (err.code == ERR_NOT_FOUND) {
            drop_lost(lifecycle, entry);
            return;
        }
        if (err.code == ERR_CONFLICT) {
            keep_files(lifecycle, entry);
            return;
        }
        log_err(LOG_ERROR, "cannot adopt a sandbox, ending it", sandbox->id, &err);
        end_it(lifecycle, entry, SANDBOX_END_LOST);
    } else if (take_up(lifecycle, entry, &err) < 0) {
        log_err(LOG_ERROR, "cannot finish what was begun, ending it", sandbox->id, &err);
        end_it(lifecycle, entry, SANDBOX_END_LOST);
    }
}

static int reconcile_rows(struct lifecycle *lifecycle, struct sandbox *rows, size_t count,
                          struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = load(lifecycle, &rows[i], err);
        if (entry == NULL)
            return -1;
        if (sandbox_state_visible(entry->sandbox.state))
            take_over(lifecycle, entry);
        else
            end_it(lifecycle, entry,
                   entry->sandbox.state == SANDBOX_CREATING ? SANDBOX_END_FAILED
                                                            : SANDBOX_END_KILLED);
    }
    return 0;
}

struct stray {
    char id[SANDBOX_ID_SIZE];
    char *engine_data;
};

struct strays {
    struct lifecycle *lifecycle;
    struct stray *list;
    size_t count;
};

static void note_stray(void *ctx, const char *id, const char *engine_data)
{
    struct strays *strays = ctx;
    struct stray stray = {.engine_data = NULL};

    if (registry_has(&strays->lifecycle->registry, id) ||
        str_copy(stray.id, sizeof(stray.id), id, strlen(id)) < 0)
        return;
    stray.engine_data = mem_strdup(engine_data);
    strays->list = mem_realloc_array(strays->list, strays->count + 1, sizeof(stray));
    strays->list[strays->count++] = stray;
}

/* What the engine has and no row names: left by a crash between the two. */
static int destroy_strays(struct lifecycle *lifecycle, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    struct strays strays = {.lifecycle = lifecycle};
    int rc = engine->ops->list(engine, note_stray, &strays, err);

    for (size_t i = 0; i < strays.count; i++) {
        struct err failed = {0};
        if (engine->ops->destroy(engine, strays.list[i].id, strays.list[i].engine_data, &failed) <
            0)
            log_err(LOG_ERROR, "cannot destroy a stray sandbox", strays.list[i].id, &failed);
        else
            log_warn("destroyed a stray sandbox", "sandbox_id", strays.list[i].id);
        free(strays.list[i].engine_data);
    }
    free(strays.list);
    return rc;
}

int lifecycle_reconcile(struct lifecycle *lifecycle, struct err *err)
{
    struct sandbox *rows = NULL;
    size_t count = 0;
    int rc;

    if (store_sandbox_list(lifecycle->config.store, &rows, &count, err) < 0)
        return -1;
    rc = reconcile_rows(lifecycle, rows, count, err);
    sandbox_list_free(rows, count);
    if (rc < 0 || store_claim_recover(lifecycle->config.store, err) < 0 ||
        snapshots_reconcile(lifecycle, err) < 0)
        return -1;
    if (destroy_strays(lifecycle, err) < 0)
        return -1;
    return volumes_reconcile(lifecycle, err);
}
