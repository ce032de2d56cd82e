#include "server/lifecycle/deadline.h"

#include <stdlib.h>

#include "server/base/mem.h"

#define HEAP_FIRST_SLOTS 64

void deadline_heap_clear(struct deadline_heap *heap)
{
    free(heap->slots);
    *heap = (struct deadline_heap){0};
}

static void put(struct deadline_heap *heap, size_t at, struct deadline *deadline)
{
    heap->slots[at] = deadline;
    deadline->index = at + 1;
}

static void sift_up(struct deadline_heap *heap, size_t at)
{
    struct deadline *moving = heap->slots[at];

    while (at > 0 && heap->slots[(at - 1) / 2]->when_mono_ms > moving->when_mono_ms) {
        put(heap, at, heap->slots[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(heap, at, moving);
}

static void sift_down(struct deadline_heap *heap, size_t at)
{
    struct deadline *moving = heap->slots[at];

    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < heap->count &&
            heap->slots[child + 1]->when_mono_ms < heap->slots[child]->when_mono_ms)
            child++;
        if (child >= heap->count || heap->slots[child]->when_mono_ms >= moving->when_mono_ms)
            break;
        put(heap, at, heap->slots[child]);
        at = child;
    }
    put(heap, at, moving);
}

void deadline_set(struct deadline_heap *heap, struct deadline *deadline, int64_t when_mono_ms)
{
    deadline_cancel(heap, deadline);
    if (heap->count == heap->cap) {
        heap->cap = heap->cap > 0 ? heap->cap * 2 : HEAP_FIRST_SLOTS;
        heap->slots = mem_realloc_array(heap->slots, heap->cap, sizeof(struct deadline *));
    }
    deadline->when_mono_ms = when_mono_ms;
    put(heap, heap->count++, deadline);
    sift_up(heap, heap->count - 1);
}

void deadline_cancel(struct deadline_heap *heap, struct deadline *deadline)
{
    struct deadline *last;
    size_t at = deadline->index;

    if (at-- == 0)
        return;
    deadline->index = 0;
    last = heap->slots[--heap->count];
    if (last == deadline)
        return;
    put(heap, at, last);
    sift_up(heap, at);
    sift_down(heap, last->index - 1);
}

struct deadline *deadline_first(const struct deadline_heap *heap)
{
    return heap->count > 0 ? heap->slots[0] : NULL;
}
