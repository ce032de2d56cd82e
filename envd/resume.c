#include "envd/resume.h"

#include <string.h>

#include "envd/config.h"
#include "envd/exchange.h"
#include "envd/groups.h"
#include "envd/http_handover.h"
#include "envd/process_handover.h"
#include "envd/rpc_process.h"
#include "envd/rpc_watch.h"
#include "envd/spawn.h"
#include "envd/watch_handover.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/version.h"

/* ---- Saving ---- */

static void name_fd(void *ctx, int fd)
{
    handover_fd(ctx, fd);
}

static void save_agent(const struct http_server *server, bool init, struct handover_out *out)
{
    _cleanup_settings_ struct settings *settings = settings_get();
    Handover__Record record = HANDOVER__RECORD__INIT;
    Handover__Agent agent = HANDOVER__AGENT__INIT;
    _cleanup_free_ char *groups = groups_export(name_fd, out);
    char *document = config_export();
    struct rlimit files;

    spawn_files_limit(&files);
    agent.format = HANDOVER_FORMAT;
    agent.version = (char *)(uintptr_t)ENVD_VERSION;
    agent.settings = handover_str(document);
    agent.insecure = settings->insecure;
    agent.initialised = settings->initialised;
    agent.init = init;
    agent.listener = handover_fd(out, server->listener.fd);
    agent.idle_timeout_ms = server->idle_timeout_ms;
    agent.groups = handover_str(groups);
    agent.left_user = groups_left_user();
    agent.files_soft = files.rlim_cur;
    agent.files_hard = files.rlim_max;
    record.kind_case = HANDOVER__RECORD__KIND_AGENT;
    record.agent = &agent;
    handover_put(out, &record);
    secret_wipe(document, strlen(document));
    free(document);
}

void resume_save(struct http_server *server, bool init, struct handover_out *out)
{
    save_agent(server, init, out);
    process_save(out);
    watch_save(out);
    rpc_watch_save(out);
    http_save(server, out);
}

/* ---- Loading ---- */

static int load_settings(const Handover__Agent *in, struct err *err)
{
    _cleanup_json_ json_t *json =
        json_parse_object((const char *)in->settings.data, in->settings.len, err);

    config_init(in->insecure);
    if (json == NULL)
        return -1;
    return in->initialised ? config_apply(json, true, NULL, err) : 0;
}

static int load_groups(const Handover__Agent *in, struct err *err)
{
    _cleanup_free_ char *text = NULL;

    if (in->groups.len == 0)
        return 0;
    if (handover_take_str(&in->groups, &text, err) < 0 || groups_option(text, err) < 0)
        return -1;
    return groups_init(err);
}

static int load_agent(struct loop *loop, const Handover__Agent *in, struct resume *out,
                      struct err *err)
{
    struct rlimit files = {.rlim_cur = in->files_soft, .rlim_max = in->files_hard};
    int listener;

    if (in->format < HANDOVER_FORMAT_MIN || in->format > HANDOVER_FORMAT)
        return err_set(err, ERR_UNSUPPORTED, "the state has format %u, not %d to %d", in->format,
                       HANDOVER_FORMAT_MIN, HANDOVER_FORMAT);
    if (load_settings(in, err) < 0 || load_groups(in, err) < 0 ||
        handover_take_fd(in->listener, &listener, err) < 0)
        return -1;
    spawn_set_files_limit(&files);
    out->init = in->init;
    out->left_user = in->left_user;
    out->server = http_server_new(loop, listener, err);
    if (out->server == NULL)
        return -1;
    if (in->idle_timeout_ms > 0)
        out->server->idle_timeout_ms = in->idle_timeout_ms;
    return 0;
}

