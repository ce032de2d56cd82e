#include "server/observe/observe.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/lifecycle.h"
#include "server/observe/internal.h"

#define SEAL_INFO "sandpit webhook secrets"

int observe_new(const struct observe_config *config, struct observe **out, struct err *err)
{
    struct observe *observe = mem_zalloc(sizeof(*observe));
    pthread_condattr_t attr;

    pthread_mutex_init(&observe->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&observe->wake, &attr);
    pthread_condattr_destroy(&attr);
    tracks_init(observe);
    observe->engine = config->engine;
    observe->sample_ms = config->sample_ms;
    observe->webhook_private = config->webhook_private;
    hash_hkdf_sha256(config->master->bytes, config->master->len, SEAL_INFO, observe->seal_key);
    if (journal_open(config->state_dir, &observe->journal, err) < 0 ||
        logs_new(observe, &observe->logs, err) < 0 ||
        webhooks_new(observe, &observe->webhooks, err) < 0) {
        observe_free(observe);
        return -1;
    }
    *out = observe;
    return 0;
}

/* A sandbox that was there before this process. It may end at this very moment. */
static void take_over(struct observe *observe, const struct sandbox *sandbox)
{
    _cleanup_sandbox_ struct sandbox still = {0};
    struct err gone = {0};

    if (sandbox->state == SANDBOX_RUNNING)
        track_run(observe, sandbox, false);
    else
        track_pause(observe, sandbox);
    logs_open(observe->logs, sandbox->id);
    if (lifecycle_get(observe->lifecycle, NULL, sandbox->id, &still, &gone) == 0)
        return;
    track_end(observe, sandbox->id); /* and its event came before it was known here */
    logs_close(observe->logs, sandbox->id);
}

/* Those whose beginning was not told, as the server was killed in between. */
static void tell_beginning(struct observe *observe, const struct sandbox *sandbox)
{
    struct sandbox then = *sandbox; /* borrows the strings */
    char owner[NAMESPACE_SIZE];
    struct err unknown = {0};

    if (journal_owner(observe->journal, sandbox->id, owner, &unknown) == 0)
        return;
    then.started_unix_ms = then.created_unix_ms;
    observe_event(observe, LIFECYCLE_CREATED, &then, SANDBOX_END_NONE);
}

static bool has_id(const struct sandbox *list, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (str_eq(list[i].id, id))
            return true;
    }
    return false;
}

/* Those whose end was not told. What is left of them is their id and their owner. */
static int tell_ends(struct observe *observe, const struct sandbox *list, size_t count,
                     struct err *err)
{
    _cleanup_free_ char(*open)[SANDBOX_ID_SIZE] = NULL;
    size_t open_count = 0;

    if (journal_open_sandboxes(observe->journal, &open, &open_count, err) < 0)
        return -1;
    for (size_t i = 0; i < open_count; i++) {
        struct sandbox gone = {.created_unix_ms = time_unix_ms()};
        struct err unknown = {0};
        if (has_id(list, count, open[i]) ||
            journal_owner(observe->journal, open[i], gone.namespace_, &unknown) < 0)
            continue;
        memcpy(gone.id, open[i], sizeof(gone.id));
        gone.started_unix_ms = gone.created_unix_ms;
        observe_event(observe, LIFECYCLE_KILLED, &gone, SANDBOX_END_LOST);
    }
    return 0;
}

