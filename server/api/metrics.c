/*
 * server/api/metrics.c - what sandboxes and namespaces use: SandboxMetric, TeamMetric.
 *
 * Source: platform-api.md sections 4, 5 and 9.
 */
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/view.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/team.h"
#include "server/observe/observe.h"

#define IDS_MAX 100
#define UNIX_S_MAX 253402300799 /* the end of year 9999 */
#define TEAM_DAYS_S (7 * 24 * 3600)
#define TEAM_STEP_S 60
#define TEAM_POINTS_MAX 1440 /* more are put together */

static void put_time(json_t *json, int64_t unix_s)
{
    char stamp[TIME_RFC3339_SIZE];

    time_rfc3339_ms(unix_s * 1000, stamp);
    json_put_str(json, "timestamp", stamp);
    json_put_i64(json, "timestampUnix", unix_s);
}

static json_t *wire_sample(const struct journal_sample *sample)
{
    json_t *json = json_object();

    put_time(json, sample->at_unix_s);
    json_put_i64(json, "cpuCount", sample->cpu_count);
    json_put(json, "cpuUsedPct", json_real((double)sample->cpu_centi / 100));
    json_put_i64(json, "memUsed", (int64_t)sample->memory_used);
    json_put_i64(json, "memTotal", (int64_t)sample->memory_total);
    json_put_i64(json, "memCache", (int64_t)sample->memory_cache);
    json_put_i64(json, "diskUsed", (int64_t)sample->disk_used);
    json_put_i64(json, "diskTotal", (int64_t)sample->disk_total);
    return json;
}

static int parse_range(struct request *req, struct view *view, struct err *err)
{
    if (view_number(req, "start", 0, UNIX_S_MAX, &view->from, err) < 0 ||
        view_number(req, "end", 0, UNIX_S_MAX, &view->to, err) < 0)
        return -1;
    if (view->from > view->to)
        return err_set(err, ERR_INVALID, "Invalid time range for metrics");
    return 0;
}

static json_t *make_samples(struct view *view, struct err *err)
{
    struct observe *observe = view->api->observe;
    _cleanup_free_ struct journal_sample *samples = NULL;
    json_t *list;
    size_t count = 0;

    if (observe_may_see(observe, view->who.namespace_, view->id, err) < 0 ||
        observe_samples(observe, view->id, view->from, view->to, &samples, &count, err) < 0)
        return NULL;
    list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, wire_sample(&samples[i]));
    return list;
}

int sandbox_metrics(struct request *req, struct err *err)
{
    _cleanup_view_ struct view *view = view_new(req, err);

    if (view == NULL)
        return -1;
    view->to = UNIX_S_MAX;
    if (parse_range(req, view, err) < 0)
        return -1;
    return view_submit(req, &view, make_samples, err);
}

/* One id of a comma-joined list: its newest sample goes to MAP. */
static int add_newest(struct request *req, const char *text, size_t len, json_t *map,
                      struct err *err)
{
    struct journal_sample sample;
    char id[SANDBOX_ID_SIZE];

    if (sandbox_id_parse(text, len, id, err) < 0)
        return -1;
    if (observe_newest(request_api(req)->observe, request_identity(req)->namespace_, id, &sample))
        json_put(map, id, wire_sample(&sample));
    return 0;
}

int sandboxes_metrics(struct request *req, struct err *err)
{
    const char *ids = request_query(req, "sandbox_ids");
    _cleanup_json_ json_t *answer = json_object();
    json_t *map = json_object();
    size_t count = 1;

    json_put(answer, "sandboxes", map);
    if (ids == NULL || ids[0] == '\0') {
        err_set(err, ERR_INVALID, "parameter 'sandbox_ids' is required");
        return error_schema(err);
    }
    for (const char *p = ids; (p = strchr(p, ',')) != NULL; p++)
        count++;
    if (count > IDS_MAX)
        return err_set(err, ERR_INVALID, "Too many sandboxes requested, maximum is %d", IDS_MAX);
    for (const char *p = ids;; p++) {
        size_t len = strcspn(p, ",");
        if (add_newest(req, p, len, map, err) < 0)
            return -1;
        p += len;
        if (*p == '\0')
            break;
    }
    reply_json(request_reply(req), 200, steal_ptr(&answer));
    return 0;
}

