/*
 * server/api/ops.c - the operations listener: liveness, readiness, metrics (Prometheus text 0.0.4).
 */
#include <string.h>

#include "server/api/handlers.h"
#include "server/base/buf.h"

#define METRICS_MAX_BYTES (256 * 1024)
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

int ops_live(struct request *req, struct err *err)
{
    (void)err;
    reply_bytes(request_reply(req), 200, "text/plain", "ok\n", 3);
    return 0;
}

int ops_ready(struct request *req, struct err *err)
{
    return probe_store(req, "ready\n", NULL, err);
}

static void add_sandboxes(struct api *api, struct buf *out)
{
    struct lifecycle_stats stats;

    lifecycle_stats_get(api->lifecycle, &stats);
    buf_printf(out,
               "# HELP sandpit_sandboxes Sandboxes that exist now.\n"
               "# TYPE sandpit_sandboxes gauge\n"
               "sandpit_sandboxes{state=\"running\"} %zu\n"
               "sandpit_sandboxes{state=\"paused\"} %zu\n",
               stats.running, stats.paused);
    buf_printf(out,
               "# HELP sandpit_sandbox_creates_total Creates since this process started.\n"
               "# TYPE sandpit_sandbox_creates_total counter\n"
               "sandpit_sandbox_creates_total{result=\"ok\"} %llu\n"
               "sandpit_sandbox_creates_total{result=\"failed\"} %llu\n",
               (unsigned long long)stats.created, (unsigned long long)stats.create_failed);
    buf_printf(out,
               "# HELP sandpit_sandbox_ends_total Sandboxes ended since this process started.\n"
               "# TYPE sandpit_sandbox_ends_total counter\n"
               "sandpit_sandbox_ends_total{reason=\"killed\"} %llu\n"
               "sandpit_sandbox_ends_total{reason=\"timeout\"} %llu\n",
               (unsigned long long)stats.killed, (unsigned long long)stats.timed_out);
}

static const char *const listeners[] = {"api", "ops"};

static void add_requests(struct buf *out)
{
    struct http_stats stats;

    buf_add_str(out, "# HELP sandpit_http_requests_total Answers by listener and class.\n"
                     "# TYPE sandpit_http_requests_total counter\n");
    for (size_t i = 0; i < sizeof(listeners) / sizeof(listeners[0]); i++) {
        http_stats_get(listeners[i], &stats);
        for (int class = 1; class < 6; class ++)
            buf_printf(out, "sandpit_http_requests_total{listener=\"%s\",class=\"%dxx\"} %llu\n",
                       listeners[i], class, (unsigned long long)stats.by_class[class]);
    }
    buf_add_str(out, "# HELP sandpit_http_request_seconds Time from head to answer.\n"
                     "# TYPE sandpit_http_request_seconds summary\n");
    for (size_t i = 0; i < sizeof(listeners) / sizeof(listeners[0]); i++) {
        http_stats_get(listeners[i], &stats);
        buf_printf(out, "sandpit_http_request_seconds_sum{listener=\"%s\"} %.6f\n", listeners[i],
                   (double)stats.duration_us_sum / 1e6);
        buf_printf(out, "sandpit_http_request_seconds_count{listener=\"%s\"} %llu\n", listeners[i],
                   (unsigned long long)stats.requests);
    }
}

int ops_metrics(struct request *req, struct err *err)
{
    struct api *api = request_api(req);
    _cleanup_buf_ struct buf out;

    buf_init(&out, METRICS_MAX_BYTES);
    if (api->lifecycle != NULL) /* start-up is done */
        add_sandboxes(api, &out);
    add_requests(&out);
    if (api->observe != NULL)
        observe_metrics(api->observe, &out);
    buf_printf(&out,
               "# HELP sandpit_work_waiting Calls that wait for a worker.\n"
               "# TYPE sandpit_work_waiting gauge\n"
               "sandpit_work_waiting %zu\n",
               work_pool_waiting(request_workers(req)));
    if (api->extra_metrics != NULL)
        api->extra_metrics(&out);
    if (out.overflow)
        return err_set(err, ERR_INTERNAL, "metrics are too long");
    reply_bytes(request_reply(req), 200, METRICS_TYPE, buf_str(&out), out.len);
    return 0;
}
