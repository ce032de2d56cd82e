/*
 * server/lifecycle/fork.c - one capture of a running sandbox, many sandboxes from it.
 *
 * The capture has a row that stays CREATING, so that the next start removes it after a crash.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define HELPERS_MAX 3 /* workers that make forks beside the one that has the call */

/* --- the source ------------------------------------------------------------------------------ */

static int check(struct lifecycle *lifecycle, const struct lifecycle_fork *request, struct err *err)
{
    struct quotas quotas;

    if (request->count < 1)
        return err_set(err, ERR_INVALID, "Count must be at least 1");
    if (request->count > FORK_COUNT_MAX)
        return err_set(err, ERR_INVALID, "Count cannot be greater than %d", FORK_COUNT_MAX);
    if (request->timeout_s <= 0)
        return err_set(err, ERR_INVALID, "Timeout must be greater than 0");
    limits_of(lifecycle, request->namespace_, request->key_id, &quotas);
    return limits_check_timeout(&quotas, request->timeout_s, err);
}

/* The capture into *ROW and what the forks inherit into *SOURCE; both to clear. */
static int capture(struct lifecycle *lifecycle, const struct lifecycle_fork *request,
                   struct snapshot *row, struct sandbox *source, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (registry_hold(&lifecycle->registry, request->namespace_, request->sandbox_id, &entry, err) <
        0)
        return -1;
    if (entry->sandbox.state != SANDBOX_RUNNING) {
        rc = err_set(err, ERR_CONFLICT,
                     "Sandbox '%s' is paused and cannot be forked; resume it first",
                     entry->sandbox.id);
    } else {
        sandbox_copy(source, &entry->sandbox);
        snapshot_fill(entry, request->client, row);
        memcpy(row->tag, SNAPSHOT_TAG_DEFAULT, sizeof(SNAPSHOT_TAG_DEFAULT));
        rc = snapshot_capture(lifecycle, entry, row, err);
    }
    registry_release(&lifecycle->registry, entry);
    return rc;
}

/* --- the forks, made by several workers ------------------------------------------------------ */

/*
 * Helpers wait in the pool's queue, perhaps until the call is over: they hold a reference and, when
 * nothing is left to begin, touch nothing that the call has lent.
 */
struct fork {
    struct lifecycle *lifecycle;
    const struct lifecycle_fork *request; /* this and the next four are the call's */
    const struct sandbox *source;
    const char *snapshot_id;
    const json_t *env;
    struct lifecycle_forked *out;
    size_t count;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t finished;
    size_t begun;
    size_t ended;
    unsigned refs;
};

struct helper {
    struct work work;
    struct fork *fork;
};

static struct fork *fork_new(struct lifecycle *lifecycle, const struct lifecycle_fork *request)
{
    struct fork *fork = mem_zalloc(sizeof(*fork));

    fork->lifecycle = lifecycle;
    fork->request = request;
    fork->count = request->count;
    fork->refs = 1;
    pthread_mutex_init(&fork->lock, NULL);
    pthread_cond_init(&fork->finished, NULL);
    return fork;
}

static void fork_unref(struct fork *fork)
{
    bool last;

    pthread_mutex_lock(&fork->lock);
    last = --fork->refs == 0;
    pthread_mutex_unlock(&fork->lock);
    if (!last)
        return;
    pthread_cond_destroy(&fork->finished);
    pthread_mutex_destroy(&fork->lock);
    free(fork);
}

/* A sandbox like SOURCE that has not begun: its own id and times, no engine's data. */
static void be_like(const struct sandbox *source, const struct lifecycle_fork *request,
                    struct sandbox *out)
{
    sandbox_copy(out, source);
    free(out->engine_data);
    out->engine_data = NULL;
    sandbox_id_new(out->id);
    str_copy(out->client, sizeof(out->client), request->client, strlen(request->client));
    str_copy(out->key_id, sizeof(out->key_id), request->key_id, strlen(request->key_id));
    out->timeout_s = request->timeout_s;
    out->state = SANDBOX_CREATING;
    out->created_unix_ms = out->started_unix_ms = time_unix_ms();
    out->end_unix_ms = out->created_unix_ms + request->timeout_s * 1000;
}