/* --- namespaces ------------------------------------------------------------------------------ */

/* The team of the path must be the caller's. */
static int check_team(struct request *req, struct err *err)
{
    char own[UUID_SIZE];

    team_id(request_identity(req)->namespace_, own);
    if (!str_eq(request_param(req, "teamID"), own))
        return err_set(err, ERR_FORBIDDEN, "You are not allowed to access this team");
    return 0;
}

static int parse_team(struct request *req, struct view *view, struct err *err)
{
    if (check_team(req, err) < 0)
        return -1;
    view->to = time_unix_ms() / 1000;
    view->from = view->to - TEAM_DAYS_S;
    return parse_range(req, view, err);
}

/* Minutes of one step become one: the most at once, all starts. Returns how many are left. */
static size_t put_together(struct journal_team *rows, size_t count, int64_t step_s)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t at = rows[i].at_unix_s / step_s * step_s;
        if (used > 0 && rows[used - 1].at_unix_s == at) {
            rows[used - 1].started += rows[i].started;
            if (rows[i].concurrent > rows[used - 1].concurrent)
                rows[used - 1].concurrent = rows[i].concurrent;
        } else {
            rows[used] = rows[i];
            rows[used++].at_unix_s = at;
        }
    }
    return used;
}

static json_t *make_team(struct view *view, struct err *err)
{
    int64_t span = view->to - view->from;
    int64_t step = (span / TEAM_POINTS_MAX + TEAM_STEP_S) / TEAM_STEP_S * TEAM_STEP_S;
    _cleanup_free_ struct journal_team *rows = NULL;
    json_t *list;
    size_t count;

    if (observe_team(view->api->observe, view->who.namespace_, view->from, view->to, &rows, &count,
                     err) < 0)
        return NULL;
    count = put_together(rows, count, step);
    list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *json = json_object();
        put_time(json, rows[i].at_unix_s);
        json_put_i64(json, "concurrentSandboxes", rows[i].concurrent);
        json_put(json, "sandboxStartRate", json_real((double)rows[i].started / (double)step));
        json_array_append_new(list, json);
    }
    return list;
}

int team_metrics(struct request *req, struct err *err)
{
    _cleanup_view_ struct view *view = view_new(req, err);

    if (parse_team(req, view, err) < 0)
        return -1;
    return view_submit(req, &view, make_team, err);
}

static json_t *make_team_max(struct view *view, struct err *err)
{
    _cleanup_free_ struct journal_team *rows = NULL;
    int64_t at = view->to;
    double most = 0;
    json_t *json;
    size_t count;

    if (observe_team(view->api->observe, view->who.namespace_, view->from, view->to, &rows, &count,
                     err) < 0)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        double value = view->forward ? rows[i].concurrent : (double)rows[i].started / TEAM_STEP_S;
        if (value <= most)
            continue;
        most = value;
        at = rows[i].at_unix_s;
    }
    json = json_object();
    put_time(json, at);
    json_put(json, "value", json_real(most));
    return json;
}

int team_metrics_max(struct request *req, struct err *err)
{
    _cleanup_view_ struct view *view = view_new(req, err);
    const char *metric = request_query(req, "metric");

    if (parse_team(req, view, err) < 0)
        return -1;
    view->forward = str_eq(metric, "concurrent_sandboxes"); /* else: starts */
    if (!view->forward && !str_eq(metric, "sandbox_start_rate")) {
        err_set(err, ERR_INVALID,
                "parameter 'metric' must be concurrent_sandboxes or sandbox_start_rate");
        return error_schema(err);
    }
    return view_submit(req, &view, make_team_max, err);
}
