/*
 * server/loop/loop_private.h - what loop.c and timer.c share. Not for other folders.
 */
#ifndef SANDPIT_LOOP_LOOP_PRIVATE_H
#define SANDPIT_LOOP_LOOP_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/loop/loop.h"

#define H2O_USE_LIBUV 0
#include <h2o.h>

/* A binary heap by deadline; slots[0] is unused, so that index 0 can mean "not armed". */
struct timer_heap {
    struct timer **slots;
    uint32_t count;
    uint32_t cap;
};

struct loop {
    h2o_evloop_t *evloop;
    h2o_socket_t *wake; /* an eventfd: readable when `head` was filled by another thread */
    int wake_fd;        /* owned by `wake` */
    struct timer_heap timers;
    pthread_mutex_t lock; /* guards the fields below */
    struct loop_msg *head;
    struct loop_msg **tail;
    bool stopping;
};

/* Milliseconds until the first timer is due, at most INT32_MAX. */
int32_t timer_heap_wait_ms(const struct timer_heap *heap, int64_t now_ms);
/* Fire what is due at NOW_MS. A timer that re-arms itself fires in a later round. */
void timer_heap_run(struct timer_heap *heap, int64_t now_ms);

#endif
