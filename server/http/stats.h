/*
 * server/http/stats.h - request counters by server name, shared by the loops. Any thread.
 */
#ifndef SANDPIT_HTTP_STATS_H
#define SANDPIT_HTTP_STATS_H

#include <stdint.h>

struct route;
struct stats;

/* The counters called NAME (borrowed for ever); made on first use. */
struct stats *stats_of(const char *name);
/* ROUTE NULL: the request fits none. */
void stats_count(struct stats *stats, const struct route *route, int status, int64_t duration_us);

#endif
