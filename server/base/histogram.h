/*
 * server/base/histogram.h - how long things take, counted in the buckets of Prometheus.
 *
 * Lock-free; any thread. Zeroed memory is an empty one. While others add, a reader may see one more
 * in a bucket than in the count, or the other way round.
 * Source: Prometheus text exposition format 0.0.4.
 */
#ifndef SANDPIT_BASE_HISTOGRAM_H
#define SANDPIT_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "server/base/buf.h"

#define HISTOGRAM_BOUNDS 14 /* 500 us to 10 s */

struct histogram {
    _Atomic uint64_t buckets[HISTOGRAM_BOUNDS + 1]; /* not cumulative; the last has the rest */
    _Atomic uint64_t sum_us;
};

void histogram_add(struct histogram *histogram, int64_t us);
/*
 * The lines of NAME (without HELP and TYPE), in seconds. LABELS is like `a="b"`, "" for none.
 */
void histogram_write(const struct histogram *histogram, const char *name, const char *labels,
                     struct buf *out);

#endif
