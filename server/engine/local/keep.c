#include "server/engine/local/keep.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/engine/local/spawn.h"

static int set_frozen(const struct context *ctx, const struct record *record, bool on,
                      struct err *err)
{
    char group[CGROUP_NAME_SIZE];

    slot_group(record->slot, group);
    return ctx->cgroups->ops->freeze(ctx->cgroups, group, on, err);
}

int keep_freeze(const struct context *ctx, const char *id, const struct record *record,
                struct err *err)
{
    struct record frozen = *record;
    struct err ignored = {0};

    frozen.frozen = true;
    if (set_frozen(ctx, record, true, err) < 0)
        return -1;
    if (record_write(ctx, id, &frozen, err) == 0 && storage_sync(&ctx->storage, err) == 0)
        return 0;
    if (!record->frozen) {
        record_write(ctx, id, record, &ignored);
        set_frozen(ctx, record, false, &ignored);
    }
    return -1;
}

int keep_thaw(const struct context *ctx, const char *id, const struct record *record,
              struct err *err)
{
    struct record thawed = *record;

    thawed.frozen = false;
    if (set_frozen(ctx, record, false, err) < 0)
        return -1;
    return record->frozen ? record_write(ctx, id, &thawed, err) : 0;
}

int keep_stop(const struct context *ctx, const char *id, const struct record *record, int pidfd,
              struct err *err)
{
    if (spawn_end(ctx, id, record, pidfd, err) < 0 || record_remove(ctx, id, err) < 0)
        return -1;
    return storage_sync(&ctx->storage, err);
}

static int copy(const struct context *ctx, const char *id, const char *snapshot_id, struct err *err)
{
    const struct storage *storage = &ctx->storage;

    return storage_tree_copy(storage, storage->sandboxes, id, storage->snapshots, snapshot_id, true,
                             err);
}

/* Its record tells, should all of us be killed meanwhile, that the next launcher has to thaw it. */
static int copy_frozen(const struct context *ctx, const char *id, const struct record *record,
                       const char *snapshot_id, struct err *err)
{
    struct record pending = *record;
    struct err problem = {0};
    int rc;

    pending.thaw = true;
    if (record_write(ctx, id, &pending, err) < 0)
        return -1;
    rc = set_frozen(ctx, record, true, err);
    if (rc == 0)
        rc = copy(ctx, id, snapshot_id, err);
    if (set_frozen(ctx, record, false, &problem) < 0 || record_write(ctx, id, record, &problem) < 0)
        log_err(LOG_ERROR, "a sandbox frozen for a snapshot does not go on", id, &problem);
    return rc;
}

int keep_snapshot(const struct context *ctx, const char *id, const struct record *record,
                  bool running, const char *snapshot_id, uint64_t *size_bytes, struct err *err)
{
    const struct storage *storage = &ctx->storage;
    struct err ignored = {0};

    if (storage_room(storage, err) < 0)
        return -1;
    /* What is written while it still runs need not be waited for while it stands still. */
    if (running && !record->frozen && storage->kind != STORAGE_PLAIN &&
        storage_sync(storage, err) < 0)
        return -1;
    if ((running && !record->frozen ? copy_frozen(ctx, id, record, snapshot_id, err)
                                    : copy(ctx, id, snapshot_id, err)) < 0)
        return -1;
    if (storage_tree_used(storage, storage->snapshots, snapshot_id, size_bytes, &ignored) < 0)
        *size_bytes = 0;
    return 0;
}

int keep_snapshot_delete(const struct context *ctx, const char *snapshot_id, struct err *err)
{
    return storage_tree_remove(&ctx->storage, ctx->storage.snapshots, snapshot_id, err);
}

void keep_snapshots(const struct context *ctx,
                    void (*fn)(void *ctx, const char *snapshot_id, uint64_t size_bytes),
                    void *fn_ctx)
{
    const struct storage *storage = &ctx->storage;
    int fd = openat(storage->snapshots, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct err ignored = {0};
        uint64_t bytes = 0;
        if (entry->d_name[0] == '.' || str_starts(entry->d_name, STORAGE_HALF_PREFIX))
            continue;
        storage_tree_used(storage, storage->snapshots, entry->d_name, &bytes, &ignored);
        fn(fn_ctx, entry->d_name, bytes);
    }
    if (dir != NULL)
        closedir(dir);
}
