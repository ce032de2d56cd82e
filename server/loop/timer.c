/*
 * server/loop/timer.c - a binary heap of one-shot timers per loop; see loop.h.
 */
#include <stdlib.h>

#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/loop/loop.h"
#include "server/loop/loop_private.h"

#define HEAP_FIRST_CAP 64

static void place(struct timer_heap *heap, uint32_t index, struct timer *timer)
{
    heap->slots[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct timer_heap *heap, uint32_t index)
{
    struct timer *timer = heap->slots[index];

    while (index > 1 && heap->slots[index / 2]->deadline_mono_ms > timer->deadline_mono_ms) {
        place(heap, index, heap->slots[index / 2]);
        index /= 2;
    }
    place(heap, index, timer);
}

static void sift_down(struct timer_heap *heap, uint32_t index)
{
    struct timer *timer = heap->slots[index];

    for (;;) {
        uint32_t child = index * 2;

        if (child > heap->count)
            break;
        if (child < heap->count &&
            heap->slots[child + 1]->deadline_mono_ms < heap->slots[child]->deadline_mono_ms)
            child++;
        if (heap->slots[child]->deadline_mono_ms >= timer->deadline_mono_ms)
            break;
        place(heap, index, heap->slots[child]);
        index = child;
    }
    place(heap, index, timer);
}

static void heap_add(struct timer_heap *heap, struct timer *timer)
{
    if (heap->count + 1 >= heap->cap) {
        heap->cap = heap->cap == 0 ? HEAP_FIRST_CAP : heap->cap * 2;
        heap->slots = mem_realloc_array(heap->slots, heap->cap, sizeof(*heap->slots));
    }
    heap->slots[++heap->count] = timer;
    sift_up(heap, heap->count);
}

static void heap_remove(struct timer_heap *heap, struct timer *timer)
{
    uint32_t index = timer->heap_index;
    struct timer *last = heap->slots[heap->count--];

    timer->heap_index = 0;
    if (last == timer)
        return;
    heap->slots[index] = last;
    last->heap_index = index;
    sift_up(heap, index);
    sift_down(heap, last->heap_index);
}

void timer_arm(struct loop *loop, struct timer *timer, int64_t after_ms,
               void (*fire)(struct timer *timer))
{
    int64_t now_ms = loop_now_ms(loop);

    timer_cancel(timer);
    if (after_ms < 0)
        after_ms = 0;
    timer->loop = loop;
    timer->fire = fire;
    timer->deadline_mono_ms = after_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + after_ms;
    heap_add(&loop->timers, timer);
}

void timer_cancel(struct timer *timer)
{
    if (timer->heap_index != 0)
        heap_remove(&timer->loop->timers, timer);
}

int32_t timer_heap_wait_ms(const struct timer_heap *heap, int64_t now_ms)
{
    int64_t left_ms;

    if (heap->count == 0)
        return INT32_MAX;
    left_ms = heap->slots[1]->deadline_mono_ms - now_ms;
    if (left_ms <= 0)
        return 0;
    return left_ms > INT32_MAX ? INT32_MAX : (int32_t)left_ms;
}

void timer_heap_run(struct timer_heap *heap, int64_t now_ms)
{
    /* At most as many as there are now: a timer re-armed with 0 must not keep us here. */
    for (uint32_t left = heap->count; left > 0 && heap->count > 0; left--) {
        struct timer *timer = heap->slots[1];

        if (timer->deadline_mono_ms > now_ms)
            return;
        heap_remove(heap, timer);
        timer->fire(timer); /* may free TIMER */
    }
}
