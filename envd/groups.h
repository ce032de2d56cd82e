/*
 * envd/groups.h - the sandbox's control groups, as far as envd may touch them.
 *
 * Whoever starts envd in a sandbox passes open files and tells which they are by an option,
 * "--group-fds KIND=N,KIND=N…". Kinds:
 *   envd        cgroup.procs of where envd belongs; several, one a hierarchy, as the next two
 *   user        cgroup.procs of where other processes belong: with a memory limit below the
 *               sandbox's, so that they cannot take what envd needs
 *   ptys        cgroup.procs of a group beside `user` with more CPU time
 *   freezer     version 1: freezer.state of both; freeze, frozen: version 2's cgroup.freeze and
 *               cgroup.events
 *   memory, memory-stat, cpu   usage of the whole sandbox
 *   disk-used, disk-limit      bytes of the sandbox's files (add all of the first), and the most
 *                              there may be; granted like those of control groups
 *   log         no file of a group: a non-blocking pipe for a copy of the log, read outside
 * envd begins in `user`: what it starts there inherits the group at no cost, where moving a process
 * costs some 10 ms of waiting for the kernel. So its spawner (spawner.h) stays in `user`, and envd
 * itself moves out when the first process is there.
 * Without the option all this does nothing. Loop thread, unless noted.
 */
#ifndef ENVD_GROUPS_H
#define ENVD_GROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"

/* TEXT is the option's. A kind that this envd does not know is closed: a newer launcher's. */
int groups_option(const char *text, struct err *err);
/* Close-on-exec for all of them; -1 when one is not open. Before any process. */
int groups_init(struct err *err);

/* There is a group for users' processes: they must not be forked by envd itself. Any thread. */
bool groups_divided(void);
/* Move the calling process to `user` (in the spawner: async-signal-safe). 0, or -1 with errno. */
int groups_enter_user(void);
/* Has envd left `user`, or begun to? Any thread. */
bool groups_left_user(void);
/* Begin to move envd out of `user`, in a thread of its own. Once; then a no-op. */
void groups_leave_user(void);
/* Begin to move PID to `ptys`, in a thread of its own. */
void groups_move_to_ptys(pid_t pid);

/*
 * For another envd in this process (resume.h): what --group-fds would say, to free(). GRANTED, with
 * CTX, hears of each descriptor.
 */
char *groups_export(void (*granted)(void *ctx, int fd), void *ctx);
/* LEFT: what groups_left_user said there. Makes sure of it. */
void groups_resume(bool left);

/* What a figure of the whole sandbox is read from. Returns the text, to free(), or NULL. */
enum groups_figure { GROUPS_MEMORY, GROUPS_MEMORY_STAT, GROUPS_CPU, GROUPS_FIGURES };
char *groups_read(enum groups_figure figure);

/* How much the sandbox's files take, and may take. False: nobody told, or there is no limit. */
bool groups_disk(uint64_t *used_bytes, uint64_t *limit_bytes);

/*
 * Stop users' processes or let them go on: begins it and returns. ERR_UNSUPPORTED without a
 * freezer.
 */
int groups_freeze(bool on, struct err *err);
/* Freezing was asked for last. What is started now would wait for the thaw. */
bool groups_freeze_asked(void);
enum groups_state { GROUPS_RUNNING, GROUPS_FREEZING, GROUPS_FROZEN };
enum groups_state groups_frozen(void);

#endif
