/*
 * server/http/stats.c - see stats.h and http_stats_get in http.h.
 */
#include "server/http/stats.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/histogram.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/http.h"

#define NAMES_MAX 8
#define CLASSES 6
#define ROUTES_MAX 512 /* a power of two, more than any table has rows */

/* Statuses that are counted on their own; the rest together. */
static const int codes[] = {200, 201, 202, 204, 206, 400, 401, 403, 404, 405, 408, 409, 410,
                            413, 417, 421, 422, 429, 431, 500, 501, 502, 503, 504, 507};
#define CODES (array_size(codes))

/* One row of a route table. */
struct series {
    const struct route *route; /* NULL: requests that no row fits */
    struct histogram seconds;
    atomic_uint_fast64_t by_code[CODES + 1];
};

struct stats {
    const char *name;
    atomic_uint_fast64_t requests;
    atomic_uint_fast64_t by_class[CLASSES];
    atomic_uint_fast64_t duration_us_sum;
    struct series *_Atomic series[ROUTES_MAX]; /* open addressing by the route's address */
    struct series unmatched;
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

/* A new one at *SLOT, or the one that another loop has put there meanwhile. */
static struct series *series_new(struct series *_Atomic *slot, const struct route *route)
{
    struct series *made = mem_zalloc(sizeof(*made)), *found = NULL;

    made->route = route;
    if (atomic_compare_exchange_strong(slot, &found, made))
        return made;
    free(made);
    return found;
}

static struct series *series_of(struct stats *stats, const struct route *route)
{
    size_t at = ((uintptr_t)route / sizeof(*route)) % ROUTES_MAX;

    for (size_t tries = 0; route != NULL && tries < ROUTES_MAX; tries++) {
        struct series *_Atomic *slot = &stats->series[(at + tries) % ROUTES_MAX];
        struct series *series = atomic_load(slot);
        if (series == NULL)
            series = series_new(slot, route);
        if (series->route == route)
            return series;
    }
    return &stats->unmatched;
}

void stats_count(struct stats *stats, const struct route *route, int status, int64_t duration_us)
{
    struct series *series = series_of(stats, route);
    int class = status / 100;
    size_t code = 0;

    add(&stats->requests, 1);
    if (class > 0 && class < CLASSES)
        add(&stats->by_class[class], 1);
    if (duration_us > 0)
        add(&stats->duration_us_sum, (uint64_t)duration_us);
    while (code < CODES && codes[code] != status)
        code++;
    add(&series->by_code[code], 1);
    histogram_add(&series->seconds, duration_us);
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

/* --- for Prometheus -------------------------------------------------------------------------- */

static void label(const struct stats *stats, const struct series *series, struct buf *out)
{
    const struct route *route = series->route;

    buf_printf(out, "listener=\"%s\",method=\"%s\",route=\"%s\"", stats->name,
               route != NULL ? route->method : "other", route != NULL ? route->path : "other");
}

static void write_codes(const struct stats *stats, const struct series *series, struct buf *out)
{
    for (size_t i = 0; i <= CODES; i++) {
        uint64_t count = atomic_load(&series->by_code[i]);
        if (count == 0)
            continue;
        buf_add_str(out, "sandpit_http_requests_total{");
        label(stats, series, out);
        if (i < CODES)
            buf_printf(out, ",code=\"%d\"} %llu\n", codes[i], (unsigned long long)count);
        else
            buf_printf(out, ",code=\"other\"} %llu\n", (unsigned long long)count);
    }
}

static void write_seconds(const struct stats *stats, const struct series *series, struct buf *out)
{
    _cleanup_buf_ struct buf labels;

    buf_init(&labels, 512);
    label(stats, series, &labels);
    histogram_write(&series->seconds, "sandpit_http_request_duration_seconds", buf_str(&labels),
                    out);
}

/* FN for every series of every server that has counted something. */
static void each(void (*fn)(const struct stats *stats, const struct series *series,
                            struct buf *out),
                 struct buf *out)
{
    for (size_t i = 0; i < NAMES_MAX && all[i].name != NULL; i++) {
        for (size_t k = 0; k < ROUTES_MAX; k++) {
            const struct series *series = atomic_load(&all[i].series[k]);
            if (series != NULL)
                fn(&all[i], series, out);
        }
        fn(&all[i], &all[i].unmatched, out);
    }
}

void http_metrics(struct buf *out)
{
    pthread_mutex_lock(&lock); /* for the names */
    buf_add_str(out, "# HELP sandpit_http_requests_total Answers by listener, route and status.\n"
                     "# TYPE sandpit_http_requests_total counter\n");
    each(write_codes, out);
    buf_add_str(out, "# HELP sandpit_http_request_duration_seconds Time from head to answer.\n"
                     "# TYPE sandpit_http_request_duration_seconds histogram\n");
    each(write_seconds, out);
    pthread_mutex_unlock(&lock);
}
