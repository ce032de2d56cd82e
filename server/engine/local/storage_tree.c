/* Trees: a subvolume each on btrfs, else a folder. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/storage.h"
#include "server/engine/local/storage_btrfs.h"
#include "server/engine/local/sys.h"

#define BLOCK 512     /* st_blocks counts these */
#define FIGURE_MAX 32 /* bytes of a number in /sys */
#define WALK_DEPTH_MAX 64

static int open_tree(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int storage_tree_make(const struct storage *storage, int dir, const char *name, struct err *err)
{
    int rc =
        storage->kind == STORAGE_PLAIN ? mkdirat(dir, name, 0700) : btrfs_subvolume_make(dir, name);

    if (rc < 0)
        return err_sys(err, errno, "cannot create %s in the storage", name);
    if (storage->kind != STORAGE_PLAIN && fchmodat(dir, name, 0700, 0) < 0)
        return err_sys(err, errno, "cannot protect %s in the storage", name);
    return 0;
}

/* The path of folder FD in this mount namespace. */
static char *path_of(int fd)
{
    char link[40], path[PATH_MAX];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path));
    return n < 0 || n == (ssize_t)sizeof(path) ? NULL : mem_strndup(path, (size_t)n);
}

/*
 * Plain folders: cp knows all there is to keep (owners, links, devices, attributes, holes), and
 * shares blocks where the file system can. The copy has its name only when it is complete.
 */
static int copy_plain(const struct storage *storage, int from, int to_dir, const char *to,
                      bool durable, struct err *err)
{
    _cleanup_free_ char *half = mem_asprintf(STORAGE_HALF_PREFIX "%s", to);
    _cleanup_free_ char *from_path = path_of(from), *to_path = path_of(to_dir);
    _cleanup_free_ char *source = mem_asprintf("%s/.", from_path != NULL ? from_path : "");
    _cleanup_free_ char *target = mem_asprintf("%s/%s", to_path != NULL ? to_path : "", half);
    const char *const argv[] = {"/bin/cp", "-a",   "--reflink=auto", "--sparse=auto",
                                "--",      source, target,           NULL};
    struct err ignored = {0};
    int status;

    if (from_path == NULL || to_path == NULL)
        return err_set(err, ERR_INTERNAL, "a folder of the storage has no path");
    if (faccessat(to_dir, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, ERR_EXISTS, "%s exists already", to);
    if (storage_room(storage, err) < 0 || remove_tree(to_dir, half, err) < 0)
        return -1;
    status = sys_run(argv);
    if (status == 0 && (!durable || storage_sync(storage, err) == 0) &&
        renameat(to_dir, half, to_dir, to) == 0 && (!durable || fsync(to_dir) == 0))
        return 0;
    remove_tree(to_dir, half, &ignored);
    return err_set(err, storage_room(storage, &ignored) < 0 ? ERR_NO_SPACE : ERR_INTERNAL,
                   "the files could not be copied (%d)", status);
}

int storage_tree_copy(const struct storage *storage, int from_dir, const char *from, int to_dir,
                      const char *to, bool read_only, struct err *err)
{
    _cleanup_close_ int source = open_tree(from_dir, from);

    if (source < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "%s does not exist", from);
    if (source < 0)
        return err_sys(err, errno, "cannot open %s in the storage", from);
    if (storage->kind == STORAGE_PLAIN)
        return copy_plain(storage, source, to_dir, to, read_only, err);
    if (btrfs_snapshot(source, to_dir, to, read_only) < 0)
        return errno == EEXIST ? err_set(err, ERR_EXISTS, "%s exists already", to)
                               : err_sys(err, errno, "cannot copy %s in the storage", from);
    return 0;
}

int storage_tree_remove(const struct storage *storage, int dir, const char *name, struct err *err)
{
    if (storage->kind == STORAGE_PLAIN)
        return remove_tree(dir, name, err);
    if (btrfs_subvolume_remove(dir, name) == 0 || errno == ENOENT)
        return 0;
    /* EINVAL, ENOTDIR: not a subvolume; ENOTEMPTY: subvolumes within. None of them is ours. */
    return remove_tree(dir, name, err);
}

int storage_tree_limit(const struct storage *storage, int dir, const char *name, uint64_t bytes,
                       struct err *err)
{
    _cleanup_close_ int fd = -1;

    if (!storage->quota)
        return 0;
    fd = open_tree(dir, name);
    if (fd < 0 || btrfs_limit(fd, bytes) < 0)
        return err_sys(err, errno, "cannot limit the disk of %s", name);
    return 0;
}

static uint64_t walk(int dir, const char *name, int depth)
{
    int fd = open_tree(dir, name);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    uint64_t bytes = 0;

    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        struct stat st;
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, "..") ||
            fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        bytes += (uint64_t)st.st_blocks * BLOCK / (S_ISDIR(st.st_mode) ? 1 : st.st_nlink);
        if (S_ISDIR(st.st_mode) && depth < WALK_DEPTH_MAX)
            bytes += walk(dirfd(stream), entry->d_name, depth + 1);
    }
    if (stream != NULL)
        closedir(stream);
    return bytes;
}

