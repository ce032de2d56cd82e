/*
 * envd/entry.h - what clients are told about one file: EntryInfo.
 *
 * Blocking file calls, nothing shared: any worker.
 * Source: envd API section 5.2; permission text is that of Go's FileMode.
 */
#ifndef SANDPIT_ENVD_ENTRY_H
#define SANDPIT_ENVD_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "envd/user.h"

#define ENTRY_XATTR_PREFIX "user.e2b." /* before the key of a metadata attribute */
#define ENTRY_PERMISSIONS_SIZE 24      /* prefix letters, rwxrwxrwx and a NUL */

enum entry_type { /* numbers of the wire */
                  ENTRY_OTHER = 0,
                  ENTRY_FILE = 1,
                  ENTRY_DIRECTORY = 2,
};

struct entry_meta {
    char *key; /* without the prefix */
    char *value;
};

struct entry {
    char *name; /* last path element */
    char *path;
    enum entry_type type; /* of the target when it is a symlink */
    bool is_symlink;
    int64_t size_bytes; /* of the entry itself */
    uint32_t mode;      /* permission bits 0777; of the target when it is a symlink */
    char permissions[ENTRY_PERMISSIONS_SIZE]; /* of the entry itself */
    char *owner, *group;                      /* names, else decimal ids */
    int64_t mtime_s;
    int32_t mtime_ns;
    char *symlink_target; /* resolved, else PATH itself; NULL unless a symlink */
    struct entry_meta *meta;
    size_t meta_count;
};

/*
 * Describe NAME below DIRFD (AT_FDCWD and a path will do) under the path PATH. The final symlink
 * is not followed. Returns 0 and fills *OUT (then entry_clear), or -1 with errno set.
 */
int entry_read(int dirfd, const char *name, const char *path, const struct user_db *users,
               struct entry *out);
/* The same from ST, which is not a symlink's, without metadata. Never fails, never blocks. */
void entry_fill(const struct stat *st, const char *path, const struct user_db *users,
                struct entry *out);
void entry_clear(struct entry *entry);
#define _cleanup_entry_ __attribute__((cleanup(entry_clear)))

/* The type of a mode that is not a symlink's. Pure. */
enum entry_type entry_type_of(mode_t mode);

/* "-rw-r--r--", "drwxr-xr-x", "dtrwxrwxrwx", "Lrwxrwxrwx", "Dcrw-rw-rw-". Pure. */
void entry_permissions(mode_t mode, char out[ENTRY_PERMISSIONS_SIZE]);

/*
 * The metadata attributes of the file FILE (a path; /proc/self/fd/N names an open one): keys
 * without prefix; keys or values that are not UTF-8 are left out. *OUT is to entry_meta_free;
 * none, or a file system without attributes, gives 0 rows. A final symlink has none of its own;
 * FOLLOW reads its target.
 */
size_t entry_meta_read(const char *file, bool follow, struct entry_meta **out);
void entry_meta_free(struct entry_meta *meta, size_t count);

#endif
