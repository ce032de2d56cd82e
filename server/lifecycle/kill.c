#include "server/base/log.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

/* The intent, in memory and in the store. Nothing changed on failure. */
static int intend_end(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    enum sandbox_state before = entry->sandbox.state;

    if (before == SANDBOX_KILLING)
        return 0;
    entry_set_state(&lifecycle->registry, entry, SANDBOX_KILLING);
    if (store_sandbox_state(lifecycle->config.store, entry->sandbox.id, SANDBOX_KILLING, err) == 0)
        return 0;
    entry_set_state(&lifecycle->registry, entry, before);
    return err_wrap(err, "intent to end %s", entry->sandbox.id);
}

static int act_end(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const struct sandbox *sandbox = &entry->sandbox;

    if (lifecycle->config.on_end != NULL)
        lifecycle->config.on_end(lifecycle->config.on_end_ctx, sandbox->id);
    if (engine->ops->destroy(engine, sandbox->id, sandbox->engine_data, err) < 0)
        return engine_failed("destroy", sandbox->id, err);
    return 0;
}

static void count_end(struct lifecycle *lifecycle, const struct sandbox *sandbox,
                      enum sandbox_end why)
{
    atomic_fetch_add(&lifecycle->ended[why], 1);
    log_info("sandbox ended", "sandbox_id", sandbox->id, "reason", sandbox_end_name(why),
             "lived_ms", log_num(time_unix_ms() - sandbox->created_unix_ms));
}

int entry_end(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_end why,
              struct err *err)
{
    struct err gone = {0};

    if (intend_end(lifecycle, entry, err) < 0 || act_end(lifecycle, entry, err) < 0) {
        entry_retry(&lifecycle->registry, entry, END_RETRY_MS);
        registry_release(&lifecycle->registry, entry);
        return -1;
    }
    if (why != SANDBOX_END_FAILED) /* nobody was told that it began */
        entry_tell(lifecycle, entry, LIFECYCLE_KILLED, why);
    /* It is gone. A row that stays says KILLING, and the next start removes it. */
    if ((why == SANDBOX_END_LOST &&
         store_claim_lost(lifecycle->config.store, entry->sandbox.id, &gone) < 0) ||
        store_sandbox_delete(lifecycle->config.store, entry->sandbox.id, &gone) < 0)
        log_err(LOG_ERROR, "row of an ended sandbox stays", entry->sandbox.id, &gone);
    count_end(lifecycle, &entry->sandbox, why);
    registry_remove(&lifecycle->registry, entry);
    return 0;
}

int lifecycle_kill(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                   enum sandbox_end why, struct err *err)
{
    struct entry *entry = NULL;

    if (registry_hold_to_end(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    if (entry == NULL) /* it ended while this one waited: whoever ended it has told somebody */
        return sandbox_not_found(id, err);
    return entry_end(lifecycle, entry, why, err);
}
