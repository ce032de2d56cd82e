#include "server/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "server/base/mem.h"

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

void cleanup_close(int *fd)
{
    fd_close(fd);
}

int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

int fd_read_full(int fd, void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = ENODATA;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int fd_write_full(int fd, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

int fd_set_nonblock(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -1;
    return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int file_read(int dirfd, const char *path, size_t max, char **out, size_t *out_len, struct err *err)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    _cleanup_free_ char *data = NULL;
    size_t len = 0, cap = 4096;

    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", path);
    data = mem_zalloc(cap + 1);
    for (;;) {
        ssize_t n = read(fd, data + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot read %s", path);
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max)
            return err_set(err, ERR_INVALID, "%s is larger than %zu bytes", path, max);
        if (len == cap) {
            cap *= 2;
            data = mem_realloc_array(data, cap + 1, 1);
        }
    }
    data[len] = '\0';
    if (out_len != NULL)
        *out_len = len;
    *out = steal_ptr(&data);
    return 0;
}

static int sync_parent(int dirfd, const char *path)
{
    char copy[PATH_MAX];
    int rc;

    if (strlen(path) >= sizeof(copy)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(copy, path, strlen(path) + 1);
    _cleanup_close_ int fd = openat(dirfd, dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    rc = fsync(fd);
    return rc;
}

int file_write_durable(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
                       struct err *err)
{
    _cleanup_free_ char *tmp = NULL;
    _cleanup_close_ int fd = -1;
    char suffix[9];

    hash_random_id(suffix, sizeof(suffix) - 1);
    tmp = mem_asprintf("%s.tmp-%s", path, suffix);
    fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_sys(err, errno, "cannot create %s", tmp);
    if (fchmod(fd, mode) < 0 || fd_write_full(fd, data, len) < 0 || fsync(fd) < 0 ||
        renameat(dirfd, tmp, dirfd, path) < 0 || sync_parent(dirfd, path) < 0) {
        int saved = errno;
        unlinkat(dirfd, tmp, 0);
        return err_sys(err, saved, "cannot write %s", path);
    }
    return 0;
}

int file_poke(int dirfd, const char *path, const char *text, struct err *err)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", path);
    if (write(fd, text, strlen(text)) < 0)
        return err_sys(err, errno, "cannot write '%.64s' to %s", text, path);
    return 0;
}

int dir_make(const char *path, mode_t mode, struct err *err)
{
    _cleanup_free_ char *copy = mem_strdup(path);

    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create folder %s", copy);
        *p = '/';
    }
    if (mkdir(copy, mode) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot create folder %s", path);
    return 0;
}
