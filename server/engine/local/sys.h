/*
 * server/engine/local/sys.h - system calls that the C library wraps badly or not at all.
 *
 * Launcher and its children only: single-threaded processes.
 */
#ifndef SANDPIT_ENGINE_LOCAL_SYS_H
#define SANDPIT_ENGINE_LOCAL_SYS_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"

/*
 * clone3 with FLAGS (CLONE_NEW…), as fork otherwise: SIGCHLD, a copy of everything. CGROUP is the
 * folder of a version 2 group to start in, or -1. *PIDFD, unless PIDFD is NULL, is a descriptor of
 * the child in the parent. Returns 0 in the child, its pid in the parent, or -1 with errno.
 */
pid_t sys_clone(uint64_t flags, int cgroup, int *pidfd);
/* waitpid over EINTR. Returns PID, or -1 with errno. */
pid_t sys_wait(pid_t pid, int *status);
/* Run ARGV (a path first; NULL-terminated), output thrown away. Its exit status, or -1. */
int sys_run(const char *const *argv);
/* Returns the descriptor or -1 with errno. */
int sys_pidfd_open(pid_t pid);
int sys_pidfd_kill(int pidfd, int sig);
/* The process has ended. WAIT_MS 0 asks, -1 waits for it. */
int sys_pidfd_ended(int pidfd, int wait_ms);
/* Field 22 of /proc/PID/stat: start time in ticks since boot. -1 with ERR_NOT_FOUND if none. */
int sys_start_ticks(pid_t pid, uint64_t *out, struct err *err);
/* Start time in TEXT, the content of a stat file. Returns 0 or -1. */
int sys_parse_start_ticks(const char *text, uint64_t *out);
/* /proc/sys/kernel/random/boot_id without its newline. */
#define BOOT_ID_SIZE 37
int sys_boot_id(char out[BOOT_ID_SIZE], struct err *err);

#endif
