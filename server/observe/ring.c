#include "server/observe/ring.h"

#include <stdlib.h>

#include "server/base/mem.h"

#define FIRST_CAP 12
#define CENTI_MAX 10000

void ring_clear(struct ring *ring)
{
    free(ring->samples);
    *ring = (struct ring){.samples = NULL};
}

const struct ring_sample *ring_at(const struct ring *ring, uint32_t at)
{
    return &ring->samples[(ring->first + at) % ring->cap];
}

/* Twice as large, in order from the beginning. */
static void grow(struct ring *ring)
{
    uint32_t cap = ring->cap == 0 ? FIRST_CAP : ring->cap * 2;
    struct ring_sample *samples;

    if (cap > RING_MAX)
        cap = RING_MAX;
    samples = mem_calloc(cap, sizeof(*samples));
    for (uint32_t i = 0; i < ring->count; i++)
        samples[i] = *ring_at(ring, i);
    free(ring->samples);
    ring->samples = samples;
    ring->cap = cap;
    ring->first = 0;
}

void ring_add(struct ring *ring, const struct ring_sample *sample)
{
    uint32_t at;

    if (ring->count > 0 && ring_at(ring, ring->count - 1)->at_unix_s == sample->at_unix_s) {
        at = ring->count - 1;
    } else {
        if (ring->count == ring->cap && ring->cap < RING_MAX)
            grow(ring);
        if (ring->count == ring->cap) {
            ring->first = (ring->first + 1) % ring->cap;
            ring->count--;
        }
        at = ring->count++;
    }
    ring->samples[(ring->first + at) % ring->cap] = *sample;
}

uint32_t ring_cpu_centi(uint64_t cpu_us, uint64_t elapsed_us, uint32_t cpu_count)
{
    double centi;

    if (elapsed_us == 0 || cpu_count == 0)
        return 0;
    centi = (double)cpu_us * CENTI_MAX / ((double)elapsed_us * cpu_count) + 0.5;
    return centi >= CENTI_MAX ? CENTI_MAX : (uint32_t)centi;
}
