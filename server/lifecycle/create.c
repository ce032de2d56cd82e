#include <stdlib.h>
#include <string.h>

#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define MS_PER_S 1000

static char *text_or_null(const json_t *json)
{
    return json != NULL ? json_text(json) : NULL;
}

static int fill(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                const struct template *template, struct sandbox *out, struct err *err)
{
    if (str_copy(out->namespace_, sizeof(out->namespace_), request->namespace_,
                 strlen(request->namespace_)) < 0 ||
        str_copy(out->client, sizeof(out->client), request->client, strlen(request->client)) < 0)
        return err_set(err, ERR_INVALID, "namespace or client name is too long");
    if (request->key_id != NULL)
        str_copy(out->key_id, sizeof(out->key_id), request->key_id, strlen(request->key_id));
    out->timeout_s = request->timeout_s;
    sandbox_id_new(out->id);
    memcpy(out->template_id, template->id, sizeof(out->template_id));
    memcpy(out->alias, template->alias, sizeof(out->alias));
    out->state = SANDBOX_CREATING;
    out->created_unix_ms = time_unix_ms();
    out->started_unix_ms = out->created_unix_ms;
    out->end_unix_ms = out->created_unix_ms + request->timeout_s * MS_PER_S;
    out->cpu_count = template->cpu_count;
    out->memory_mb = template->memory_mb;
    out->disk_mb = template->disk_mb;
    memcpy(out->envd_version, lifecycle->config.envd_version, sizeof(out->envd_version));
    memcpy(out->envd_build, lifecycle->config.envd_build, sizeof(out->envd_build));
    out->secure = request->secure;
    out->auto_pause = request->auto_pause;
    out->auto_pause_files = request->auto_pause_files;
    out->auto_resume = request->auto_resume;
    out->internet = request->internet;
    out->internet_set = request->internet_set;
    out->private_traffic = request->private_traffic;
    out->env = env_seal(lifecycle, out->namespace_, request->env);
    out->metadata = text_or_null(request->metadata);
    out->network = text_or_null(request->network);
    return 0;
}

static int check_request(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                         struct template *template, struct err *err)
{
    struct quotas quotas;

    limits_of(lifecycle, request->namespace_, request->key_id != NULL ? request->key_id : "",
              &quotas);
    if (request->timeout_s <= 0)
        return err_set(err, ERR_INVALID, "Timeout must be greater than 0");
    if (limits_check_timeout(&quotas, request->timeout_s, err) < 0 ||
        lifecycle_template_get(lifecycle, request->namespace_, request->template_ref, template,
                               err) < 0 ||
        network_check(lifecycle, request->network, err) < 0)
        return -1;
    return limits_check_size(&quotas, template->cpu_count, template->memory_mb, template->disk_mb,
                             err);
}

/* The engine's part; ENTRY is held and its row says CREATING. */
static int act(struct lifecycle *lifecycle, struct entry *entry, const struct birth *birth,
               struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const struct sandbox *sandbox = &entry->sandbox;
    _cleanup_(secret_text_free) char *config = envd_config(lifecycle, entry, birth->env);
    _cleanup_(secret_text_free) char *policy = NULL;
    struct engine_sandbox made = {0};
    struct engine_spec spec;
    bool internet;

    if (network_policy(lifecycle, sandbox, &internet, &policy, err) < 0)
        return -1;
    spec = engine_spec_of(sandbox, config, internet, policy);
    spec.snapshot = birth->snapshot;
    fault_point("create.intended");
    if (engine->ops->create(engine, &spec, &made, err) < 0) {
        if (err->code == ERR_INVALID && str_starts(err->msg, VOLUME_PATH_WORDS))
            return -1; /* the client's own words */
        return engine_failed("create", sandbox->id, err);
    }
    fault_point("create.made");
    entry_set_engine_data(&lifecycle->registry, entry, made.engine_data);
    return 0;
}

/* The outcome: it runs from now on, for as long as was asked. */
static int settle(struct lifecycle *lifecycle, struct entry *entry, int64_t timeout_s,
                  struct err *err)
{
    struct span span = span_from_now(timeout_s * MS_PER_S);
    struct sandbox row = entry->sandbox; /* borrows the strings */

