#include "envd/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "envd/path.h"
#include "envd/upload_place.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define LINKS_MAX 40            /* as the kernel's MAXSYMLINKS */
#define APPEND_BYTES (64 << 20) /* per call */

int upload_fail(const struct upload *up, const char *what, int errnum, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE], prefix[64] = "";

    if (errnum != ENOSPC && errnum != EDQUOT)
        return err_set(err, ERR_INTERNAL, "error %s: %s: %s", what, up->target,
                       fs_errno_text(errnum, text));
    if (up->expected_bytes >= 0)
        snprintf(prefix, sizeof(prefix),
                 "attempted to write %lld bytes: ", (long long)up->expected_bytes);
    return err_set(err, ERR_NO_SPACE, "%snot enough disk space available", prefix);
}

/* No file could be made: is it the inodes that ran out? */
static int create_fail(const struct upload *up, int errnum, struct err *err)
{
    struct statvfs fs;

    if ((errnum == ENOSPC || errnum == EDQUOT) && fstatvfs(up->dir_fd, &fs) == 0 &&
        fs.f_files > 0 && fs.f_ffree == 0)
        return err_set(err, ERR_NO_SPACE, "not enough inodes available: %llu of %llu left",
                       (unsigned long long)fs.f_ffree, (unsigned long long)fs.f_files);
    return upload_fail(up, "creating file", errnum, err);
}

/* Replace up->target by what it links to until it is no symlink. */
static int follow_links(struct upload *up, struct err *err)
{
    for (int i = 0; i < LINKS_MAX; i++) {
        char link[PATH_MAX];
        ssize_t len = readlink(up->target, link, sizeof(link) - 1);
        if (len < 0)
            return 0; /* not a symlink, or not there */
        link[len] = '\0';
        /* not cleaned: ".." after a linked folder is the kernel's to resolve */
        char *last = strrchr(up->target, '/');
        char *next = link[0] == '/'
                         ? mem_strdup(link)
                         : mem_asprintf("%.*s%s", (int)(last + 1 - up->target), up->target, link);
        free(up->target);
        up->target = next;
    }
    return upload_fail(up, "opening file", ELOOP, err);
}

