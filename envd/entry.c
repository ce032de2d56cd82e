#include "envd/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "envd/fs_quick.h"
#include "envd/path.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define XATTR_MAX_BYTES 65536 /* XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel */
#define XATTR_FIRST_BYTES 1024

enum entry_type entry_type_of(mode_t mode)
{
    if (S_ISREG(mode))
        return ENTRY_FILE;
    return S_ISDIR(mode) ? ENTRY_DIRECTORY : ENTRY_OTHER;
}

void entry_permissions(mode_t mode, char out[ENTRY_PERMISSIONS_SIZE])
{
    /* the order of Go's "dalTLDpSugct?" */
    static const struct {
        mode_t mask, value;
        char letter;
    } letters[] = {
        {S_IFMT, S_IFDIR, 'd'},  {S_IFMT, S_IFLNK, 'L'},  {S_IFMT, S_IFBLK, 'D'},
        {S_IFMT, S_IFCHR, 'D'},  {S_IFMT, S_IFIFO, 'p'},  {S_IFMT, S_IFSOCK, 'S'},
        {S_ISUID, S_ISUID, 'u'}, {S_ISGID, S_ISGID, 'g'}, {S_IFMT, S_IFCHR, 'c'},
        {S_ISVTX, S_ISVTX, 't'},
    };
    static const char rwx[] = "rwxrwxrwx";
    size_t len = 0;

    for (size_t i = 0; i < array_size(letters); i++)
        if ((mode & letters[i].mask) == letters[i].value)
            out[len++] = letters[i].letter;
    if (len == 0)
        out[len++] = '-';
    for (unsigned i = 0; i < 9; i++)
        out[len++] = mode & (0400u >> i) ? rwx[i] : '-';
    out[len] = '\0';
}

static ssize_t list_names(const char *file, bool follow, char *data, size_t cap)
{
    return follow ? listxattr(file, data, cap) : llistxattr(file, data, cap);
}

static ssize_t get_value(const char *file, const char *name, bool follow, char *data, size_t cap)
{
    return follow ? getxattr(file, name, data, cap) : lgetxattr(file, name, data, cap);
}

static void meta_add(const char *file, const char *name, bool follow, struct entry_meta **rows,
                     size_t *count)
{
    _cleanup_free_ char *value = mem_zalloc(XATTR_FIRST_BYTES + 1);
    const char *key = name + strlen(ENTRY_XATTR_PREFIX);
    ssize_t len = get_value(file, name, follow, value, XATTR_FIRST_BYTES);

    if (len < 0 && errno == ERANGE) {
        free(value);
        value = mem_zalloc(XATTR_MAX_BYTES + 1);
        len = get_value(file, name, follow, value, XATTR_MAX_BYTES);
    }
    if (len < 0 || !str_is_utf8(value, (size_t)len) || !str_is_utf8(key, strlen(key)))
        return;
    *rows = mem_realloc_array(*rows, *count + 1, sizeof(**rows));
    (*rows)[(*count)++] = (struct entry_meta){mem_strdup(key), mem_strndup(value, (size_t)len)};
}

size_t entry_meta_read(const char *file, bool follow, struct entry_meta **out)
{
    char first[XATTR_FIRST_BYTES];
    _cleanup_free_ char *more = NULL;
    struct entry_meta *rows = NULL;
    const char *list = first;
    ssize_t len = list_names(file, follow, first, sizeof(first));
    size_t count = 0;

    if (len < 0 && errno == ERANGE) {
        list = more = mem_zalloc(XATTR_MAX_BYTES);
        len = list_names(file, follow, more, XATTR_MAX_BYTES);
    }
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(list + at) + 1)
        if (str_starts(list + at, ENTRY_XATTR_PREFIX))
            meta_add(file, list + at, follow, &rows, &count);
    *out = rows;
    return count;
}

void entry_meta_free(struct entry_meta *meta, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(meta[i].key);
        free(meta[i].value);
    }
    free(meta);
}

/* Where FD (O_PATH) is, by the kernel's word; NULL when /proc is not there. */
static char *fd_location(int fd)
{
    char link[40], target[PATH_MAX];
    ssize_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, target, sizeof(target));
    if (len <= 0 || (size_t)len >= sizeof(target) || target[0] != '/')
        return NULL;
    return mem_strndup(target, (size_t)len);
}

/* Type, mode and place of what a symlink leads to; broken and cyclic links keep type 0, mode 0. */
static void read_target(int dirfd, const char *name, struct entry *entry)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_PATH | O_CLOEXEC);
    struct stat st;

    entry->is_symlink = true;
    entry->type = ENTRY_OTHER;
    entry->mode = 0;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        entry->type = entry_type_of(st.st_mode);
        entry->mode = st.st_mode & 0777;
        entry->symlink_target = fd_location(fd);
    }
    if (entry->symlink_target == NULL)
        entry->symlink_target = mem_strdup(entry->path);
}

/* Attributes are read through the folder's descriptor: a rename above does not mislead. */
static void read_meta(int dirfd, const char *name, struct entry *entry)
{
    char file[PATH_MAX + 64];
    int len;

    if (dirfd == AT_FDCWD || name[0] == '/')
        len = snprintf(file, sizeof(file), "%s", name);
    else
        len = snprintf(file, sizeof(file), "/proc/self/fd/%d/%s", dirfd, name);
    if (len > 0 && (size_t)len < sizeof(file))
        entry->meta_count = entry_meta_read(file, false, &entry->meta);
}

/* NAME, or the decimal ID where the sandbox has no name for it. */
static char *owner_text(const char *name, uint32_t id)
{
    return name != NULL ? mem_strdup(name) : mem_asprintf("%u", id);
}

void entry_fill(const struct stat *st, const char *path, const struct user_db *users,
                struct entry *out)
{
    *out = (struct entry){
        .name = path_name(path),
        .path = mem_strdup(path),
        .type = entry_type_of(st->st_mode),
        .size_bytes = st->st_size,
        .mode = st->st_mode & 0777,
        .owner = owner_text(user_db_user_name(users, st->st_uid), st->st_uid),
        .group = owner_text(user_db_group_name(users, st->st_gid), st->st_gid),
        .mtime_s = st->st_mtim.tv_sec,
        .mtime_ns = (int32_t)st->st_mtim.tv_nsec,
    };
    entry_permissions(st->st_mode, out->permissions);
}

int entry_read(int dirfd, const char *name, const char *path, const struct user_db *users,
               struct entry *out)
{
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    entry_fill(&st, path, users, out);
    if (S_ISLNK(st.st_mode))
        read_target(dirfd, name, out);
    else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        read_meta(dirfd, name, out);
    if (out->meta_count == 0 && !S_ISLNK(st.st_mode))
        fs_quick_note_bare(&st);
    return 0;
}

void entry_clear(struct entry *entry)
{
    free(entry->name);
    free(entry->path);
    free(entry->owner);
    free(entry->group);
    free(entry->symlink_target);
    entry_meta_free(entry->meta, entry->meta_count);
    *entry = (struct entry){0};
}
