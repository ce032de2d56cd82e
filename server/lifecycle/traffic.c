/*
 * server/lifecycle/traffic.c - a paused sandbox that traffic wakes.
 */
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define TRAFFIC_WAIT_MS 60000 /* for a pause or another operation that runs */

/* For as long as it was created for, and no less than a moment that is worth it. */
static int64_t span_ms(struct lifecycle *lifecycle, const struct sandbox *sandbox)
{
    int64_t span = sandbox->timeout_s * 1000, max;
    struct quotas quotas;

    limits_of(lifecycle, sandbox->namespace_, sandbox->key_id, &quotas);
    max = limits_lifetime_ms(&quotas);
    if (span < TRAFFIC_LIFE_MIN_MS)
        span = TRAFFIC_LIFE_MIN_MS;
    return span < max ? span : max;
}

static int resume(struct lifecycle *lifecycle, const char *id, const struct sandbox *sandbox,
                  struct err *err)
{
    const struct lifecycle_wake how = {
        .timeout_ms = span_ms(lifecycle, sandbox), .must_be_paused = true, .traffic = true};
    struct lifecycle_woken woken = {0};

    if (lifecycle_wake(lifecycle, NULL, id, &how, &woken, err) < 0)
        return -1;
    sandbox_clear(&woken.sandbox);
    return 0;
}

static bool runs(struct lifecycle *lifecycle, const char *id)
{
    struct lifecycle_route route = {0};
    struct err ignored = {0};
    bool running = lifecycle_route(lifecycle, id, &route, &ignored) == 0 && route.running;

    secret_wipe(&route, sizeof(route));
    return running;
}

int lifecycle_traffic(struct lifecycle *lifecycle, const char *id, struct err *err)
{
    int64_t until = time_mono_ms() + TRAFFIC_WAIT_MS;

    for (;;) {
        _cleanup_sandbox_ struct sandbox sandbox = {0};

        if (registry_get(&lifecycle->registry, NULL, id, &sandbox, err) < 0)
            return -1;
        if (sandbox.state == SANDBOX_RUNNING)
            return 0; /* somebody else was faster */
        if (!sandbox.auto_resume || sandbox.paused_files)
            return sandbox_not_found(id, err);
        if (resume(lifecycle, id, &sandbox, err) == 0)
            return 0;
        if (err->code == ERR_CONFLICT && runs(lifecycle, id))
            return 0;
        if (err->code != ERR_BUSY || time_mono_ms() >= until)
            return -1;
    }
}