    row.state = SANDBOX_RUNNING;
    row.started_unix_ms = span.start_unix_ms;
    row.end_unix_ms = span.end_unix_ms;
    if (store_sandbox_put(lifecycle->config.store, &row, err) < 0)
        return err_wrap(err, "outcome of %s", entry->sandbox.id);
    fault_point("create.settled");
    entry_set_times(&lifecycle->registry, entry, span.start_unix_ms, span.end_unix_ms,
                    span.end_mono_ms);
    entry_set_state(&lifecycle->registry, entry, SANDBOX_RUNNING);
    entry_arm(&lifecycle->registry, entry, span.end_mono_ms);
    return 0;
}

/* Leave nothing of the held ENTRY, or a row that the next start cleans up after. */
static void undo(struct lifecycle *lifecycle, struct entry *entry)
{
    struct engine *engine = lifecycle->config.engine;
    const struct sandbox *sandbox = &entry->sandbox;
    struct err err = {0};

    if (engine->ops->destroy(engine, sandbox->id, sandbox->engine_data, &err) < 0 ||
        store_sandbox_delete(lifecycle->config.store, sandbox->id, &err) < 0) {
        log_err(LOG_ERROR, "cannot undo a create, will retry", sandbox->id, &err);
        entry_set_state(&lifecycle->registry, entry, SANDBOX_KILLING);
        entry_retry(&lifecycle->registry, entry, END_RETRY_MS);
        registry_release(&lifecycle->registry, entry);
        return;
    }
    registry_remove(&lifecycle->registry, entry);
}

int sandbox_bring_up(struct lifecycle *lifecycle, struct sandbox *sandbox,
                     const struct birth *birth, struct sandbox *out, struct err *err)
{
    struct entry *entry = entry_new(sandbox);
    int64_t begun_us = time_mono_us();
    uint64_t secrets_seen = atomic_load(&lifecycle->secret_changes);
    struct quotas quotas;
    struct room room;

    limits_of(lifecycle, entry->sandbox.namespace_, entry->sandbox.key_id, &quotas);
    room = limits_room(&quotas);
    entry_derive(lifecycle, entry);
    if (volumes_claim(lifecycle, entry, &room, err) < 0) {
        entry_free(entry);
        return -1;
    }
    if (store_sandbox_put(lifecycle->config.store, &entry->sandbox, err) < 0 ||
        act(lifecycle, entry, birth, err) < 0 ||
        settle(lifecycle, entry, birth->timeout_s, err) < 0) {
        atomic_fetch_add(&lifecycle->create_failed, 1);
        undo(lifecycle, entry);
        return -1;
    }
    secrets_recheck(lifecycle, entry, secrets_seen);
    atomic_fetch_add(&lifecycle->created, 1);
    histogram_add(&lifecycle->create_time, time_mono_us() - begun_us);
    log_info("sandbox created", "sandbox_id", entry->sandbox.id, "namespace",
             entry->sandbox.namespace_, "template", entry->sandbox.template_id, "took_ms",
             log_num((time_mono_us() - begun_us) / 1000));
    entry_tell(lifecycle, entry, LIFECYCLE_CREATED, SANDBOX_END_NONE);
    sandbox_copy(out, &entry->sandbox);
    registry_release(&lifecycle->registry, entry);
    return 0;
}

int create_once(struct lifecycle *lifecycle, const struct lifecycle_create *request, const char *id,
                struct sandbox *out, struct err *err)
{
    const struct birth birth = {.env = request->env, .timeout_s = request->timeout_s};
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct template template;

    if (check_request(lifecycle, request, &template, err) < 0 ||
        fill(lifecycle, request, &template, &sandbox, err) < 0 ||
        volume_mounts_resolve(lifecycle, request->namespace_, request->volume_mounts,
                              &sandbox.volume_mounts, err) < 0)
        return -1;
    if (id != NULL)
        memcpy(sandbox.id, id, sizeof(sandbox.id));
    if (template.snapshot_id[0] != '\0')
        return sandbox_from_snapshot(lifecycle, template.snapshot_id, &sandbox, &birth, out, err);
    return sandbox_bring_up(lifecycle, &sandbox, &birth, out, err);
}

int lifecycle_create(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                     struct sandbox *out, struct err *err)
{
    if (request->idempotency_key != NULL)
        return create_claimed(lifecycle, request, out, err);
    return create_once(lifecycle, request, NULL, out, err);
}
