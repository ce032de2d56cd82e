#include "envd/timer.h"

#include "server/base/mem.h"

static void put(struct timer_heap *heap, size_t at, struct loop_timer *timer)
{
    heap->timers[at] = timer;
    timer->slot = at + 1;
}

static void sift_up(struct timer_heap *heap, size_t at)
{
    struct loop_timer *timer = heap->timers[at];

    while (at > 0) {
        size_t parent = (at - 1) / 2;

        if (heap->timers[parent]->due_mono_ms <= timer->due_mono_ms)
            break;
        put(heap, at, heap->timers[parent]);
        at = parent;
    }
    put(heap, at, timer);
}

static void sift_down(struct timer_heap *heap, size_t at)
{
    struct loop_timer *timer = heap->timers[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count &&
            heap->timers[child + 1]->due_mono_ms < heap->timers[child]->due_mono_ms)
            child++;
        if (heap->timers[child]->due_mono_ms >= timer->due_mono_ms)
            break;
        put(heap, at, heap->timers[child]);
        at = child;
    }
    put(heap, at, timer);
}

void timer_heap_clear(struct timer_heap *heap)
{
    free(heap->timers);
    heap->timers = NULL;
    heap->count = heap->cap = 0;
}

void timer_heap_add(struct timer_heap *heap, struct loop_timer *timer)
{
    if (heap->count == heap->cap) {
        heap->cap = heap->cap > 0 ? heap->cap * 2 : 64;
        heap->timers = mem_realloc_array(heap->timers, heap->cap, sizeof(struct loop_timer *));
    }
    heap->timers[heap->count] = timer;
    sift_up(heap, heap->count++);
}

void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer)
{
    size_t at = timer->slot - 1;
    struct loop_timer *last;

    if (timer->slot == 0)
        return;
    timer->slot = 0;
    last = heap->timers[--heap->count];
    if (last == timer)
        return;
    put(heap, at, last);
    sift_up(heap, at);
    sift_down(heap, last->slot - 1);
}

struct loop_timer *timer_heap_first(const struct timer_heap *heap)
{
    return heap->count > 0 ? heap->timers[0] : NULL;
}
