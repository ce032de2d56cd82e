/*
 * envd/clone.h - clone(2) as vfork, past the thread sanitizer.
 *
 * The sanitizer takes clone for a fork and notes that in memory, which here is the parent's: from
 * then on it would miss locks and end the process at the next thread. libc's other name for it
 * passes by.
 */
#ifndef ENVD_CLONE_H
#define ENVD_CLONE_H

#include <sched.h>

#ifdef __SANITIZE_THREAD__
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);
#define clone __clone
#endif

#endif
