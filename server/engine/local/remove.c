#include "server/engine/local/remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/str.h"

#define DEPTH_MAX 64 /* folders open at once */

struct removal {
    int top;        /* the tree's top, where folders from too deep are moved to */
    uint64_t moved; /* how many were */
    struct err *err;
};

static int remove_content(struct removal *removal, int fd, int depth);

/* A folder too deep to descend: becomes a child of the top, which is emptied again later. */
static int move_up(struct removal *removal, int dirfd, const char *name)
{
    char target[40];

    do {
        snprintf(target, sizeof(target), ".deep-%llu", (unsigned long long)removal->moved++);
        if (renameat(dirfd, name, removal->top, target) == 0)
            return 0;
    } while (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR);
    return err_sys(removal->err, errno, "cannot move a deep folder to remove it");
}

static int remove_folder(struct removal *removal, int dirfd, const char *name, int depth)
{
    int fd;

    if (depth >= DEPTH_MAX)
        return move_up(removal, dirfd, name);
    fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(removal->err, errno, "cannot open a folder to remove it");
    if (remove_content(removal, fd, depth + 1) < 0) /* closes fd */
        return -1;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_sys(removal->err, errno, "cannot remove a folder");
    return 0;
}

static int remove_entry(struct removal *removal, int dirfd, const char *name, int depth)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_sys(removal->err, errno, "cannot remove a file");
    return remove_folder(removal, dirfd, name, depth);
}

/* Everything in FD, which this closes. */
static int remove_content(struct removal *removal, int fd, int depth)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    int rc = 0;

    if (dir == NULL) {
        fd_close(&fd);
        return err_sys(removal->err, errno, "cannot read a folder to remove it");
    }
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
            continue;
        rc = entry->d_type == DT_DIR ? remove_folder(removal, dirfd(dir), entry->d_name, depth)
                                     : remove_entry(removal, dirfd(dir), entry->d_name, depth);
    }
    closedir(dir);
    return rc;
}

int remove_tree(int dirfd, const char *name, struct err *err)
{
    struct removal removal = {.err = err};
    int top = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc;

    if (top < 0 && errno == ENOENT)
        return 0;
    if (top < 0 && (errno == ENOTDIR || errno == ELOOP))
        return remove_entry(&removal, dirfd, name, 0);
    if (top < 0)
        return err_sys(err, errno, "cannot open %s to remove it", name);
    removal.top = top;
    do { /* again while deep folders came to the top */
        int again = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (again < 0) {
            rc = err_sys(err, errno, "cannot open %s to remove it", name);
            break;
        }
        removal.moved = 0;
        rc = remove_content(&removal, again, 0);
    } while (rc == 0 && removal.moved > 0);
    fd_close(&top);
    if (rc < 0)
        return -1;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s", name);
    return 0;
}
