/*
 * envd/thread.h - threads beside the loop: detached, without signals, with a stack of a given size.
 */
#ifndef ENVD_THREAD_H
#define ENVD_THREAD_H

#include <stddef.h>

/* Run RUN(ARG) on a new thread. 0, or an errno value. Loop thread, which takes all signals. */
int thread_start(size_t stack_bytes, void *(*run)(void *arg), void *arg);

#endif
