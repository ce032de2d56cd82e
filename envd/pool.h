/*
 * envd/pool.h - threads for what blocks: file system calls, /files transfers.
 *
 * Threads start when work waits and there are fewer than the maximum, and end after a while without
 * work. pool_submit from the loop thread; `run` on a worker, then `done` on the loop.
 */
#ifndef ENVD_POOL_H
#define ENVD_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "envd/loop.h"
#include "server/base/err.h"

struct pool;

struct job { /* embed it; owned by the pool until `done` is called */
    struct loop_msg msg;
    struct pool *pool;
    struct job *next;
    bool again; /* it has run before */
    void (*run)(struct job *job);
    void (*done)(struct job *job);
};

struct pool *pool_new(struct loop *loop, const char *name, size_t threads_max, size_t queue_max);
/* While it is held no job begins that has not run before; those that wait do upon its release. */
void pool_hold(struct pool *pool);
void pool_release(struct pool *pool);
/* No job is running or has a `done` to come. Loop thread. */
bool pool_idle(struct pool *pool);
/* 0, or -1 with ERR_BUSY when QUEUE_MAX jobs wait. */
int pool_submit(struct pool *pool, struct job *job, void (*run)(struct job *job),
                void (*done)(struct job *job), struct err *err);
/*
 * The same whatever the queue holds; JOB->again is the caller's to say. False: there is no thread,
 * and none can be made now.
 */
bool pool_resubmit(struct pool *pool, struct job *job, void (*run)(struct job *job),
                   void (*done)(struct job *job));
/* How many jobs wait for a thread. Any thread. */
size_t pool_waiting(struct pool *pool);

#endif
