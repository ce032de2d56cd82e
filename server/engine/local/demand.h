/*
 * server/engine/local/demand.h - how many spares are worth keeping.
 *
 * Pure: the caller brings the time. As many as the busiest second of the last minute took, within
 * bounds; none once nobody has created anything for long, because each holds memory and a slot.
 */
#ifndef SANDPIT_ENGINE_LOCAL_DEMAND_H
#define SANDPIT_ENGINE_LOCAL_DEMAND_H

#include <stdint.h>

#define DEMAND_SECONDS 60 /* what is remembered */

struct demand_limits {
    uint32_t min;    /* kept while in use */
    uint32_t max;    /* kept at most; below MIN it counts as MIN */
    uint32_t idle_s; /* without a create for this long: none; 0: never */
};

struct demand { /* zeroed at first, but for start */
    uint32_t counts[DEMAND_SECONDS];
    int64_t second;       /* that counts[second % DEMAND_SECONDS] belongs to */
    int64_t last_mono_ms; /* of the last create, or of the start */
};

/* Begin at NOW as if something had just been created. */
void demand_init(struct demand *demand, int64_t now_mono_ms);
/* A create has come. */
void demand_note(struct demand *demand, int64_t now_mono_ms);
/* How many spares there should be. */
uint32_t demand_target(struct demand *demand, const struct demand_limits *limits,
                       int64_t now_mono_ms);
/* When to ask for the target again though nothing is created; -1: it stays as it is. */
int64_t demand_next_mono_ms(struct demand *demand, const struct demand_limits *limits,
                            int64_t now_mono_ms);

#endif