/* The parents of the target, its folder's descriptor, and what is there already. */
static int find_place(struct upload *up, struct err *err)
{
    _cleanup_free_ char *parent = NULL;
    struct err inner = {0};
    struct stat st;
    char *last;

    /* before links are followed by name: /dev/stdout leads to what has none */
    if (stat(up->target, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "path is not a regular file: %s", up->target);
    if (follow_links(up, err) < 0)
        return -1;
    last = strrchr(up->target, '/');
    if (last[1] == '\0')
        return err_set(err, ERR_INVALID, "path is a directory: %s", up->target);
    parent =
        last == up->target ? mem_strdup("/") : mem_strndup(up->target, (size_t)(last - up->target));
    up->name = mem_strdup(last + 1);
    if (fs_ensure_dir(parent, &up->owner, &inner) < 0) {
        if (inner.code == ERR_NO_SPACE)
            return err_set(err, ERR_NO_SPACE, "not enough inodes available: %.400s", inner.msg);
        return err_set(err, inner.code, "error ensuring directories: %.400s", inner.msg);
    }
    up->dir_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (up->dir_fd < 0)
        return upload_fail(up, "opening file", errno, err);
    up->exists = fstatat(up->dir_fd, up->name, &up->old, AT_SYMLINK_NOFOLLOW) == 0;
    if (!up->exists && errno != ENOENT)
        return upload_fail(up, "getting file info", errno, err);
    if (up->exists && S_ISDIR(up->old.st_mode))
        return err_set(err, ERR_INVALID, "path is a directory: %s", up->target);
    if (up->exists && !S_ISREG(up->old.st_mode))
        return err_set(err, ERR_INVALID, "path is not a regular file: %s", up->target);
    return 0;
}

void upload_temp_name(char out[UPLOAD_TEMP_SIZE])
{
    char id[17];

    hash_random_id(id, sizeof(id) - 1);
    snprintf(out, UPLOAD_TEMP_SIZE, UPLOAD_TEMP_PREFIX "%s", id);
}

/* A file that is not the target yet: unnamed if the file system can, else with a hidden name. */
static int open_temp(struct upload *up)
{
    up->fd = openat(up->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (up->fd >= 0 || errno == ENOSPC || errno == EDQUOT || errno == EMFILE || errno == ENFILE)
        return up->fd;
    upload_remove_stale(up);
    upload_temp_name(up->temp);
    up->fd = openat(up->dir_fd, up->temp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (up->fd < 0)
        up->temp[0] = '\0';
    return up->fd;
}

int upload_open_target(struct upload *up)
{
    return openat(up->dir_fd, up->name,
                  O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* The content is known to fit, or fits only where the old one is: then there is no copy. */
static int check_space(struct upload *up, struct err *err)
{
    struct statvfs fs;
    uint64_t left, old = up->exists ? (uint64_t)up->old.st_blocks * 512 : 0;

    if (up->expected_bytes <= 0 || fstatvfs(up->dir_fd, &fs) < 0 || fs.f_blocks == 0)
        return 0;
    if (__builtin_mul_overflow((uint64_t)fs.f_bfree, (uint64_t)fs.f_frsize, &left) ||
        (uint64_t)up->expected_bytes <= left)
        return 0;
    if ((uint64_t)up->expected_bytes - left > old)
        return upload_fail(up, "writing file", ENOSPC, err);
    up->in_place = true;
    return 0;
}

/* A copy cannot be made here, but the target may well be writable: procfs, a mounted file. */
static bool folder_takes_no_files(int errnum)
{
    return errnum == EACCES || errnum == EPERM || errnum == EROFS || errnum == ENOENT ||
           errnum == EOPNOTSUPP || errnum == EINVAL;
}

static int begin(struct upload *up, struct err *err)
{
    if (find_place(up, err) < 0 || check_space(up, err) < 0)
        return -1;
    if (!up->in_place && open_temp(up) >= 0)
        return 0;
    if (!up->in_place && (!up->exists || !folder_takes_no_files(errno)))
        return create_fail(up, errno, err);
    up->in_place = true;
    up->fd = upload_open_target(up);
    return up->fd < 0 ? upload_fail(up, "opening file", errno, err) : 0;
}

int upload_begin(struct upload *up, const char *path, const struct fs_owner *owner,
                 int64_t expected_bytes, struct err *err)
{
    *up = (struct upload){
        .target = mem_strdup(path),
        .dir_fd = -1,
        .fd = -1,
        .owner = *owner,
        .expected_bytes = expected_bytes,
    };
    if (begin(up, err) == 0)
        return 0;
    upload_clear(up);
    return -1;
}

int upload_write(struct upload *up, const void *data, size_t len, struct err *err)
{
    if (fd_write_full(up->fd, data, len) < 0)
        return upload_fail(up, "writing file", errno, err);
    up->written_bytes += (int64_t)len;
    return 0;
}

/* The file takes no pages from a pipe: through memory then. */
static int copy_pipe(struct upload *up, int pipe_fd, size_t len, struct err *err)
{
    char data[16384];

    while (len > 0) {
        ssize_t n = read(pipe_fd, data, len < sizeof(data) ? len : sizeof(data));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return upload_fail(up, "writing file", n < 0 ? errno : EIO, err);
        if (upload_write(up, data, (size_t)n, err) < 0)
            return -1;
        len -= (size_t)n;
    }
    return 0;
}

int upload_write_pipe(struct upload *up, int pipe_fd, size_t len, struct err *err)
{
    while (len > 0) {
        ssize_t n = splice(pipe_fd, NULL, up->fd, NULL, len, SPLICE_F_MOVE);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL)
            return copy_pipe(up, pipe_fd, len, err);
        if (n <= 0)
            return upload_fail(up, "writing file", n < 0 ? errno : EIO, err);
        up->written_bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

int upload_append(struct upload *up, int fd, struct err *err)
{
    bool by_range = true;

    for (;;) {
        ssize_t n = by_range ? copy_file_range(fd, NULL, up->fd, NULL, APPEND_BYTES, 0)
                             : sendfile(up->fd, fd, NULL, APPEND_BYTES);
        if (n < 0 && by_range && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
            by_range = false;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return upload_fail(up, "writing file", errno, err);
        if (n == 0)
            return 0;
        up->written_bytes += n;
    }
}

void upload_clear(struct upload *up)
{
    if (up->temp[0] != '\0')
        unlinkat(up->dir_fd, up->temp, 0);
    fd_close(&up->fd);
    fd_close(&up->dir_fd);
    free(up->target);
    free(up->name);
    *up = (struct upload){.fd = -1, .dir_fd = -1};
}
