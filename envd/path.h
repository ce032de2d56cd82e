/*
 * envd/path.h - which file a client means: home, "~", relative and absolute paths.
 *
 * Pure: text only, the disk is not asked. Any thread. Every result is a new string to free().
 * Source: envd API section 5.1; the clean and join rules are those of Go's path/filepath.
 */
#ifndef SANDPIT_ENVD_PATH_H
#define SANDPIT_ENVD_PATH_H

#include "server/base/err.h"

/* Whose paths they are. Borrowed strings. */
struct path_base {
    const char *user;    /* for messages */
    const char *home;    /* absolute */
    const char *workdir; /* what the empty path means; NULL or "" when unset: home */
};

/*
 * Make PATH absolute for BASE:
 *   ""         the default workdir (by these same rules), else the home folder
 *   "~", "~/x" the home folder, and below it
 *   "/x"       as it is, not cleaned: the reply repeats it
 *   "x"        below the home folder, cleaned; the default workdir plays no part
 * Returns 0 and *OUT, or -1 with ERR_INVALID for "~other".
 */
int path_expand(const char *path, const struct path_base *base, char **out, struct err *err);

/* The shortest equal path by text alone: no "//", ".", "x/.."; "" gives ".". */
char *path_clean(const char *path);

/* DIR "/" NAME, cleaned; an empty part is left out. */
char *path_join(const char *dir, const char *name);

/* The last element: "a" of "/x/a" and of "/x/a/"; "/" of "/"; "." of "". */
char *path_name(const char *path);

/* Everything before the last element, trailing slashes not counted: "/x" of "/x/a/"; "/" of "/". */
char *path_parent(const char *path);

#endif
