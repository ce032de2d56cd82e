/*
 * server/api/ops.c - the operations listener: liveness, readiness, metrics (Prometheus text 0.0.4).
 */
#include <string.h>

#include "server/api/handlers.h"
#include "server/base/buf.h"
#include "server/base/version.h"

#define METRICS_MAX_BYTES (4 * 1024 * 1024)
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
    buf_add_str(out,
                "# HELP sandpit_sandbox_ends_total Sandboxes ended since this process started.\n"
                "# TYPE sandpit_sandbox_ends_total counter\n");
    for (int why = SANDBOX_END_NONE + 1; why < SANDBOX_END_COUNT; why++)
        buf_printf(out, "sandpit_sandbox_ends_total{reason=\"%s\"} %llu\n",
                   sandbox_end_name((enum sandbox_end)why), (unsigned long long)stats.ended[why]);
}

static void add_build(const struct api *api, struct buf *out)
{
    buf_printf(out,
               "# HELP sandpit_build_info What runs; always 1.\n"
               "# TYPE sandpit_build_info gauge\n"
               "sandpit_build_info{version=\"%s\",engine=\"%s\",envd_version=\"%s\"} 1\n",
               SANDPIT_VERSION, api->engine_name, api->envd_version);
}

int ops_metrics(struct request *req, struct err *err)
{
    struct api *api = request_api(req);
    _cleanup_buf_ struct buf out;

    buf_init(&out, METRICS_MAX_BYTES);
    if (api->lifecycle != NULL) { /* start-up is done */
        add_sandboxes(api, &out);
        lifecycle_metrics(api->lifecycle, &out);
    }
    add_build(api, &out);
    http_metrics(&out);
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
