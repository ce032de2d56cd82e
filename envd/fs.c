#include "envd/fs.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envd/path.h"
#include "server/base/mem.h"

const char *fs_errno_text(int errnum, char out[FS_ERRNO_TEXT_SIZE])
{
    char buf[FS_ERRNO_TEXT_SIZE];

    snprintf(out, FS_ERRNO_TEXT_SIZE, "%s", strerror_r(errnum, buf, sizeof(buf)));
    out[0] = (char)tolower((unsigned char)out[0]);
    return out;
}

int fs_stat(const char *path, const struct user_db *users, struct entry *out, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];

    if (entry_read(AT_FDCWD, path, path, users, out) == 0)
        return 0;
    fs_errno_text(errno, text);
    if (errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "file not found: lstat %s: %s", path, text);
    return err_set(err, ERR_INTERNAL, "error getting file info: lstat %s: %s", path, text);
}

/* One new folder of OWNER. Somebody else making it at the same time is fine. */
static int make_one(const char *path, const struct fs_owner *owner, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];

    if (mkdir(path, FS_DIR_MODE) < 0) {
        if (errno == EEXIST)
            return 0;
        return err_set(err, errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_INTERNAL,
                       "error creating directory: mkdir %s: %s", path, fs_errno_text(errno, text));
    }
    /* a mask of the process must not narrow the mode */
    if (chmod(path, FS_DIR_MODE) < 0 || lchown(path, owner->uid, owner->gid) < 0)
        return err_set(err, ERR_INTERNAL, "error changing ownership: chown %s: %s", path,
                       fs_errno_text(errno, text));
    return 0;
}

/* PATH is a folder (1), missing (0), or -1: a file, or not to be asked. */
static int dir_state(const char *path, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];
    struct stat st;

    if (stat(path, &st) < 0) {
        if (errno == ENOENT)
            return 0;
        return err_set(err, ERR_INTERNAL, "error getting file info: stat %s: %s", path,
                       fs_errno_text(errno, text));
    }
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INTERNAL, "path is a file: %s", path);
    return 1;
}

int fs_ensure_dir(const char *path, const struct fs_owner *owner, struct err *err)
{
    _cleanup_free_ char *copy = mem_strdup(path);
    int state = dir_state(path, err);

    if (state != 0)
        return state < 0 ? -1 : 0;
    for (char *at = copy + strspn(copy, "/"); *at != '\0';) {
        size_t size = strcspn(at, "/");
        char *end = at + size, kept = *end;
        *end = '\0';
        state = dir_state(copy, err);
        if (state < 0 || (state == 0 && make_one(copy, owner, err) < 0))
            return -1;
        *end = kept;
        at = end + strspn(end, "/");
    }
    return 0;
}

/* fs_ensure_dir for calls whose clients know no code of their own for a full disk. */
static int ensure_for_rpc(const char *path, const struct fs_owner *owner, struct err *err)
{
    if (fs_ensure_dir(path, owner, err) == 0)
        return 0;
    if (err->code == ERR_NO_SPACE)
        err->code = ERR_INTERNAL;
    return -1;
}

int fs_make_dir(const char *path, const struct fs_owner *owner, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];
    struct stat st;

    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return err_set(err, ERR_EXISTS, "directory already exists: %s", path);
        return err_set(err, ERR_INVALID, "path already exists but it is not a directory: %s", path);
    }
    if (errno != ENOENT)
        return err_set(err, ERR_INTERNAL, "error getting file info: stat %s: %s", path,
                       fs_errno_text(errno, text));
    return ensure_for_rpc(path, owner, err);
}

int fs_move(const char *source, const char *destination, const struct fs_owner *owner,
            struct err *err)
{
    _cleanup_free_ char *parent = path_parent(destination);
    char text[FS_ERRNO_TEXT_SIZE];
    struct stat st;
    int failed;

    if (lstat(source, &st) < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "source file not found: lstat %s: %s", source,
                       fs_errno_text(errno, text));
    if (ensure_for_rpc(parent, owner, err) < 0)
        return -1;
    if (rename(source, destination) == 0)
        return 0;
    failed = errno;
    fs_errno_text(failed, text);
    if (failed == ENOENT && lstat(source, &st) < 0)
        return err_set(err, ERR_NOT_FOUND, "source file not found: rename %s %s: %s", source,
                       destination, text);
    return err_set(err, ERR_INTERNAL, "error renaming: rename %s %s: %s", source, destination,
                   text);
}
