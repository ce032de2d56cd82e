/*
 * server/loop/work.h - bounded pools of threads for calls that block.
 *
 * work_submit from any thread. `run` is called on a worker, then `done` on the loop that submitted
 * (on the worker itself when the submitter had no loop).
 */
#ifndef SANDPIT_LOOP_WORK_H
#define SANDPIT_LOOP_WORK_H

#include <stddef.h>

#include "server/base/err.h"
#include "server/base/log.h"
#include "server/loop/loop.h"

struct work_pool;

struct work { /* embed it; owned by the pool from submit until `done` is called */
    struct loop_msg msg;
    struct loop *loop;
    struct work *next;
    void (*run)(struct work *work);
    void (*done)(struct work *work); /* may be NULL */
    struct log_context context;      /* of who submitted it: `run` and `done` log as that */
};

/* THREADS threads and a queue of at most QUEUE_MAX waiting entries. NAME shows in `ps -T`. */
struct work_pool *work_pool_new(const char *name, unsigned threads, size_t queue_max);
/* Stop taking work, finish what is queued, join. */
void work_pool_free(struct work_pool *pool);
/* 0, or -1 with ERR_BUSY when the queue is full or the pool is stopping. */
int work_submit(struct work_pool *pool, struct work *work, void (*run)(struct work *work),
                void (*done)(struct work *work), struct err *err);
/* Entries waiting now, for metrics. */
size_t work_pool_waiting(struct work_pool *pool);

#endif
