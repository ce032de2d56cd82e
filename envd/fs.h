/*
 * envd/fs.h - what filesystem.Filesystem does to the disk: stat, list, make, move, remove.
 *
 * Blocking: workers only. Paths are absolute (path.h) and taken as root: a user only owns what is
 * made. Errors carry the code and the very text that clients see.
 * Source: envd API section 5.3.
 */
#ifndef SANDPIT_ENVD_FS_H
#define SANDPIT_ENVD_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "envd/entry.h"
#include "envd/user.h"
#include "server/base/err.h"

#define FS_DIR_MODE 0755
#define FS_ERRNO_TEXT_SIZE 128
#define FS_LIST_MAX_ENTRIES 250000    /* of one listing; more is ERR_LIMIT, never a part of it */
#define FS_LIST_MAX_BYTES (64u << 20) /* of its paths and names together */

struct fs_owner {
    uid_t uid;
    gid_t gid;
};

/* PATH itself: a final symlink is described, not followed. ERR_NOT_FOUND, ERR_INTERNAL. */
int fs_stat(const char *path, const struct user_db *users, struct entry *out, struct err *err);

struct fs_list {
    struct entry *rows;
    size_t count, cap;
    size_t bytes;
};
void fs_list_clear(struct fs_list *list);
#define _cleanup_fs_list_ __attribute__((cleanup(fs_list_clear)))

/*
 * The entries below PATH down to DEPTH levels (0 means 1), parents before children, names in byte
 * order. PATH may be a symlink; links below are not followed. What vanishes midway is left out.
 * On success *OUT is to fs_list_clear. ERR_NOT_FOUND, ERR_INVALID (not a folder), ERR_CONFLICT
 * (cyclic link), ERR_LIMIT (FS_LIST_MAX_*).
 */
int fs_list(const char *path, uint32_t depth, const struct user_db *users, struct fs_list *out,
            struct err *err);

/* Make the folder PATH and its parents; new ones are OWNER's. ERR_EXISTS, ERR_INVALID (a file). */
int fs_make_dir(const char *path, const struct fs_owner *owner, struct err *err);
/*
 * The same, and a folder that is there already is fine. ERR_INTERNAL "path is a file: …",
 * ERR_NO_SPACE.
 */
int fs_ensure_dir(const char *path, const struct fs_owner *owner, struct err *err);

/* rename(2) after making the parents of DESTINATION. ERR_NOT_FOUND when SOURCE is missing. */
int fs_move(const char *source, const char *destination, const struct fs_owner *owner,
            struct err *err);

/*
 * Remove PATH with all below it; a symlink itself goes. A missing path is fine. What cannot be
 * removed is left, the rest goes, and the first failure is the error. The root folder, a path that
 * ends in "." or "..", and a mount point are refused before anything is removed.
 */
int fs_remove(const char *path, struct err *err);
/* The same unless PATH is a folder with something in it: then *FULL, and nothing is done. */
int fs_remove_one(const char *path, bool *full, struct err *err);

/* The text of an errno as clients know it: lower case. Returns OUT. */
const char *fs_errno_text(int errnum, char out[FS_ERRNO_TEXT_SIZE]);

#endif
