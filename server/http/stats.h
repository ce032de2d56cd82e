/*
 * server/http/stats.h - request counters by server name, shared by the loops. Any thread.
 */
#ifndef SANDPIT_HTTP_STATS_H
#define SANDPIT_HTTP_STATS_H

#include <stdint.h>

struct stats;

/* The counters called NAME (borrowed for ever); made on first use. */
struct stats *stats_of(const char *name);
void stats_count(struct stats *stats, int status, int64_t duration_us);

#endif
