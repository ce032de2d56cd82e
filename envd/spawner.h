/*
 * envd/spawner.h - a process beside envd that forks in its place.
 *
 * What is forked inherits its parent's control groups at once, where moving a process to others
 * makes it wait about 10 ms, on version 1 and version 2. So one process stays in the groups of
 * users' processes and forks there. It shares envd's memory and descriptors, so nothing is sent to
 * it but a pointer, and its children are envd's (CLONE_PARENT).
 *
 * A thread of envd has "vforked" it and sleeps while it lives. That gives it a thread's storage
 * (errno) of its own, and it keeps the memory killer off: the kernel spares a process in a vfork,
 * since with it would go all who share its memory, which is envd. Somebody inside may kill it (as
 * root): the thread wakes, answers what was asked, and makes another when it is needed.
 *
 * Loop thread. Source: clone(2), kernel/fork.c, mm/oom_kill.c (in_vfork).
 */
#ifndef ENVD_SPAWNER_H
#define ENVD_SPAWNER_H

#include <sys/types.h>

/*
 * As clone(fn, stack, CLONE_VM | CLONE_VFORK | SIGCHLD, arg), by the spawner where there are groups
 * (groups.h), else by the caller. Returns when the child has called exec or ended: its pid, or -1
 * with errno.
 */
pid_t spawner_clone(int (*fn)(void *arg), void *stack, void *arg);

/* envd ends: so does the spawner, and nobody waits in a vfork that a debugger could not stop. */
void spawner_end(void);

#endif