int observe_start(struct observe *observe, struct lifecycle *lifecycle, struct err *err)
{
    struct sandbox *list = NULL;
    size_t count = 0;
    int rc;

    observe->lifecycle = lifecycle;
    if (lifecycle_list(lifecycle, NULL, &list, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        tell_beginning(observe, &list[i]);
        take_over(observe, &list[i]);
    }
    rc = tell_ends(observe, list, count, err);
    sandbox_list_free(list, count);
    if (rc < 0 || logs_start(observe->logs, err) < 0 || sampler_start(observe, err) < 0)
        return -1;
    return webhooks_start(observe->webhooks, err);
}

void observe_stop(struct observe *observe)
{
    if (observe == NULL)
        return;
    webhooks_stop(observe->webhooks);
    sampler_stop(observe);
    logs_stop(observe->logs);
}

void observe_free(struct observe *observe)
{
    if (observe == NULL)
        return;
    webhooks_free(observe->webhooks);
    logs_free(observe->logs);
    tracks_clear(observe);
    journal_close(observe->journal);
    secret_wipe(observe->seal_key, sizeof(observe->seal_key));
    pthread_cond_destroy(&observe->wake);
    pthread_mutex_destroy(&observe->lock);
    free(observe);
}

/* --- what happens ---------------------------------------------------------------------------- */

static void keep_event(struct observe *observe, enum lifecycle_event event,
                       const struct sandbox *sandbox, enum sandbox_end why)
{
    struct journal_event row;
    struct err err = {0};
    size_t deliveries = 0;

    event_make(event, sandbox, why, time_unix_ms(), &row);
    if (journal_event_add(observe->journal, &row, &deliveries, &err) < 0) {
        log_err(LOG_ERROR, "an event was not kept", sandbox->id, &err);
        atomic_fetch_add(&observe->events_lost, 1);
    }
    atomic_fetch_add(&observe->events[event], 1);
    journal_event_clear(&row);
    if (deliveries > 0)
        webhooks_wake(observe->webhooks);
}

static void say(struct observe *observe, enum lifecycle_event event, const struct sandbox *sandbox,
                enum sandbox_end why)
{
    static const char *const words[LIFECYCLE_EVENT_COUNT] = {
        [LIFECYCLE_CREATED] = "Sandbox created",           [LIFECYCLE_PAUSED] = "Sandbox paused",
        [LIFECYCLE_RESUMED] = "Sandbox resumed",           [LIFECYCLE_UPDATED] = "Sandbox updated",
        [LIFECYCLE_CHECKPOINTED] = "Sandbox checkpointed", [LIFECYCLE_KILLED] = "Sandbox ended",
    };
    json_t *fields = json_object();
    char stamp[TIME_RFC3339_SIZE];

    json_put_str(fields, "event_type", observe_event_name(event));
    if (event == LIFECYCLE_KILLED) {
        json_put_str(fields, "reason", sandbox_end_name(why));
    } else if (event != LIFECYCLE_PAUSED) {
        time_rfc3339_ms(sandbox->end_unix_ms, stamp);
        json_put_str(fields, "end_at", stamp);
    }
    logs_say(observe->logs, sandbox->id, why == SANDBOX_END_LOST ? LOG_WARN : LOG_INFO, "sandbox",
             words[event], fields);
}

void observe_event(void *ctx, enum lifecycle_event event, const struct sandbox *sandbox,
                   enum sandbox_end why)
{
    struct observe *observe = ctx;

    keep_event(observe, event, sandbox, why);
    say(observe, event, sandbox, why);
    switch (event) {
    case LIFECYCLE_CREATED:
    case LIFECYCLE_RESUMED:
        track_run(observe, sandbox, true);
        logs_open(observe->logs, sandbox->id);
        break;
    case LIFECYCLE_PAUSED:
        track_pause(observe, sandbox);
        break;
    case LIFECYCLE_KILLED:
        track_end(observe, sandbox->id);
        logs_close(observe->logs, sandbox->id);
        break;
    default:
        break;
    }
}

/* --- for the API ----------------------------------------------------------------------------- */

int observe_may_see(struct observe *observe, const char *namespace_, const char *id,
                    struct err *err)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    char owner[NAMESPACE_SIZE] = "";
    struct err unknown = {0};

    if (lifecycle_get(observe->lifecycle, namespace_, id, &sandbox, err) == 0)
        return 0;
    if (journal_owner(observe->journal, id, owner, &unknown) < 0) {
        if (unknown.code != ERR_NOT_FOUND)
            *err = unknown;
        return -1;
    }
    if (!str_eq(owner, namespace_))
        return -1; /* lifecycle's words */
    *err = (struct err){0};
    return 0;
}

struct journal *observe_journal(struct observe *observe)
{
    return observe->journal;
}

char *observe_seal(struct observe *observe, const char *secret, size_t len)
{
    return seal_text(observe->seal_key, secret, len);
}

/* --- for Prometheus -------------------------------------------------------------------------- */

static void counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
    buf_printf(out, "# HELP sandpit_%s %s\n# TYPE sandpit_%s counter\nsandpit_%s %llu\n", name,
               help, name, name, (unsigned long long)value);
}

static void gauge(struct buf *out, const char *name, const char *help, double value)
{
    buf_printf(out, "# HELP sandpit_%s %s\n# TYPE sandpit_%s gauge\nsandpit_%s %.15g\n", name, help,
               name, name, value);
}

static void add_events(struct observe *observe, struct buf *out)
{
    buf_add_str(out, "# HELP sandpit_events_total What happened to sandboxes.\n"
                     "# TYPE sandpit_events_total counter\n");
    for (unsigned i = 0; i < LIFECYCLE_EVENT_COUNT; i++)
        buf_printf(out, "sandpit_events_total{type=\"%s\"} %llu\n",
                   observe_event_name(i) + strlen("sandbox.lifecycle."),
                   (unsigned long long)atomic_load(&observe->events[i]));
    counter(out, "events_lost_total", "Events that could not be kept.",
            atomic_load(&observe->events_lost));
}

void observe_metrics(struct observe *observe, struct buf *out)
{
    struct err ignored = {0};
    size_t waiting = 0;

    add_events(observe, out);
    buf_printf(out,
               "# HELP sandpit_webhook_deliveries_total Attempts to deliver an event.\n"
               "# TYPE sandpit_webhook_deliveries_total counter\n"
               "sandpit_webhook_deliveries_total{result=\"ok\"} %llu\n"
               "sandpit_webhook_deliveries_total{result=\"failed\"} %llu\n",
               (unsigned long long)atomic_load(&observe->delivered),
               (unsigned long long)atomic_load(&observe->failed));
    counter(out, "webhook_given_up_total", "Events not delivered after all attempts.",
            atomic_load(&observe->given_up));
    if (journal_delivery_count(observe->journal, &waiting, &ignored) == 0)
        gauge(out, "webhook_deliveries_waiting", "Deliveries that wait.", (double)waiting);
    counter(out, "sandbox_log_lines_total", "Log lines of sandboxes.",
            atomic_load(&observe->lines));
    counter(out, "sandbox_log_lines_lost_total", "Log lines of sandboxes that were not kept.",
            atomic_load(&observe->lines_lost));
    counter(out, "samples_total", "Samples taken of sandboxes.", atomic_load(&observe->samples));
    gauge(out, "sample_round_seconds", "What the newest round of samples took.",
          (double)atomic_load(&observe->sample_us) / 1e6);
    gauge(out, "journal_bytes", "Size of journal.db.", (double)journal_size(observe->journal));
}
