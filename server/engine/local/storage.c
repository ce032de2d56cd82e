#include "server/engine/local/storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/storage_btrfs.h"
#include "server/engine/local/storage_image.h"

#define MIB ((uint64_t)1 << 20)
#define HOST_RESERVE_MIN (512 * MIB)
#define HOST_RESERVE_MAX (8192 * MIB)
#define HOST_RESERVE_PART 50 /* of the file system, when nothing is said */
#define POOL_RESERVE_MIN (16 * MIB)
#define POOL_RESERVE_MAX (512 * MIB)
#define POOL_RESERVE_PART 50
#define IMAGE_DEFAULT_MIN (1024 * MIB)
#define IMAGE_MAX ((uint64_t)16 << 40)

static const char *const top_folders[] = {"sandboxes", "snapshots"};

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

uint64_t storage_reserve(uint64_t total_bytes, uint64_t asked_mb)
{
    if (asked_mb > 0)
        return asked_mb * MIB;
    return clamp(total_bytes / HOST_RESERVE_PART, HOST_RESERVE_MIN, HOST_RESERVE_MAX);
}

uint64_t storage_image_size(uint64_t free_bytes, uint64_t reserve_bytes, uint64_t asked_mb)
{
    uint64_t left = free_bytes > reserve_bytes ? free_bytes - reserve_bytes : 0;
    uint64_t bytes = asked_mb > 0 ? asked_mb * MIB : left;

    if (asked_mb == 0)
        bytes = clamp(bytes, IMAGE_DEFAULT_MIN, IMAGE_MAX);
    return clamp(bytes, IMAGE_MIN_BYTES, IMAGE_MAX) / MIB * MIB;
}