static void make_one(struct fork *fork, struct lifecycle_forked *out)
{
    struct lifecycle *lifecycle = fork->lifecycle;
    const struct birth birth = {
        .env = fork->env,
        .snapshot = fork->snapshot_id,
        .timeout_s = fork->request->timeout_s,
    };
    _cleanup_sandbox_ struct sandbox sandbox = {0};

    be_like(fork->source, fork->request, &sandbox);
    memcpy(sandbox.envd_version, lifecycle->config.envd_version, sizeof(sandbox.envd_version));
    memcpy(sandbox.envd_build, lifecycle->config.envd_build, sizeof(sandbox.envd_build));
    fault_point("fork.begun");
    out->rc = sandbox_bring_up(lifecycle, &sandbox, &birth, &out->sandbox, &out->err);
    if (out->rc < 0)
        log_err(LOG_WARN, "a fork failed", fork->request->sandbox_id, &out->err);
}

/* Make forks until none is left to begin. */
static void make_some(struct fork *fork)
{
    pthread_mutex_lock(&fork->lock);
    while (fork->begun < fork->count) {
        struct lifecycle_forked *out = &fork->out[fork->begun++];
        pthread_mutex_unlock(&fork->lock);
        make_one(fork, out);
        pthread_mutex_lock(&fork->lock);
        if (++fork->ended == fork->count)
            pthread_cond_broadcast(&fork->finished);
    }
    pthread_mutex_unlock(&fork->lock);
}

/* The work is its own: nothing is done with it after this. */
static void helper_run(struct work *work)
{
    struct helper *helper = container_of(work, struct helper, work);

    make_some(helper->fork);
    fork_unref(helper->fork);
    free(helper);
}

static void call_helpers(struct fork *fork)
{
    size_t want = fork->count - 1 < HELPERS_MAX ? fork->count - 1 : HELPERS_MAX;

    for (size_t i = 0; i < want; i++) {
        struct helper *helper = mem_zalloc(sizeof(*helper));
        struct err ignored = {0};
        helper->fork = fork;
        pthread_mutex_lock(&fork->lock);
        fork->refs++;
        pthread_mutex_unlock(&fork->lock);
        if (work_submit(fork->lifecycle->config.workers, &helper->work, helper_run, NULL,
                        &ignored) == 0)
            continue;
        fork_unref(fork); /* the pool is full: this worker makes them alone */
        free(helper);
        return;
    }
}

static void make_all(struct lifecycle *lifecycle, const struct lifecycle_fork *request,
                     const struct snapshot *row, const struct sandbox *source, const json_t *env,
                     struct lifecycle_forked *out)
{
    struct fork *fork = fork_new(lifecycle, request);

    fork->source = source;
    fork->snapshot_id = row->id;
    fork->env = env;
    fork->out = out;
    call_helpers(fork);
    make_some(fork);
    pthread_mutex_lock(&fork->lock);
    while (fork->ended < fork->count)
        pthread_cond_wait(&fork->finished, &fork->lock);
    pthread_mutex_unlock(&fork->lock);
    fork_unref(fork);
}

int lifecycle_fork(struct lifecycle *lifecycle, const struct lifecycle_fork *request,
                   struct lifecycle_forked *out, struct err *err)
{
    _cleanup_snapshot_ struct snapshot row = {0};
    _cleanup_sandbox_ struct sandbox source = {0};
    _cleanup_json_ json_t *env = NULL;
    struct err failed = {0};
    int64_t begun = time_mono_ms();

    if (check(lifecycle, request, err) < 0 || capture(lifecycle, request, &row, &source, err) < 0)
        return -1;
    if (env_open(lifecycle, source.namespace_, source.env, &env, err) == 0)
        make_all(lifecycle, request, &row, &source, env, out);
    fault_point("fork.made");
    if (snapshot_discard(lifecycle, &row, &failed) < 0)
        log_err(LOG_ERROR, "the capture of a fork stays until the next start", row.id, &failed);
    if (env == NULL)
        return -1;
    log_info("sandbox forked", "sandbox_id", request->sandbox_id, "count",
             log_num((int64_t)request->count), "took_ms", log_num(time_mono_ms() - begun));
    return 0;
}
