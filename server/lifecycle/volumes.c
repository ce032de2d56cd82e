/*
 * server/lifecycle/volumes.c - volumes: made, given to sandboxes, removed.
 *
 * volumes_lock orders what must not overlap: a sandbox that is about to have a volume and that
 * volume's removal, and the count of a namespace's volumes with the next one. It is held for calls
 * of the store, never of the engine.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

#define PROBLEMS_MAX 400 /* bytes of an error about mounts */

static int refuse_engine(struct lifecycle *lifecycle, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "the %s engine has no volumes",
                   lifecycle->config.engine->ops->name);
}

static bool is_on(const struct lifecycle *lifecycle)
{
    return lifecycle->config.volume_count_max > 0;
}

/* --- create ---------------------------------------------------------------------------------- */

/* Lock held. Intent: the row, unless the namespace has as many as it may. */
static int add_row(struct lifecycle *lifecycle, const struct volume *volume, struct err *err)
{
    _cleanup_free_ struct volume *list = NULL;
    struct volume same;
    struct err none = {0};
    size_t count = 0;

    if (store_volume_by_name(lifecycle->config.store, volume->namespace_, volume->name, &same,
                             &none) == 0)
        return err_set(err, ERR_EXISTS, "Volume with name '%s' already exists", volume->name);
    if (store_volume_list(lifecycle->config.store, volume->namespace_, &list, &count, err) < 0)
        return -1;
    if (count >= lifecycle->config.volume_count_max) {
        err_set(err, ERR_LIMIT,
                "you have reached the maximum number of volumes (%u); delete one first",
                lifecycle->config.volume_count_max);
        return err_retry(err, ERR_RETRY_NO, 0);
    }
    return store_volume_add(lifecycle->config.store, volume, err);
}

static void undo_create(struct lifecycle *lifecycle, const char *id)
{
    struct err err = {0};

    if (lifecycle->config.engine->ops->volume_delete(lifecycle->config.engine, id, &err) < 0 ||
        store_volume_delete(lifecycle->config.store, id, &err) < 0)
        log_err(LOG_WARN, "a volume that could not be made is removed at the next start", NULL,
                &err);
}

int lifecycle_volume_create(struct lifecycle *lifecycle, const char *namespace_, const char *name,
                            struct volume *out, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    struct volume volume = {.state = VOLUME_CREATING,
                            .size_mb = lifecycle->config.volume_size_mb,
                            .created_unix_ms = time_unix_ms()};
    int rc;

    if (!is_on(lifecycle))
        return err_set(err, ERR_FORBIDDEN, "use of volumes is not enabled");
    if (engine->ops->volume_create == NULL)
        return refuse_engine(lifecycle, err);
    if (volume_name_check(name, strlen(name), err) < 0 ||
        str_copy(volume.namespace_, sizeof(volume.namespace_), namespace_, strlen(namespace_)) < 0)
        return err_set(err, ERR_INVALID, "Invalid volume name");
    memcpy(volume.name, name, strlen(name));
    hash_random_uuid(volume.id);
    pthread_mutex_lock(&lifecycle->volumes_lock);
    rc = add_row(lifecycle, &volume, err);
    pthread_mutex_unlock(&lifecycle->volumes_lock);
    if (rc < 0)
        return -1;
    if (engine->ops->volume_create(engine, volume.id, volume.size_mb, err) < 0)
        rc = engine_failed("volume", volume.id, err);
    else
        rc = store_volume_state(lifecycle->config.store, volume.id, VOLUME_READY, err);
    if (rc < 0) {
        undo_create(lifecycle, volume.id);
        return -1;
    }
    volume.state = VOLUME_READY;
    log_info("volume created", "volume_id", volume.id, "namespace", volume.namespace_, "name",
             volume.name);
    *out = volume;
    return 0;
}

/* --- look ------------------------------------------------------------------------------------ */

int lifecycle_volume_get(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                         struct volume *out, struct err *err)
{
    struct volume volume;

    if (store_volume_get(lifecycle->config.store, namespace_, id, &volume, err) < 0)
        return -1;
    if (volume.state != VOLUME_READY)
        return err_set(err, ERR_NOT_FOUND, "Volume not found");
    *out = volume;
    return 0;
}

int lifecycle_volume_list(struct lifecycle *lifecycle, const char *namespace_, struct volume **out,
                          size_t *count, struct err *err)
{
    struct volume *list = NULL;
    size_t all = 0, ready = 0;

    if (store_volume_list(lifecycle->config.store, namespace_, &list, &all, err) < 0)
        return -1;
    for (size_t i = 0; i < all; i++) {
        if (list[i].state == VOLUME_READY)
            list[ready++] = list[i];
    }
    *out = list;
    *count = ready;
    return 0;
}

/* --- delete ---------------------------------------------------------------------------------- */

