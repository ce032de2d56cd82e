/*
 * envd/timer.h - a binary heap of timers, ordered by due time. Loop thread; used by loop.c only.
 */
#ifndef ENVD_TIMER_H
#define ENVD_TIMER_H

#include "envd/loop.h"

struct timer_heap {
    struct loop_timer **timers;
    size_t count;
    size_t cap;
};

void timer_heap_clear(struct timer_heap *heap);
void timer_heap_add(struct timer_heap *heap, struct loop_timer *timer);
/* A no-op when TIMER is not in it. */
void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer);
/* The earliest, or NULL. */
struct loop_timer *timer_heap_first(const struct timer_heap *heap);

#endif