static bool is_empty(int state, const char *path)
{
    int fd = openat(state, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    bool empty = true;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        empty &= entry->d_name[0] == '.';
    if (dir != NULL)
        closedir(dir);
    return empty;
}

/* Has an earlier run put anything in plain folders? */
static bool plain_in_use(int state)
{
    static const char *const folders[] = {"plain/sandboxes", "plain/snapshots", "plain/volumes"};

    for (size_t i = 0; i < array_size(folders); i++) {
        if (!is_empty(state, folders[i]))
            return true;
    }
    return false;
}

static void plan(const struct local_config *config, int state, struct storage_plan *out)
{
    struct statvfs fs = {0};
    struct stat st;

    *out = (struct storage_plan){.kind = STORAGE_PLAIN};
    if (fstatat(state, STORAGE_IMAGE_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        out->kind = STORAGE_IMAGE;
        out->image_bytes = (uint64_t)st.st_size > config->storage_mb * MIB
                               ? (uint64_t)st.st_size
                               : config->storage_mb * MIB;
        return;
    }
    if (config->storage_plain)
        return;
    if (plain_in_use(state)) {
        snprintf(out->why_plain, sizeof(out->why_plain), "plain folders are in use");
        snprintf(out->remedy, sizeof(out->remedy),
                 "end all sandboxes, delete snapshots and volumes, then restart");
        return;
    }
    if (btrfs_here(state)) {
        out->kind = STORAGE_BTRFS;
        return;
    }
    if (!image_possible(out->why_plain, sizeof(out->why_plain), out->remedy, sizeof(out->remedy)))
        return;
    fstatvfs(state, &fs);
    out->kind = STORAGE_IMAGE;
    out->image_bytes = storage_image_size(
        (uint64_t)fs.f_bavail * fs.f_frsize,
        storage_reserve((uint64_t)fs.f_blocks * fs.f_frsize, config->storage_reserve_mb),
        config->storage_mb);
}

void storage_plan(const struct local_config *config, struct storage_plan *out)
{
    _cleanup_free_ char *path = mem_strdup(config->state_dir);
    _cleanup_close_ int state = -1;
    char *slash;

    while ((state = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 &&
           (slash = strrchr(path, '/')) != NULL && slash != path)
        *slash = '\0'; /* the state folder may not exist yet */
    plan(config, state, out);
}

static int open_folder(int dir, const char *name, int *out, struct err *err)
{
    if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot create %s", name);
    *out = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*out < 0)
        return err_sys(err, errno, "cannot open %s", name);
    if (fchown(*out, 0, 0) < 0 || fchmod(*out, 0700) < 0)
        return err_sys(err, errno, "cannot protect %s", name);
    return 0;
}

/* The folder of the storage itself, the image mounted on it. */
static int open_top(const struct local_config *config, const struct storage_plan *plan,
                    struct storage *storage, struct err *err)
{
    struct stat st;

    storage->path = mem_asprintf("%s/%s", config->state_dir,
                                 storage->kind == STORAGE_PLAIN ? "plain" : "storage");
    if (dir_make(storage->path, 0700, err) < 0)
        return -1;
    if (storage->kind == STORAGE_IMAGE) {
        if (fstatat(storage->host, STORAGE_IMAGE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
            image_make(storage->host, config->state_dir, STORAGE_IMAGE_NAME, plan->image_bytes,
                       err) < 0)
            return -1;
        if (image_mount(storage->host, STORAGE_IMAGE_NAME, storage->path, config->run_dir,
                        plan->image_bytes, err) < 0)
            return -1;
    }
    storage->top = open(storage->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (storage->top < 0 || fchmod(storage->top, 0700) < 0)
        return err_sys(err, errno, "cannot open %s", storage->path);
    return 0;
}

static void start_quota(struct storage *storage)
{
    struct err err = {0};

    if (storage->kind == STORAGE_PLAIN)
        return;
    storage->quota = btrfs_fsid(storage->top, storage->fsid, &err) == 0 &&
                     btrfs_quota_on(storage->top, storage->fsid, &err) == 0;
    if (!storage->quota)
        log_err(LOG_WARN, "sandboxes have no disk limit", NULL, &err);
    else
        btrfs_forget_removed(storage->top, storage->fsid);
}

static void sweep(struct storage *storage)
{
    int fd = openat(storage->snapshots, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct err err = {0};
        if (str_starts(entry->d_name, STORAGE_HALF_PREFIX) &&
            storage_tree_remove(storage, storage->snapshots, entry->d_name, &err) < 0)
            log_err(LOG_WARN, "a half made snapshot was not removed", NULL, &err);
    }
    if (dir != NULL)
        closedir(dir);
}

static int open_all(const struct local_config *config, const struct storage_plan *plan,
                    struct storage *storage, struct err *err)
{
    int *const fds[] = {&storage->sandboxes, &storage->snapshots};

    storage->kind = plan->kind;
    if (open_top(config, plan, storage, err) < 0)
        return -1;
    for (size_t i = 0; i < array_size(top_folders); i++) {
        if (open_folder(storage->top, top_folders[i], fds[i], err) < 0)
            return -1;
    }
    start_quota(storage);
    sweep(storage);
    return 0;
}

static void close_all(struct storage *storage)
{
    fd_close(&storage->top);
    fd_close(&storage->sandboxes);
    fd_close(&storage->snapshots);
    free(storage->path);
    storage->path = NULL;
}

static void warn_plain(const char *why, const char *remedy)
{
    log_warn("plain folders hold sandboxes: no disk limit is held, snapshots are copies", "why",
             why, "remedy", remedy);
}

int storage_open(const struct local_config *config, struct storage *out, struct err *err)
{
    struct storage storage = STORAGE_NONE;
    struct storage_plan plan_;
    struct statvfs fs = {0};
    struct stat st;

    storage.host = open(config->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (storage.host < 0 || fstatvfs(storage.host, &fs) < 0) {
        err_sys(err, errno, "cannot open %s", config->state_dir);
        fd_close(&storage.host);
        return -1;
    }
    storage.host_reserve_bytes =
        storage_reserve((uint64_t)fs.f_blocks * fs.f_frsize, config->storage_reserve_mb);
    plan(config, storage.host, &plan_);
    if (config->storage_plain && plan_.kind == STORAGE_IMAGE) {
        fd_close(&storage.host);
        return err_set(err, ERR_INVALID,
                       "--storage-plain, but sandboxes are in %s/" STORAGE_IMAGE_NAME
                       ": leave it out, or remove that file with all that is in it",
                       config->state_dir);
    }
    if (plan_.why_plain[0] != '\0')
        warn_plain(plan_.why_plain, plan_.remedy);
    bool fresh = plan_.kind == STORAGE_IMAGE &&
                 fstatat(storage.host, STORAGE_IMAGE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0;
    if (open_all(config, &plan_, &storage, err) < 0) {
        close_all(&storage);
        if (!fresh) {
            fd_close(&storage.host);
            return -1;
        }
        /* Nothing is in it: this machine cannot mount images, whatever the reason. */
        warn_plain(err->detail[0] != '\0' ? err->detail : err->msg, "sandpit doctor");
        unlinkat(storage.host, STORAGE_IMAGE_NAME, 0);
        plan_.kind = STORAGE_PLAIN;
        *err = (struct err){0};
        if (open_all(config, &plan_, &storage, err) < 0)
            return -1;
    }
    *out = storage;
    return 0;
}

int storage_room(const struct storage *storage, struct err *err)
{
    struct statvfs fs;
    uint64_t left, reserve;

    if (fstatvfs(storage->host, &fs) < 0)
        return err_sys(err, errno, "cannot see how much room the state folder has");
    left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left < storage->host_reserve_bytes)
        return err_set(err, ERR_NO_SPACE,
                       "the machine's disk is nearly full: %" PRIu64 " MB are left, %" PRIu64
                       " MB are kept free (storage-reserve-mb)",
                       left / MIB, storage->host_reserve_bytes / MIB);
    if (storage->kind != STORAGE_IMAGE || fstatvfs(storage->top, &fs) < 0)
        return 0;
    left = (uint64_t)fs.f_bavail * fs.f_frsize;
    reserve = clamp((uint64_t)fs.f_blocks * fs.f_frsize / POOL_RESERVE_PART, POOL_RESERVE_MIN,
                    POOL_RESERVE_MAX);
    if (left < reserve)
        return err_set(err, ERR_NO_SPACE,
                       "the storage of sandboxes is nearly full: %" PRIu64 " MB are left "
                       "(storage-mb)",
                       left / MIB);
    return 0;
}

int storage_sync(const struct storage *storage, struct err *err)
{
    return syncfs(storage->top) < 0 ? err_sys(err, errno, "cannot write files to the disk") : 0;
}