/* The row's intent is stored: remove the files, then the row. May be repeated. */
static int finish_delete(struct lifecycle *lifecycle, const char *id, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;

    if (engine->ops->volume_delete == NULL)
        return refuse_engine(lifecycle, err);
    if (engine->ops->volume_delete(engine, id, err) < 0)
        return engine_failed("volume", id, err);
    return store_volume_delete(lifecycle->config.store, id, err);
}

/* Lock held. */
static int intend_delete(struct lifecycle *lifecycle, const struct volume *volume, struct err *err)
{
    char user[SANDBOX_ID_SIZE];

    if (registry_volume_user(&lifecycle->registry, volume->id, user))
        return err_set(err, ERR_CONFLICT,
                       "Volume '%s' is mounted in sandbox '%s', running or paused: kill it first",
                       volume->name, user);
    return store_volume_state(lifecycle->config.store, volume->id, VOLUME_DELETING, err);
}

int lifecycle_volume_delete(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                            struct err *err)
{
    struct volume volume;
    int rc;

    pthread_mutex_lock(&lifecycle->volumes_lock);
    rc = store_volume_get(lifecycle->config.store, namespace_, id, &volume, err);
    if (rc == 0 && volume.state == VOLUME_CREATING)
        rc = err_set(err, ERR_NOT_FOUND, "Volume not found");
    if (rc == 0) /* one that is DELETING already is an earlier try that failed: go on with it */
        rc = intend_delete(lifecycle, &volume, err);
    pthread_mutex_unlock(&lifecycle->volumes_lock);
    if (rc < 0 || finish_delete(lifecycle, volume.id, err) < 0)
        return -1;
    log_info("volume deleted", "volume_id", volume.id, "namespace", volume.namespace_, "name",
             volume.name);
    return 0;
}

/* --- content --------------------------------------------------------------------------------- */

int lifecycle_volume_do(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                        const struct volume_request *request, struct volume_answer *answer,
                        struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    struct volume volume;

    if (lifecycle_volume_get(lifecycle, namespace_, id, &volume, err) < 0)
        return -1;
    if (engine->ops->volume_do == NULL)
        return refuse_engine(lifecycle, err);
    return engine->ops->volume_do(engine, id, request, answer, err);
}

int lifecycle_volume_commit(struct lifecycle *lifecycle, struct volume_answer *answer,
                            struct err *err)
{
    return lifecycle->config.engine->ops->volume_commit(lifecycle->config.engine, answer, err);
}

void lifecycle_volume_key(struct lifecycle *lifecycle, uint8_t out[SHA256_BYTES])
{
    const struct secret *master = &lifecycle->config.master;

    hash_hkdf_sha256(master->bytes, master->len, "volume-token", out);
}

/* --- mounts ---------------------------------------------------------------------------------- */

/* "invalid mounts:" and a line for each problem. */
static void add_problem(struct buf *problems, size_t index, const char *words)
{
    if (problems->len == 0)
        buf_add_str(problems, "invalid mounts:");
    buf_printf(problems, "\n\t- volume mount #%zu: %s", index, words);
}

static int parse_mount(const json_t *item, struct volume_mount *out, struct err *err)
{
    const char *name = NULL, *path = NULL;

    if (!json_is_object(item))
        return err_set(err, ERR_INVALID, "it must be an object");
    if (json_get_str(item, "name", &name, err) < 0 || json_get_str(item, "path", &path, err) < 0)
        return -1;
    if (name == NULL || path == NULL)
        return err_set(err, ERR_INVALID, "it needs 'name' and 'path'");
    if (volume_name_check(name, strlen(name), err) < 0)
        return -1;
    if (volume_mount_path_check(path, err) < 0)
        return -1;
    memcpy(out->name, name, strlen(name) + 1);
    memcpy(out->path, path, strlen(path) + 1);
    return 0;
}

static int find_volume(struct lifecycle *lifecycle, const char *namespace_,
                       struct volume_mount *mount, struct err *err)
{
    struct volume volume;

