/*
 * envd/user.h - users and groups of the sandbox, from its own /etc/passwd and /etc/group.
 *
 * Own parser: the binary is static and the root file system may be of any distribution, so
 * glibc's NSS cannot be used. A missing file means an empty list. Any thread.
 */
#ifndef ENVD_USER_H
#define ENVD_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "server/base/err.h"

#define USER_NAME_SIZE 256  /* with the NUL */
#define USER_HOME_SIZE 4096 /* with the NUL */
#define USER_GROUPS_MAX 256 /* supplementary groups; further ones are ignored */
#define USER_FILE_MAX_BYTES (4 << 20)

struct user {
    char name[USER_NAME_SIZE];
    char home[USER_HOME_SIZE];
    uid_t uid;
    gid_t gid;
    size_t group_count;
    gid_t groups[USER_GROUPS_MAX]; /* gid is the first */
};

/* One reading of both files. Immutable, reference-counted. */
struct user_db;

/* The current content (read again only when the files have changed). A reference to drop. */
struct user_db *user_db_get(void);
void user_db_unref(struct user_db *db);

static inline void cleanup_user_db(struct user_db **db)
{
    user_db_unref(*db);
}
#define _cleanup_user_db_ __attribute__((cleanup(cleanup_user_db)))

/* Parse texts (each may be ""). A line that is not well-formed is skipped. */
struct user_db *user_db_parse(const char *passwd, size_t passwd_len, const char *group,
                              size_t group_len);

/*
 * Fill *OUT. Returns 0, or -1 when there is no such name; *OUT is untouched then. "root" is always
 * there: uid 0, /root, when the files lack it.
 */
int user_db_find(const struct user_db *db, const char *name, struct user *out);
/* The name of an id, or NULL. Borrowed from DB. */
const char *user_db_user_name(const struct user_db *db, uid_t uid);
const char *user_db_group_name(const struct user_db *db, gid_t gid);

/* user_db_get and user_db_find: 0, or -1 when there is no such user. */
int user_find(const char *name, struct user *out);

#endif