/* One record. What it is, is counted; *ERR says why it cannot be. */
static int load_record(const Handover__Record *record, struct resume *out, struct err *err)
{
    int rc = 0;

    switch (record->kind_case) {
    case HANDOVER__RECORD__KIND_PROCESS:
        rc = process_load(record->process, input_restore, err);
        if (record->process->done)
            ++*(rc == 0 ? &out->retained : &out->retained_failed);
        else
            ++*(rc == 0 ? &out->processes : &out->processes_failed);
        return rc;
    case HANDOVER__RECORD__KIND_HUB:
        rc = watch_load(out->loop, record->hub, &out->watches, err);
        if (rc < 0)
            out->watches_failed++;
        return rc;
    case HANDOVER__RECORD__KIND_POLLED:
        rc = rpc_watch_load(record->polled, err);
        if (rc < 0)
            out->watches_failed++;
        return rc;
    case HANDOVER__RECORD__KIND_CONNECTION:
        rc = http_load(out->server, record->connection, err);
        ++*(rc == 0 ? &out->connections : &out->connections_failed);
        return rc;
    default:
        return 0; /* of a newer envd, which says by its format when it must not be passed over */
    }
}

static int load_records(struct handover_in *in, bool strict, struct resume *out, struct err *err)
{
    for (;;) {
        _cleanup_record_ Handover__Record *record = NULL;
        struct err failed = {0};
        int rc = handover_next(in, &record, err);

        if (rc <= 0)
            return rc;
        if (load_record(record, out, &failed) == 0)
            continue;
        if (strict) {
            *err = failed;
            return -1;
        }
        log_err(LOG_ERROR, "something cannot be taken over", NULL, &failed);
    }
}

static int load_all(struct loop *loop, struct handover_in *in, bool strict, struct resume *out,
                    struct err *err)
{
    _cleanup_record_ Handover__Record *record = NULL;

    if (handover_next(in, &record, err) < 0)
        return -1;
    if (record == NULL || record->kind_case != HANDOVER__RECORD__KIND_AGENT)
        return err_set(err, ERR_INVALID, "the state does not begin as one");
    if (load_agent(loop, record->agent, out, err) < 0)
        return -1;
    return load_records(in, strict, out, err);
}

int resume_load(struct loop *loop, int fd, bool strict, struct resume *out, struct err *err)
{
    struct handover_in in;
    int rc;

    *out = (struct resume){.loop = loop};
    if (handover_in_open(fd, &in, err) < 0)
        return -1;
    process_init(loop);
    rc = load_all(loop, &in, strict, out, err);
    handover_in_clear(&in);
    fd_close(&fd);
    return rc;
}

/* ---- Going on ---- */

static char *report(const struct resume *resume)
{
    _cleanup_json_ json_t *json = json_object();
    size_t failed = resume->processes_failed + resume->retained_failed + resume->watches_failed +
                    resume->connections_failed;

    json_put_bool(json, "failed", failed > 0);
    json_put_i64(json, "procs", (int64_t)resume->processes);
    json_put_i64(json, "procs_failed", (int64_t)resume->processes_failed);
    json_put_i64(json, "retained", (int64_t)resume->retained);
    json_put_i64(json, "retained_failed", (int64_t)resume->retained_failed);
    json_put_i64(json, "watchers", (int64_t)resume->watches);
    json_put_i64(json, "watchers_failed", (int64_t)resume->watches_failed);
    json_put_i64(json, "connections", (int64_t)resume->connections);
    json_put_i64(json, "connections_failed", (int64_t)resume->connections_failed);
    return json_text(json);
}

void resume_go_on(struct resume *resume)
{
    _cleanup_free_ char *text = report(resume);
    struct exchange *ex = http_take_upgrade(resume->server);

    log_info("envd goes on where another was", "version", ENVD_VERSION, "handover", text);
    if (ex != NULL) {
        http_set_header(ex, "X-Envd-Version", ENVD_VERSION);
        http_set_header(ex, "X-Envd-Handover", text);
        http_reply_empty(ex, 204);
    }
    groups_resume(resume->left_user);
    process_go_on();
    watch_go_on();
    http_go_on(resume->server);
}
