/*
 * server/http/stats.c - see stats.h and http_stats_get in http.h.
 */
#include "server/http/stats.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/http.h"

#define NAMES_MAX 8
#define CLASSES 6

struct stats {
    const char *name;
    atomic_uint_fast64_t requests;
    atomic_uint_fast64_t by_class[CLASSES];
    atomic_uint_fast64_t duration_us_sum;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the names; counters are atomic */
static struct stats all[NAMES_MAX];

struct stats *stats_of(const char *name)
{
    struct stats *found = NULL;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < NAMES_MAX && found == NULL; i++) {
        if (all[i].name == NULL)
            all[i].name = name;
        if (str_eq(all[i].name, name))
            found = &all[i];
    }
    pthread_mutex_unlock(&lock);
    if (found == NULL)
        abort(); /* more servers than NAMES_MAX: a bug of ours */
    return found;
}

static void add(atomic_uint_fast64_t *counter, uint64_t value)
{
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

void stats_count(struct stats *stats, int status, int64_t duration_us)
{
    int class = status / 100;

    add(&stats->requests, 1);
    if (class > 0 && class < CLASSES)
        add(&stats->by_class[class], 1);
    if (duration_us > 0)
        add(&stats->duration_us_sum, (uint64_t)duration_us);
}

void http_stats_get(const char *name, struct http_stats *out)
{
    struct stats *stats = stats_of(name);

    memset(out, 0, sizeof(*out));
    out->requests = atomic_load(&stats->requests);
    for (size_t i = 0; i < CLASSES; i++)
        out->by_class[i] = atomic_load(&stats->by_class[i]);
    out->duration_us_sum = atomic_load(&stats->duration_us_sum);
}
