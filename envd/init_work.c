#include "envd/init_work.h"

#include <string.h>

#include "envd/config.h"
#include "envd/exchange.h"
#include "envd/pool.h"
#include "envd/trust.h"
#include "envd/volumes.h"
#include "server/base/buf.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

struct init_work {
    struct job job;
    struct exchange *ex;
    struct buf pem;
    char *lifecycle_id;
    struct volume *volumes;
    size_t count;
    size_t mounted; /* of the first ones */
    bool trust_failed;
    int rc;
    struct err err;
};

static bool busy; /* one at a time: two would write the same files */

void init_work_free(struct init_work *work)
{
    if (work == NULL)
        return;
    buf_clear(&work->pem);
    free(work->lifecycle_id);
    free(work->volumes);
    free(work);
}

static int take_bundle(struct init_work *work, const json_t *json, struct err *err)
{
    const char *text = "";

    if (json_get_str(json, "caBundle", &text, err) < 0)
        return -1;
    return text[0] != '\0' ? trust_parse(text, strlen(text), &work->pem, err) : 0;
}

/* Those that are not mounted for this lifecycle yet. */
static int take_volumes(struct init_work *work, const json_t *json, struct err *err)
{
    const char *lifecycle_id = "";
    json_t *list = NULL, *item;
    size_t i;

    if (json_get_str(json, "lifecycleID", &lifecycle_id, err) < 0 ||
        json_get_array(json, "volumeMounts", &list, err) < 0)
        return -1;
    if (json_array_size(list) > VOLUMES_MAX)
        return err_set(err, ERR_INVALID, "volumeMounts has more than %d entries", VOLUMES_MAX);
    work->lifecycle_id = mem_strdup(lifecycle_id);
    work->volumes = mem_calloc(json_array_size(list) + 1, sizeof(*work->volumes));
    json_array_foreach(list, i, item) {
        struct volume *volume = &work->volumes[work->count];
        const char *target = "", *path = "";

        if (!json_is_object(item))
            return err_set(err, ERR_INVALID, "volumeMounts must be a list of objects");
        if (json_get_str(item, "nfs_target", &target, err) < 0 ||
            json_get_str(item, "path", &path, err) < 0 ||
            volume_parse(target, path, volume, err) < 0)
            return -1;
        if (!config_is_mounted(volume->path, lifecycle_id))
            work->count++;
    }
    return 0;
}

int init_work_new(const json_t *json, struct init_work **out, struct err *err)
{
    _cleanup_init_work_ struct init_work *work = mem_zalloc(sizeof(*work));

    *out = NULL;
    buf_init(&work->pem, 2 * TRUST_MAX_BYTES);
    if (take_bundle(work, json, err) < 0 || take_volumes(work, json, err) < 0)
        return -1;
    if (work->pem.len == 0 && work->count == 0)
        return 0;
    if (busy)
        return err_set(err, ERR_BUSY, "another /init is under way");
    *out = steal_ptr(&work);
    return 0;
}

static void run(struct job *job)
{
    struct init_work *work = container_of(job, struct init_work, job);
    int64_t deadline_mono_ms;

    if (work->pem.len > 0 &&
        trust_install(TRUST_BUNDLE, TRUST_SOURCE, &work->pem, &work->err) < 0) {
        work->trust_failed = true;
        work->rc = -1;
        return;
    }
    deadline_mono_ms = time_mono_ms() + VOLUMES_BUDGET_MS;
    while (work->mounted < work->count && work->rc == 0) {
        work->rc = volume_mount(&work->volumes[work->mounted], deadline_mono_ms, &work->err);
        work->mounted += work->rc == 0;
    }
}

/* Why the file system refused is for who asked: it is nobody else's. */
static void answer(struct init_work *work)
{
    const struct err *err = &work->err;
    _cleanup_free_ char *text = NULL;

    if (work->rc == 0) {
        http_reply_empty(work->ex, 204);
        return;
    }
    log_err(LOG_WARN, "/init", NULL, err);
    text = mem_asprintf("%s%s%s%s", work->trust_failed ? "cannot install caBundle: " : "", err->msg,
                        err->detail[0] != '\0' ? ": " : "", err->detail);
    http_reply(work->ex, work->trust_failed ? 503 : 400, "text/plain; charset=utf-8", text,
               strlen(text));
}

static void done(struct job *job)
{
    struct init_work *work = container_of(job, struct init_work, job);

    busy = false;
    for (size_t i = 0; i < work->count; i++)
        config_set_mounted(work->volumes[i].path, i < work->mounted ? work->lifecycle_id : NULL);
    answer(work);
    exchange_unref(work->ex);
    init_work_free(work);
}

int init_work_start(struct init_work *work, struct exchange *ex, struct err *err)
{
    work->ex = exchange_ref(ex);
    busy = true;
    if (pool_submit(ex->server->disk, &work->job, run, done, err) == 0)
        return 0;
    busy = false;
    exchange_unref(ex);
    init_work_free(work);
    return -1;
}
