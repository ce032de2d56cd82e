/*
 * server/observe/ring.h - the newest samples of one sandbox.
 *
 * Pure; no lock of its own. Memory grows with what is in it, up to RING_MAX samples.
 */
#ifndef SANDPIT_OBSERVE_RING_H
#define SANDPIT_OBSERVE_RING_H

#include <stddef.h>
#include <stdint.h>

#define RING_MAX 720 /* an hour at 5 s; 40 bytes each */

struct ring_sample {
    uint32_t at_unix_s;                 /* good until 2106 */
    uint32_t cpu_centi;                 /* hundredths of a percent */
    uint64_t memory_used, memory_cache; /* bytes */
    uint64_t disk_used, disk_total;
};

struct ring {
    struct ring_sample *samples;
    uint32_t cap, first, count;
};

void ring_clear(struct ring *ring);
/* Add the newest; the oldest goes when RING_MAX are there. One of the same second is replaced. */
void ring_add(struct ring *ring, const struct ring_sample *sample);
/* The one at AT, 0 the oldest; AT is below count. Borrowed until the next ring_add. */
const struct ring_sample *ring_at(const struct ring *ring, uint32_t at);
/* Used CPU_US of CPU_COUNT cores within ELAPSED_US, in hundredths of a percent, at most 10000. */
uint32_t ring_cpu_centi(uint64_t cpu_us, uint64_t elapsed_us, uint32_t cpu_count);

#endif
