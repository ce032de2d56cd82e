#include "server/engine/local/demand.h"

#include <stdbool.h>
#include <string.h>

#define MS_PER_S 1000

/* Forget the seconds that have passed out of the window. */
static void advance(struct demand *demand, int64_t now_mono_ms)
{
    int64_t second = now_mono_ms / MS_PER_S;

    if (second - demand->second >= DEMAND_SECONDS) {
        memset(demand->counts, 0, sizeof(demand->counts));
        demand->second = second;
    }
    while (demand->second < second)
        demand->counts[++demand->second % DEMAND_SECONDS] = 0;
}

static uint32_t busiest(const struct demand *demand)
{
    uint32_t most = 0;

    for (int i = 0; i < DEMAND_SECONDS; i++)
        if (demand->counts[i] > most)
            most = demand->counts[i];
    return most;
}

static bool idle(const struct demand *demand, const struct demand_limits *limits,
                 int64_t now_mono_ms)
{
    return limits->idle_s != 0 &&
           now_mono_ms - demand->last_mono_ms >= (int64_t)limits->idle_s * MS_PER_S;
}

void demand_init(struct demand *demand, int64_t now_mono_ms)
{
    *demand = (struct demand){.second = now_mono_ms / MS_PER_S, .last_mono_ms = now_mono_ms};
}

void demand_note(struct demand *demand, int64_t now_mono_ms)
{
    advance(demand, now_mono_ms);
    demand->counts[demand->second % DEMAND_SECONDS]++;
    demand->last_mono_ms = now_mono_ms;
}

uint32_t demand_target(struct demand *demand, const struct demand_limits *limits,
                       int64_t now_mono_ms)
{
    uint32_t wanted;

    if (idle(demand, limits, now_mono_ms))
        return 0;
    advance(demand, now_mono_ms);
    wanted = busiest(demand);
    if (wanted > limits->max)
        wanted = limits->max;
    return wanted > limits->min ? wanted : limits->min;
}

int64_t demand_next_mono_ms(struct demand *demand, const struct demand_limits *limits,
                            int64_t now_mono_ms)
{
    if (idle(demand, limits, now_mono_ms))
        return -1;
    advance(demand, now_mono_ms);
    if (busiest(demand) > limits->min) /* goes down second by second */
        return now_mono_ms + MS_PER_S;
    return limits->idle_s != 0 ? demand->last_mono_ms + (int64_t)limits->idle_s * MS_PER_S : -1;
}
