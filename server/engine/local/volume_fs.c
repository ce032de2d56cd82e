#include "server/engine/local/volume_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/remove.h"

#define RACES_MAX 16 /* openat2 gives up when something is renamed meanwhile; then again */
#define MODE_FILE 0644
#define MODE_DIR 0755

/* Open PATH ("": TOP) below TOP. Links in it are followed, but not out of TOP. */
static int open_in(int top, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .mode = (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    int fd, tries = 0;

    do {
        fd = (int)syscall(SYS_openat2, top, path[0] != '\0' ? path : ".", &how, sizeof(how));
    } while (fd < 0 && errno == EAGAIN && ++tries < RACES_MAX);
    return fd;
}

/* ERRNUM of an operation on PATH as a client understands it. */
static int refuse(int errnum, const char *path, struct err *err)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return err_set(err, ERR_NOT_FOUND, "path '/%.300s' not found", path);
    case EXDEV:
        return err_set(err, ERR_FORBIDDEN, "path '/%.300s' leads out of the volume", path);
    case ELOOP:
        return err_set(err, ERR_INVALID, "path '/%.300s' has too many symbolic links", path);
    case EISDIR:
        return err_set(err, ERR_INVALID, "path '/%.300s' is a directory", path);
    case ENXIO:
        return err_set(err, ERR_INVALID, "path '/%.300s' is not a file", path);
    case EEXIST:
        return err_set(err, ERR_EXISTS, "path '/%.300s' already exists", path);
    case ENAMETOOLONG:
        return err_set(err, ERR_INVALID, "path is too long");
    case EAGAIN:
        return err_set(err, ERR_BUSY, "path '/%.300s' is being renamed; try again", path);
    case EDQUOT:
    case ENOSPC:
        return err_set(err, ERR_NO_SPACE, "the volume is full");
    default:
        return err_sys(err, errnum, "path '/%.300s'", path);
    }
}

static enum volume_file_type type_of(mode_t mode)
{
    return S_ISREG(mode)   ? VOLUME_FILE_REGULAR
           : S_ISDIR(mode) ? VOLUME_FILE_DIRECTORY
           : S_ISLNK(mode) ? VOLUME_FILE_SYMLINK
                           : VOLUME_FILE_UNKNOWN;
}

static int64_t unix_ms(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000 + time->tv_nsec / 1000000;
}

/* The entry of FD (O_PATH will do), called PATH, to the records. */
static int add_entry(int fd, const char *path, struct volume_result *out, struct err *err)
{
    char target[VOLUME_PATH_SIZE];
    struct volume_entry entry;
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) < 0)
        return refuse(errno, path, err);
    entry = (struct volume_entry){
        .path = (char *)(uintptr_t)path,
        .type = type_of(st.st_mode),
        .mode = st.st_mode & 07777,
        .uid = st.st_uid,
        .gid = st.st_gid,
        .size = st.st_size,
        .atime_unix_ms = unix_ms(&st.st_atim),
        .mtime_unix_ms = unix_ms(&st.st_mtim),
        .ctime_unix_ms = unix_ms(&st.st_ctim),
    };
    if (S_ISLNK(st.st_mode)) {
        n = readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
            return refuse(errno, path, err);
        target[n] = '\0';
        entry.target = target;
    }
    if (volume_record_add(&out->records, &entry) < 0)
        return err_set(err, ERR_INVALID, "the answer would be larger than %d MiB",
                       VOLUME_RECORDS_MAX >> 20);
    out->count++;
    return 0;
}

static int do_stat(int top, const char *path, struct volume_result *out, struct err *err)
{
    _cleanup_close_ int fd = open_in(top, path, O_PATH | O_NOFOLLOW, 0);

    return fd < 0 ? refuse(errno, path, err) : add_entry(fd, path, out, err);
}

/* PATH as the descriptor of the folder it is in, links followed, and the name there. */
static int open_parent(int top, const char *path, const char **name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *parent = mem_strndup(path, slash != NULL ? (size_t)(slash - path) : 0);
    int fd = open_in(top, parent, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0) {
        refuse(errno, parent, err);
        return -1;
    }
    *name = slash != NULL ? slash + 1 : path;
    return fd;
}

