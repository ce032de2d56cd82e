/* envd/upload.h: the end of an upload, when the new file takes the place of the old one. */
#include "envd/upload_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define XATTR_MAX_BYTES 65536
#define COPY_BYTES (1 << 30) /* per sendfile */

/* Names of the attributes of the file FD; their length, 0 when there are none. */
static size_t attribute_names(int fd, char **out)
{
    char *names = mem_zalloc(XATTR_MAX_BYTES + 1);
    ssize_t len = flistxattr(fd, names, XATTR_MAX_BYTES);

    *out = names;
    return len > 0 ? (size_t)len : 0;
}

/* Attributes that are not ours survive the change of inode. Best effort: it is another's data. */
static void copy_attributes(struct upload *up)
{
    _cleanup_close_ int old =
        openat(up->dir_fd, up->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    _cleanup_free_ char *names = NULL, *value = NULL;
    size_t len;

    if (old < 0)
        return;
    len = attribute_names(old, &names);
    for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
        const char *name = names + at;
        /* a write clears file capabilities, so they are not carried over either */
        if (str_starts(name, ENTRY_XATTR_PREFIX) || str_eq(name, "security.capability"))
            continue;
        if (value == NULL)
            value = mem_zalloc(XATTR_MAX_BYTES);
        ssize_t size = fgetxattr(old, name, value, XATTR_MAX_BYTES);
        if (size >= 0 && fsetxattr(up->fd, name, value, (size_t)size, 0) < 0 && errno == EOPNOTSUPP)
            return;
    }
}

/* Exactly META as the metadata of FD. A file system without attributes is fine. */
static int set_metadata(const struct upload *up, int fd, const struct entry_meta *meta,
                        size_t count, struct err *err)
{
    _cleanup_free_ char *names = NULL;
    size_t len = attribute_names(fd, &names);

    for (size_t at = 0; at < len; at += strlen(names + at) + 1)
        if (str_starts(names + at, ENTRY_XATTR_PREFIX))
            fremovexattr(fd, names + at);
    for (size_t i = 0; i < count; i++) {
        char name[512];
        snprintf(name, sizeof(name), ENTRY_XATTR_PREFIX "%s", meta[i].key);
        if (fsetxattr(fd, name, meta[i].value, strlen(meta[i].value), 0) == 0)
            continue;
        if (errno == EOPNOTSUPP)
            return 0;
        return upload_fail(up, "setting metadata", errno, err);
    }
    return 0;
}

/* Owner and metadata of the file FD. Not the mode: chown may have to clear bits of it. */
static int set_owner(const struct upload *up, int fd, const struct entry_meta *meta, size_t count,
                     struct err *err)
{
    /* what is written in place may have no owner to change: procfs */
    if (fchown(fd, up->owner.uid, up->owner.gid) < 0 && !(up->in_place && errno == EPERM))
        return upload_fail(up, "changing ownership", errno, err);
    return set_metadata(up, fd, meta, count, err);
}

/* Give the unnamed file the name NAME in the folder. errno on -1. */
static int link_as(struct upload *up, const char *name)
{
    char self[40];

    if (up->temp[0] != '\0')
        return linkat(up->dir_fd, up->temp, up->dir_fd, name, 0);
    snprintf(self, sizeof(self), "/proc/self/fd/%d", up->fd);
    if (linkat(AT_FDCWD, self, up->dir_fd, name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (errno != ENOENT) /* no /proc: another way that wants a capability */
        return -1;
    return linkat(up->fd, "", up->dir_fd, name, AT_EMPTY_PATH);
}

/* Overwrite the target with the complete copy: it must keep its inode. */
static int copy_over(struct upload *up, const struct entry_meta *meta, size_t count,
                     struct err *err)
{
    _cleanup_close_ int to = upload_open_target(up);
    off_t at = 0;
    ssize_t n = 1;

    if (to < 0)
        return upload_fail(up, "opening file", errno, err);
    while (at < up->written_bytes && n > 0)
        n = sendfile(to, up->fd, &at, COPY_BYTES);
    if (n <= 0)
        return upload_fail(up, "writing file", n < 0 ? errno : EIO, err);
    return set_owner(up, to, meta, count, err);
}

/*
 * Let watchers of the folder hear of a write to the name, which the copy's own writes were not: a
 * preallocation of what is there counts as a modification and changes nothing, even when another
 * program already writes to the file. Best effort.
 */
static void announce(const struct upload *up)
{
    _cleanup_close_ int fd =
        openat(up->dir_fd, up->name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat ours, named;

    if (fd < 0 || fstat(up->fd, &ours) < 0 || fstat(fd, &named) < 0 ||
        ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
        return; /* replaced already: that was announced */
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1) < 0 && errno == EOPNOTSUPP &&
        ftruncate(fd, named.st_size) < 0)
        return;
}

/* The target was not there. 1: done, 0: it is there now, -1. */
static int place_new(struct upload *up, struct err *err)
{
    if (link_as(up, up->name) == 0) {
        announce(up);
        return 1;
    }
    if (errno == EEXIST)
        return 0;
    return upload_fail(up, "creating file", errno, err);
}

static int place_over(struct upload *up, const struct entry_meta *meta, size_t count,
                      struct err *err)
{
    if (up->temp[0] == '\0') {
        char name[UPLOAD_TEMP_SIZE];
        upload_temp_name(name);
        if (link_as(up, name) < 0)
            return upload_fail(up, "creating file", errno, err);
        memcpy(up->temp, name, sizeof(name));
    }
    if (renameat(up->dir_fd, up->temp, up->dir_fd, up->name) == 0) {
        up->temp[0] = '\0';
        announce(up);
        return 0;
    }
    if (errno == EBUSY) /* something is mounted on it */
        return copy_over(up, meta, count, err);
    return upload_fail(up, "replacing file", errno, err);
}

int upload_commit(struct upload *up, const struct entry_meta *meta, size_t meta_count,
                  struct err *err)
{
    mode_t mode = UPLOAD_FILE_MODE;
    int rc = 0;

    if (up->in_place)
        return set_owner(up, up->fd, meta, meta_count, err);
    if (fstatat(up->dir_fd, up->name, &up->old, AT_SYMLINK_NOFOLLOW) == 0) {
        mode = up->old.st_mode & 07777;
        if (!S_ISREG(up->old.st_mode))
            return err_set(err, ERR_INVALID, "path is not a regular file: %s", up->target);
        if (up->old.st_nlink > 1)
            return copy_over(up, meta, meta_count, err);
        copy_attributes(up);
        rc = 1;
    }
    if (fchmod(up->fd, mode) < 0)
        return upload_fail(up, "changing mode", errno, err);
    if (set_owner(up, up->fd, meta, meta_count, err) < 0)
        return -1;
    if (rc == 0 && (rc = place_new(up, err)) != 0)
        return rc < 0 ? -1 : 0;
    return place_over(up, meta, meta_count, err);
}