static uint64_t read_figure(int fd)
{
    char text[FIGURE_MAX];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    struct err err = {0};
    uint64_t value = 0;

    if (n > 0)
        str_to_u64(text, strcspn(text, "\n"), 0, UINT64_MAX, "figure", &value, &err);
    return value;
}

int storage_tree_used(const struct storage *storage, int dir, const char *name, uint64_t *bytes,
                      struct err *err)
{
    struct storage_gauge gauge = STORAGE_GAUGE_NONE;

    if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, errno, "cannot look at %s in the storage", name);
    if (storage_gauge_open(storage, dir, name, &gauge) < 0) {
        *bytes = walk(dir, name, 0);
        return 0;
    }
    *bytes = read_figure(gauge.used) + read_figure(gauge.reserved);
    storage_gauge_close(&gauge);
    return 0;
}

static int open_figure(const struct storage *storage, uint64_t id, const char *figure)
{
    _cleanup_free_ char *path =
        mem_asprintf("/sys/fs/btrfs/%s/qgroups/0_%" PRIu64 "/%s", storage->fsid, id, figure);

    return open(path, O_RDONLY | O_CLOEXEC);
}

int storage_gauge_open(const struct storage *storage, int dir, const char *name,
                       struct storage_gauge *out)
{
    _cleanup_close_ int fd = storage->quota ? open_tree(dir, name) : -1;
    struct storage_gauge gauge;
    uint64_t id;

    if (fd < 0 || btrfs_subvolume_id(fd, &id) < 0)
        return -1;
    gauge.used = open_figure(storage, id, "referenced");
    gauge.reserved = open_figure(storage, id, "rsv_data");
    gauge.limit = open_figure(storage, id, "max_referenced");
    if (gauge.used < 0 || gauge.reserved < 0 || gauge.limit < 0) {
        storage_gauge_close(&gauge);
        return -1;
    }
    *out = gauge;
    return 0;
}

void storage_gauge_close(struct storage_gauge *gauge)
{
    fd_close(&gauge->used);
    fd_close(&gauge->reserved);
    fd_close(&gauge->limit);
}

uint64_t storage_tree_id(const struct storage *storage, int dir, const char *name)
{
    _cleanup_close_ int fd = storage->quota ? open_tree(dir, name) : -1;
    uint64_t id;

    return fd >= 0 && btrfs_subvolume_id(fd, &id) == 0 ? id : 0;
}

int storage_gauges_open(const struct storage *storage)
{
    _cleanup_free_ char *path = mem_asprintf("/sys/fs/btrfs/%s/qgroups", storage->fsid);

    return storage->quota ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static bool read_gauge(int gauges, uint64_t id, const char *figure, uint64_t *out)
{
    char path[64];

    snprintf(path, sizeof(path), "0_%" PRIu64 "/%s", id, figure);
    _cleanup_close_ int fd = openat(gauges, path, O_RDONLY | O_CLOEXEC);
    *out = fd >= 0 ? read_figure(fd) : 0;
    return fd >= 0;
}

bool storage_gauges_read(int gauges, uint64_t id, uint64_t *used_bytes, uint64_t *limit_bytes)
{
    uint64_t used, reserved, limit;

    if (id == 0 || !read_gauge(gauges, id, "referenced", &used) ||
        !read_gauge(gauges, id, "rsv_data", &reserved) ||
        !read_gauge(gauges, id, "max_referenced", &limit))
        return false;
    *used_bytes = used + reserved;
    *limit_bytes = limit;
    return true;
}