static int refuse_top(const char *verb, struct err *err)
{
    return err_set(err, ERR_INVALID, "the volume itself cannot be %s here", verb);
}

static int do_remove(int top, const char *path, struct err *err)
{
    _cleanup_close_ int dir = -1;
    const char *name;
    struct stat st;

    if (path[0] == '\0')
        return refuse_top("removed", err);
    dir = open_parent(top, path, &name, err);
    if (dir < 0)
        return -1;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse(errno, path, err);
    return remove_tree(dir, name, err);
}

/* Owner and mode of FD; -1 leaves one as it is. */
static int set_owner(int fd, const char *path, int32_t uid, int32_t gid, int32_t mode,
                     struct err *err)
{
    if ((uid >= 0 || gid >= 0) && fchown(fd, (uid_t)uid, (gid_t)gid) < 0)
        return refuse(errno, path, err);
    if (mode >= 0 && fchmod(fd, (mode_t)mode) < 0) /* after fchown, which takes bits away */
        return refuse(errno, path, err);
    return 0;
}

static int do_set(int top, const struct volume_call *call, struct volume_result *out,
                  struct err *err)
{
    _cleanup_close_ int fd = open_in(top, call->path, O_PATH | O_NOFOLLOW, 0);
    _cleanup_close_ int file = -1;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(errno, call->path, err);
    if (S_ISLNK(st.st_mode)) {
        if (call->mode >= 0)
            return err_set(err, ERR_INVALID, "a symbolic link has no mode of its own");
        if (fchownat(fd, "", (uid_t)call->uid, (gid_t)call->gid, AT_EMPTY_PATH) < 0)
            return refuse(errno, call->path, err);
        return add_entry(fd, call->path, out, err);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return refuse(ENXIO, call->path, err);
    file = open_in(top, call->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW, 0);
    if (file < 0)
        return refuse(errno, call->path, err);
    if (set_owner(file, call->path, call->uid, call->gid, call->mode, err) < 0)
        return -1;
    return add_entry(file, call->path, out, err);
}

/* The folder NAME in DIR, made if MAKE and not there: then with the owner and mode of CALL. */
static int enter(int dir, const char *name, const struct volume_call *call, bool make, bool *made)
{
    int fd = open_in(dir, name, O_RDONLY | O_DIRECTORY, 0);

    *made = false;
    if (fd >= 0 || errno != ENOENT || !make)
        return fd;
    if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return -1;
    *made = true;
    fd = open_in(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return -1;
    if (fchown(fd, call->uid >= 0 ? (uid_t)call->uid : VOLUME_OWNER,
               call->gid >= 0 ? (gid_t)call->gid : VOLUME_OWNER) < 0 ||
        fchmod(fd, MODE_DIR) < 0)
        fd_close(&fd);
    return fd;
}

/*
 * The folder PATH with all that is missing on the way. Links on the way are followed part by part,
 * each below the folder it is in: one that goes up is refused (EXDEV), though it stays within the
 * volume; without `force` it would be followed.
 */
static int make_path(int top, const char *path, const struct volume_call *call, bool *made)
{
    char part[VOLUME_FILE_NAME_MAX + 1];
    int fd = open_in(top, path, O_RDONLY | O_DIRECTORY, 0);

    *made = false;
    if (fd >= 0 || errno != ENOENT)
        return fd;
    fd = open_in(top, "", O_RDONLY | O_DIRECTORY, 0);
    while (fd >= 0 && *path != '\0') {
        size_t len = strcspn(path, "/");
        int next;

        memcpy(part, path, len); /* volume_path_clean: at most VOLUME_FILE_NAME_MAX */
        part[len] = '\0';
        next = enter(fd, part, call, true, made);
        fd_close(&fd);
        fd = next;
        path += len;
        path += *path == '/';
    }
    return fd;
}

static int do_make_dir(int top, const struct volume_call *call, struct volume_result *out,
                       struct err *err)
{
    _cleanup_close_ int dir = -1, fd = -1;
    const char *name;
    bool made = false;

    if (call->force) {
        fd = make_path(top, call->path, call, &made);
        if (fd < 0)
            return refuse(errno == ENOTDIR ? EEXIST : errno, call->path, err);
    } else {
        if (call->path[0] == '\0')
            return refuse(EEXIST, call->path, err);
        dir = open_parent(top, call->path, &name, err);
        if (dir < 0)
            return -1;
        if (mkdirat(dir, name, 0700) < 0)
            return refuse(errno, call->path, err);
        made = true;
        fd = open_in(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (fd < 0)
            return refuse(errno, call->path, err);
    }
    if (made && set_owner(fd, call->path, call->uid >= 0 ? call->uid : VOLUME_OWNER,
                          call->gid >= 0 ? call->gid : VOLUME_OWNER,
                          call->mode >= 0 ? call->mode : MODE_DIR, err) < 0)
        return -1;
    return add_entry(fd, call->path, out, err);
}

static int do_read(int top, const char *path, struct volume_result *out, struct err *err)
{
    _cleanup_close_ int fd = open_in(top, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(errno, path, err);
    if (!S_ISREG(st.st_mode))
        return refuse(S_ISDIR(st.st_mode) ? EISDIR : ENXIO, path, err);
    if (add_entry(fd, path, out, err) < 0)
        return -1;
    out->file = steal_fd(&fd);
    return 0;
}

/* Where the file of a WRITE will be; missing parents are made with `force`. */
static int write_parent(int top, const struct volume_call *call, const char **name, struct err *err)
{
    const char *slash = strrchr(call->path, '/');
    _cleanup_free_ char *parent = NULL;
    bool made;
    int fd;

    if (!call->force)
        return open_parent(top, call->path, name, err);
    parent = mem_strndup(call->path, slash != NULL ? (size_t)(slash - call->path) : 0);
    fd = make_path(top, parent, call, &made);
    if (fd < 0) {
        refuse(errno, parent, err);
        return -1;
    }
    *name = slash != NULL ? slash + 1 : call->path;
    return fd;
}

static int do_write(int top, const struct volume_call *call, struct volume_write *write,
                    struct volume_result *out, struct err *err)
{
    const char *name;
    struct stat st;

    if (call->path[0] == '\0')
        return refuse(EISDIR, call->path, err);
    write->dir = write_parent(top, call, &name, err);
    if (write->dir < 0)
        return -1;
    if (fstatat(write->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode) &&
        !S_ISLNK(st.st_mode))
        return refuse(S_ISDIR(st.st_mode) ? EISDIR : ENXIO, call->path, err);
    write->file = open_in(write->dir, "", O_TMPFILE | O_RDWR, 0600);
    if (write->file < 0)
        return refuse(errno, call->path, err);
    if (str_copy(write->name, sizeof(write->name), name, strlen(name)) < 0)
        return refuse(ENAMETOOLONG, call->path, err);
    write->call = *call;
    out->file = write->file;
    return 0;
}

/* Put the nameless file in the place of NAME, which is there: by way of another name. */
static int replace(const struct volume_write *write)
{
    char temporary[40] = ".sandpit-";
    int errnum;

    hash_random_id(temporary + strlen(temporary), 20);
    if (linkat(write->file, "", write->dir, temporary, AT_EMPTY_PATH) < 0)
        return -1;
    if (renameat(write->dir, temporary, write->dir, write->name) == 0)
        return 0;
    errnum = errno;
    unlinkat(write->dir, temporary, 0);
    errno = errnum;
    return -1;
}

int volume_fs_commit(struct volume_write *write, struct volume_result *out, struct err *err)
{
    const struct volume_call *call = &write->call;
    struct stat old = {.st_uid = VOLUME_OWNER, .st_gid = VOLUME_OWNER, .st_mode = MODE_FILE};
    bool there;

    if (write->file < 0)
        return err_set(err, ERR_INVALID, "nothing was written");
    there = fstatat(write->dir, write->name, &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && S_ISLNK(old.st_mode))
        old.st_mode = MODE_FILE;
    if (set_owner(write->file, call->path, call->uid >= 0 ? call->uid : (int32_t)old.st_uid,
                  call->gid >= 0 ? call->gid : (int32_t)old.st_gid,
                  call->mode >= 0 ? call->mode : (int32_t)(old.st_mode & 07777), err) < 0)
        return -1;
    if (there || linkat(write->file, "", write->dir, write->name, AT_EMPTY_PATH) < 0) {
        if (!there && errno != EEXIST)
            return refuse(errno, call->path, err);
        if (replace(write) < 0)
            return refuse(errno, call->path, err);
    }
    return add_entry(write->file, call->path, out, err);
}

void volume_write_clear(struct volume_write *write)
{
    fd_close(&write->file);
    fd_close(&write->dir);
}

static int walk(int dir, const char *path, uint32_t depth, struct volume_result *out,
                struct err *err);

/* One name of a listing, and what is below it while DEPTH lasts. What vanishes meanwhile is not
 * told. */
static int walk_entry(int dir, const char *name, const char *parent, uint32_t depth,
                      struct volume_result *out, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s%s%s", parent, parent[0] != '\0' ? "/" : "", name);
    _cleanup_close_ int fd = open_in(dir, name, O_PATH | O_NOFOLLOW, 0);
    struct stat st;
    int child;

    if (fd < 0)
        return errno == ENOENT || errno == EXDEV ? 0 : refuse(errno, path, err);
    if (out->count >= VOLUME_LIST_MAX)
        return err_set(err, ERR_INVALID,
                       "more than %d entries: ask for a folder further down or a smaller depth",
                       VOLUME_LIST_MAX);
    if (strlen(path) >= VOLUME_PATH_SIZE) /* deeper than any path that can be asked for */
        return 0;
    if (add_entry(fd, path, out, err) < 0)
        return -1;
    if (depth <= 1 || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0;
    child = open_in(fd, "", O_RDONLY | O_DIRECTORY, 0);
    return child < 0 ? 0 : walk(child, path, depth - 1, out, err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in DIR (closed by this), sorted; at most VOLUME_LIST_MAX + 1. */
static char **read_names(int fd, size_t *count)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    char **names = NULL;
    size_t cap = 0;

    *count = 0;
    if (dir == NULL) {
        fd_close(&fd);
        return NULL;
    }
    while (*count <= VOLUME_LIST_MAX && (entry = readdir(dir)) != NULL) {
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
            continue;
        if (*count == cap) {
            cap = cap > 0 ? 2 * cap : 64;
            names = mem_realloc_array(names, cap, sizeof(*names));
        }
        names[(*count)++] = mem_strdup(entry->d_name);
    }
    closedir(dir);
    if (*count > 0)
        qsort(names, *count, sizeof(*names), compare_names);
    return names;
}

/* What is in DIR, which this closes, called PATH. */
static int walk(int dir, const char *path, uint32_t depth, struct volume_result *out,
                struct err *err)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = 0;
    char **names = again >= 0 ? read_names(again, &count) : NULL;
    int rc = 0;

    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = walk_entry(dir, names[i], path, depth, out, err);
        free(names[i]);
    }
    free(names);
    fd_close(&dir);
    return rc;
}

static int do_list(int top, const struct volume_call *call, struct volume_result *out,
                   struct err *err)
{
    _cleanup_close_ int fd = open_in(top, call->path, O_PATH, 0);
    struct stat st;
    int dir;

    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(errno, call->path, err);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "path '/%.300s' is not a directory", call->path);
    dir = open_in(fd, "", O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0)
        return refuse(errno, call->path, err);
    return walk(dir, call->path, call->depth, out, err);
}

int volume_fs_do(int top, const struct volume_call *call, struct volume_write *write,
                 struct volume_result *out, struct err *err)
{
    switch (call->verb) {
    case VOLUME_STAT:
        return do_stat(top, call->path, out, err);
    case VOLUME_SET:
        return do_set(top, call, out, err);
    case VOLUME_REMOVE:
        return do_remove(top, call->path, err);
    case VOLUME_LIST:
        return do_list(top, call, out, err);
    case VOLUME_MAKE_DIR:
        return do_make_dir(top, call, out, err);
    case VOLUME_READ:
        return do_read(top, call->path, out, err);
    case VOLUME_WRITE:
        return do_write(top, call, write, out, err);
    default:
        return err_set(err, ERR_INTERNAL, "unknown verb %u", call->verb);
    }
}
