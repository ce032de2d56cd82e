/*
 * server/lifecycle/deadline.h - a heap of deadlines; the earliest is found at once.
 *
 * Not thread-safe: the registry's lock guards it. Deadlines are embedded in their owners.
 */
#ifndef SANDPIT_LIFECYCLE_DEADLINE_H
#define SANDPIT_LIFECYCLE_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

struct deadline {
    int64_t when_mono_ms;
    size_t index; /* place in the heap and 1; 0: not armed */
};

struct deadline_heap {
    struct deadline **slots;
    size_t count;
    size_t cap;
};

void deadline_heap_clear(struct deadline_heap *heap);
/* Arm or re-arm. */
void deadline_set(struct deadline_heap *heap, struct deadline *deadline, int64_t when_mono_ms);
/* Not armed afterwards; may be called at any time. */
void deadline_cancel(struct deadline_heap *heap, struct deadline *deadline);
/* The earliest, still armed; NULL when none is. */
struct deadline *deadline_first(const struct deadline_heap *heap);

#endif
