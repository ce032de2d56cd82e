#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define DEFAULT_USER "user"
#define MS_PER_S 1000

static void secret_text_free(char **text)
{
    if (*text != NULL)
        secret_wipe(*text, strlen(*text));
    free(*text);
}

/* What envd reads before it serves (engine.h, envd_config). Holds secrets. */
static char *envd_config(struct lifecycle *lifecycle, const struct entry *entry, const json_t *env)
{
    const struct sandbox *sandbox = &entry->sandbox;
    _cleanup_json_ json_t *config = json_object();
    char token[SHA256_HEX_SIZE], jwt_key[SHA256_HEX_SIZE], now[TIME_RFC3339_SIZE];
    char *text;

    if (sandbox->secure) {
        lifecycle_envd_token(lifecycle, sandbox->id, token);
        json_put_str(config, "accessToken", token);
    }
    hex_encode(entry->jwt_key, sizeof(entry->jwt_key), jwt_key);
    time_rfc3339_ms(time_unix_ms(), now);
    json_put(config, "envVars", env != NULL ? json_deep_copy(env) : json_object());
    json_put_str(config, "defaultUser", DEFAULT_USER);
    json_put_str(config, "timestamp", now);
    json_put_str(config, "jwtKey", jwt_key);
    json_put_str(config, "sandboxID", sandbox->id);
    json_put_str(config, "templateID", sandbox->template_id);
    json_put_i64(config, "cpuCount", sandbox->cpu_count);
    json_put_i64(config, "memoryTotalBytes", (int64_t)sandbox->memory_mb << 20);
    if (lifecycle->config.replay_bytes > 0)
        json_put_i64(config, "sandpitReplayBytes", lifecycle->config.replay_bytes);
    if (lifecycle->config.replay_total_bytes > 0)
        json_put_i64(config, "sandpitReplayTotalBytes", lifecycle->config.replay_total_bytes);
    text = json_text(config);
    secret_wipe(jwt_key, sizeof(jwt_key));
    secret_wipe(token, sizeof(token));
    return text;
}

static char *text_or_null(const json_t *json)
{
    return json != NULL ? json_text(json) : NULL;
}

static int fill(const struct lifecycle *lifecycle, const struct lifecycle_create *request,
                const struct template *template, struct sandbox *out, struct err *err)
{
    if (str_copy(out->namespace_, sizeof(out->namespace_), request->namespace_,
                 strlen(request->namespace_)) < 0 ||
        str_copy(out->client, sizeof(out->client), request->client, strlen(request->client)) < 0)
        return err_set(err, ERR_INVALID, "namespace or client name is too long");
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
    out->auto_resume = request->auto_resume;
    out->internet = request->internet;
    out->internet_set = request->internet_set;
    out->private_traffic = request->private_traffic;
    /* env is not kept: envd holds it, nothing here reads it again, and it is where secrets are */
    out->metadata = text_or_null(request->metadata);
    out->network = text_or_null(request->network);
    return 0;
}

static int check_request(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                         struct template *template, struct err *err)
{
    if (request->timeout_s <= 0)
        return err_set(err, ERR_INVALID, "Timeout must be greater than 0");
    if (timeout_check(request->timeout_s, err) < 0)
        return -1;
    return lifecycle_template_get(lifecycle, request->namespace_, request->template_ref, template,
                                  err);
}

/* The engine's part; ENTRY is held and its row says CREATING. */
static int act(struct lifecycle *lifecycle, struct entry *entry, const json_t *env, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const struct sandbox *sandbox = &entry->sandbox;
    _cleanup_(secret_text_free) char *config = envd_config(lifecycle, entry, env);
    const struct engine_spec spec = {
        .id = sandbox->id,
        .template_id = sandbox->template_id,
        .cpu_count = sandbox->cpu_count,
        .memory_mb = sandbox->memory_mb,
        .disk_mb = sandbox->disk_mb,
        .pids_max = SANDBOX_PIDS_MAX,
        .internet = sandbox->internet,
        .envd_config = config,
    };
    struct engine_sandbox made = {0};

    if (engine->ops->create(engine, &spec, &made, err) < 0)
        return engine_failed("create", sandbox->id, err);
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

int lifecycle_create(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                     struct sandbox *out, struct err *err)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct template template;
    struct entry *entry;
    int64_t begun = time_mono_ms();

    if (check_request(lifecycle, request, &template, err) < 0 ||
        fill(lifecycle, request, &template, &sandbox, err) < 0)
        return -1;
    entry = entry_new(&sandbox);
    entry_derive(lifecycle, entry);
    if (registry_add(&lifecycle->registry, entry, SANDBOX_COUNT_MAX, err) < 0) {
        entry_free(entry);
        return -1;
    }
    if (store_sandbox_put(lifecycle->config.store, &entry->sandbox, err) < 0 ||
        act(lifecycle, entry, request->env, err) < 0 ||
        settle(lifecycle, entry, request->timeout_s, err) < 0) {
        atomic_fetch_add(&lifecycle->create_failed, 1);
        undo(lifecycle, entry);
        return -1;
    }
    atomic_fetch_add(&lifecycle->created, 1);
    log_info("sandbox created", "sandbox_id", entry->sandbox.id, "namespace",
             entry->sandbox.namespace_, "template", entry->sandbox.template_id, "took_ms",
             log_num(time_mono_ms() - begun));
    sandbox_copy(out, &entry->sandbox);
    registry_release(&lifecycle->registry, entry);
    return 0;
}