    if (store_volume_by_name(lifecycle->config.store, namespace_, mount->name, &volume, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        return err_set(err, ERR_INVALID, "volume '%s' not found", mount->name);
    }
    if (volume.state != VOLUME_READY)
        return err_set(err, ERR_INVALID, "volume '%s' not found", mount->name);
    memcpy(mount->volume_id, volume.id, sizeof(mount->volume_id));
    return 0;
}

static int check_mount(struct lifecycle *lifecycle, const char *namespace_, const json_t *item,
                       struct volume_mount *mounts, size_t index, struct err *err)
{
    if (parse_mount(item, &mounts[index], err) < 0)
        return -1;
    for (size_t i = 0; i < index; i++) {
        if (str_eq(mounts[i].path, mounts[index].path))
            return err_set(err, ERR_INVALID, "path '%.200s' is used twice", mounts[index].path);
    }
    return find_volume(lifecycle, namespace_, &mounts[index], err);
}

int volume_mounts_resolve(struct lifecycle *lifecycle, const char *namespace_, const json_t *list,
                          char **out, struct err *err)
{
    _cleanup_free_ struct volume_mount *mounts = NULL;
    _cleanup_buf_ struct buf problems = {0};
    size_t count = json_array_size(list);

    buf_init(&problems, PROBLEMS_MAX);
    if (count == 0)
        return 0;
    if (!is_on(lifecycle))
        return err_set(err, ERR_INVALID, "Volume mounts are not enabled.");
    if (lifecycle->config.engine->ops->volume_create == NULL)
        return refuse_engine(lifecycle, err);
    if (count > VOLUME_MOUNTS_MAX)
        return err_set(err, ERR_INVALID, "invalid mounts: at most %d volumes in a sandbox",
                       VOLUME_MOUNTS_MAX);
    mounts = mem_calloc(count, sizeof(*mounts));
    for (size_t i = 0; i < count; i++) {
        struct err problem = {0};
        if (check_mount(lifecycle, namespace_, json_array_get(list, i), mounts, i, &problem) == 0)
            continue;
        if (problem.code != ERR_INVALID) {
            *err = problem;
            return -1;
        }
        add_problem(&problems, i, problem.msg);
    }
    if (problems.len > 0 || problems.overflow)
        return err_set(err, ERR_INVALID, "%s", buf_str(&problems));
    *out = volume_mounts_text(mounts, count);
    return 0;
}

/* Lock held. Every volume of SANDBOX is still there and its namespace's. */
static int check_claim(struct lifecycle *lifecycle, const struct sandbox *sandbox, struct err *err)
{
    _cleanup_free_ struct volume_mount *mounts = NULL;
    size_t count = 0;

    if (volume_mounts_parse(sandbox->volume_mounts, &mounts, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct volume volume;
        struct err problem = {0};
        if (lifecycle_volume_get(lifecycle, sandbox->namespace_, mounts[i].volume_id, &volume,
                                 &problem) == 0)
            continue;
        if (problem.code != ERR_NOT_FOUND) {
            *err = problem;
            return -1;
        }
        return err_set(err, ERR_INVALID,
                       "invalid mounts:\n\t- volume mount #%zu: volume '%s' not found", i,
                       mounts[i].name);
    }
    return 0;
}

int volumes_claim(struct lifecycle *lifecycle, struct entry *entry, const struct room *room,
                  struct err *err)
{
    int rc;

    if (entry->sandbox.volume_mounts == NULL)
        return registry_add(&lifecycle->registry, entry, room, err);
    pthread_mutex_lock(&lifecycle->volumes_lock);
    rc = check_claim(lifecycle, &entry->sandbox, err);
    if (rc == 0)
        rc = registry_add(&lifecycle->registry, entry, room, err);
    pthread_mutex_unlock(&lifecycle->volumes_lock);
    return rc;
}

/* --- start-up -------------------------------------------------------------------------------- */

struct volume_ids {
    char (*ids)[UUID_SIZE];
    size_t count;
};

static void note_volume(void *ctx, const char *volume_id)
{
    struct volume_ids *found = ctx;

    found->ids = mem_realloc_array(found->ids, found->count + 1, sizeof(*found->ids));
    if (str_copy(found->ids[found->count], UUID_SIZE, volume_id, strlen(volume_id)) == 0)
        found->count++;
}

static bool has_id(const struct volume_ids *found, const char *id)
{
    for (size_t i = 0; i < found->count; i++) {
        if (str_eq(found->ids[i], id))
            return true;
    }
    return false;
}

/*
 * Store and engine should name the same volumes: a row comes before the folder and goes after it.
 * What differs all the same (a store put back from a copy) is told and left: it is people's data.
 */
static void compare(const struct volume *rows, size_t count, const struct volume_ids *found)
{
    struct volume_ids known = {.count = 0};

    for (size_t i = 0; i < count; i++) {
        note_volume(&known, rows[i].id);
        if (rows[i].state == VOLUME_READY && !has_id(found, rows[i].id))
            log_error("the files of a volume are missing", "volume_id", rows[i].id, "name",
                      rows[i].name);
    }
    for (size_t i = 0; i < found->count; i++) {
        if (!has_id(&known, found->ids[i]))
            log_warn("files of an unknown volume are left alone", "volume_id", found->ids[i]);
    }
    free(known.ids);
}

int volumes_reconcile(struct lifecycle *lifecycle, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    _cleanup_free_ struct volume *rows = NULL;
    struct volume_ids found = {.count = 0};
    size_t count = 0;

    if (store_volume_list(lifecycle->config.store, NULL, &rows, &count, err) < 0)
        return -1;
    if (engine->ops->volume_list == NULL)
        return 0;
    if (engine->ops->volume_list(engine, note_volume, &found, err) < 0) {
        free(found.ids);
        return -1;
    }
    compare(rows, count, &found);
    free(found.ids);
    for (size_t i = 0; i < count; i++) {
        struct err failed = {0};
        if (rows[i].state == VOLUME_READY)
            continue;
        if (finish_delete(lifecycle, rows[i].id, &failed) < 0)
            log_err(LOG_ERROR, "a volume cannot be removed; tried again at the next start", NULL,
                    &failed);
    }
    return 0;
}
