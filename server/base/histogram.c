#include "server/base/histogram.h"

static const struct {
    int64_t us;
    const char *seconds;
} bounds[HISTOGRAM_BOUNDS] = {
    {500, "0.0005"},  {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},
    {25000, "0.025"}, {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},
    {1000000, "1"},   {2500000, "2.5"}, {5000000, "5"},   {10000000, "10"},
};

void histogram_add(struct histogram *histogram, int64_t us)
{
    size_t at = 0;

    if (us < 0)
        us = 0;
    while (at < HISTOGRAM_BOUNDS && us > bounds[at].us)
        at++;
    atomic_fetch_add_explicit(&histogram->buckets[at], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, (uint64_t)us, memory_order_relaxed);
}

void histogram_write(const struct histogram *histogram, const char *name, const char *labels,
                     struct buf *out)
{
    const char *comma = labels[0] != '\0' ? "," : "";
    const char *open = labels[0] != '\0' ? "{" : "", *shut = labels[0] != '\0' ? "}" : "";
    unsigned long long count = 0;

    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        count += atomic_load(&histogram->buckets[i]);
        buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, comma,
                   i < HISTOGRAM_BOUNDS ? bounds[i].seconds : "+Inf", count);
    }
    buf_printf(out, "%s_sum%s%s%s %.6f\n", name, open, labels, shut,
               (double)atomic_load(&histogram->sum_us) / 1e6);
    buf_printf(out, "%s_count%s%s%s %llu\n", name, open, labels, shut, count);
}
