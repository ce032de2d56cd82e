#include <string.h>
#include <time.h>
#include <unistd.h>

#include "envd/auth.h"
#include "envd/exchange.h"
#include "envd/groups.h"
#include "envd/hosts.h"
#include "envd/init_work.h"
#include "envd/route.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/base/version.h"

#define CLOCK_BEHIND_MS 50  /* the clock is set when it is later than this … */
#define CLOCK_AHEAD_MS 5000 /* … or this much early */

/* envd-api section 7.1. */
int handle_health(struct exchange *ex, struct err *err)
{
    (void)err;
    http_set_header(ex, "Cache-Control", "no-store");
    http_reply_empty(ex, 204);
    return 0;
}

int handle_envs(struct exchange *ex, struct err *err)
{
    (void)err;
    http_set_header(ex, "Cache-Control", "no-store");
    http_reply_json(ex, 200, json_deep_copy(http_settings(ex)->envs));
    return 0;
}

static int text(struct exchange *ex, int status, const char *message)
{
    http_reply(ex, status, "text/plain; charset=utf-8", message, strlen(message));
    return 0;
}

/* Who may change the settings; NULL when allowed, else the words of the 401. */
static const char *init_refusal(const struct exchange *ex, const json_t *json)
{
    const struct settings *settings = http_settings(ex);
    const char *token = json_string_value(json_object_get(json, "accessToken"));

    if (settings->has_jwt_key && !settings->insecure && !http_jwt_valid(ex))
        return "access token validation failed";
    if (settings->access_token == NULL || auth_token_equal(settings, token))
        return NULL;
    return token != NULL ? "access token validation failed" : "access token reset not authorized";
}

/* A machine of our own that slept has a late clock. Elsewhere the clock is not ours to set. */
static void set_clock(const json_t *json)
{
    const char *stamp = json_string_value(json_object_get(json, "timestamp"));
    struct timespec now;
    int64_t ms, late_ms;

    if (getpid() != 1 || stamp == NULL || time_parse_rfc3339(stamp, strlen(stamp), &ms, NULL) < 0)
        return;
    late_ms = ms - time_unix_ms();
    if (late_ms <= CLOCK_BEHIND_MS && late_ms >= -CLOCK_AHEAD_MS)
        return;
    now.tv_sec = ms / 1000;
    now.tv_nsec = ms % 1000 * 1000000;
    (void)clock_settime(CLOCK_REALTIME, &now); /* needs a privilege that sandboxes seldom have */
}

struct hosts_job {
    struct job job;
    char ip[64];
};

static void hosts_run(struct job *job)
{
    struct hosts_job *hosts = container_of(job, struct hosts_job, job);
    struct err err = {0};

    if (hosts_set_events("/etc/hosts", hosts->ip, &err) < 0)
        log_err(LOG_WARN, "name of the event service", NULL, &err);
}

static void hosts_done(struct job *job)
{
    free(container_of(job, struct hosts_job, job));
}

/* Nobody waits for it; the variable in the environment is there at once. */
static void name_events(struct exchange *ex, const json_t *json)
{
    const char *ip = json_string_value(json_object_get(json, "hyperloopIP"));
    struct hosts_job *hosts;
    struct err err = {0};

    if (ip == NULL || ip[0] == '\0')
        return;
    hosts = mem_zalloc(sizeof(*hosts));
    str_copy(hosts->ip, sizeof(hosts->ip), ip, strlen(ip));
    if (pool_submit(ex->server->disk, &hosts->job, hosts_run, hosts_done, &err) == 0)
        return;
    log_err(LOG_WARN, "name of the event service", NULL, &err);
    free(hosts);
}

/* envd-api section 7.3. */
int handle_init(struct exchange *ex, struct err *err)
{
    _cleanup_init_work_ struct init_work *work = NULL;
    _cleanup_json_ json_t *json = NULL;
    const char *refusal, *body;
    bool stale = false;
    size_t len;

    http_set_header(ex, "X-Envd-Version", ENVD_VERSION);
    http_set_header(ex, "Cache-Control", "no-store");
    body = http_body(ex, &len);
    json = len > 0 ? json_parse_object(body, len, err) : json_object();
    if (json == NULL)
        return -1;
    refusal = init_refusal(ex, json);
    if (refusal != NULL)
        return text(ex, 401, refusal);
    if (groups_freeze_asked() && groups_freeze(false, err) < 0)
        return -1;
    if (init_work_new(json, &work, err) < 0 || config_apply(json, false, &stale, err) < 0)
        return -1;
    set_clock(json);
    name_events(ex, json);
    if (work != NULL && !stale)
        return init_work_start(steal_ptr(&work), ex, err);
    http_reply_empty(ex, 204);
    return 0;
}
