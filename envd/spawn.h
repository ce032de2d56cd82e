/*
 * envd/spawn.h - start one command as a user: clone, dress, exec.
 *
 * Loop thread. The child gets nothing of envd but its three streams: every other descriptor is
 * close-on-exec, signals are unblocked and at their defaults, oom_score_adj is 100 so that the
 * kernel takes user processes before envd. A command that is missing is not a failure here: the
 * child says so on its standard error and exits with 127 (126 when it cannot be run), as a shell's
 * exec does. Source: envd-api section 4.2.
 */
#ifndef ENVD_SPAWN_H
#define ENVD_SPAWN_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "envd/user.h"
#include "server/base/err.h"

#define SPAWN_PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct spawn {
    char *const *argv; /* [0] is looked up in the PATH of ENVP when it has no '/' */
    char *const *envp;
    const char *cwd; /* absolute */
    const struct user *user;
    int stdio[3]; /* become 0, 1, 2 */
    bool tty;     /* stdio[0] is a terminal: new session, controlling terminal */
};

/* Remember the limits that children get back, then raise those of envd itself. Once. */
int spawn_init(struct err *err);

/* The limit of descriptors that children get. After spawn_init. */
void spawn_files_limit(struct rlimit *out);
void spawn_set_files_limit(const struct rlimit *limit);

/* Returns the pid, or -1 with *ERR: what could not be done, as "chdir /x: no such file …". */
pid_t spawn_run(const struct spawn *spawn, struct err *err);

#endif
