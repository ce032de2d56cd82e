/*
 * server/observe/samples.c - the thread that samples, and what it leaves.
 *
 * Every sample_ms each running sandbox gets a sample into its ring (memory); once a minute one goes
 * to the journal, with the CPU use of that whole minute. So the newest hour is fine, a day is
 * coarse, and a restart of the server loses at most a minute.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/observe/internal.h"

#define STORE_MS 60000
#define ELAPSED_MIN_US 500000
#define MIB ((uint64_t)1 << 20)

static uint64_t disk_total(const struct track *track, const struct ring_sample *sample)
{
    return sample->disk_total > 0 ? sample->disk_total : track->disk_mb * MIB;
}

static void export(const struct track *track, const struct ring_sample *sample,
                   struct journal_sample *out)
{
    *out = (struct journal_sample){
        .at_unix_s = sample->at_unix_s,
        .cpu_count = track->cpu_count,
        .cpu_centi = sample->cpu_centi,
        .memory_used = sample->memory_used,
        .memory_total = track->memory_mb * MIB,
        .memory_cache = sample->memory_cache,
        .disk_used = sample->disk_used,
        .disk_total = disk_total(track, sample),
    };
    memcpy(out->sandbox_id, track->id, sizeof(out->sandbox_id));
}

/* Under the lock. The first look at one that ran before only tells where CPU time began. */
static void note(struct track *track, const struct engine_sample *found, int64_t now_mono_us)
{
    struct ring_sample sample = {
        .at_unix_s = (uint32_t)(time_unix_ms() / 1000),
        .memory_used = found->memory_bytes - found->cache_bytes,
        .memory_cache = found->cache_bytes,
        .disk_used = found->disk_used_bytes,
        .disk_total = found->disk_total_bytes,
    };
    int64_t elapsed_us = now_mono_us - track->cpu_mono_us;

    if (!track->measured || found->cpu_us < track->cpu_us) {
        track->stored_cpu_us = found->cpu_us;
        track->stored_mono_us = now_mono_us;
    } else if (elapsed_us < ELAPSED_MIN_US) {
        return; /* too young for a share of time to mean much */
    } else {
        sample.cpu_centi =
            ring_cpu_centi(found->cpu_us - track->cpu_us, (uint64_t)elapsed_us, track->cpu_count);
        ring_add(&track->ring, &sample);
    }
    track->measured = true;
    track->cpu_us = found->cpu_us;
    track->cpu_mono_us = now_mono_us;
}

/* Under the lock: the newest, with the CPU use since the one before it in the journal. */
static bool take_stored(struct track *track, struct journal_sample *out)
{
    if (track->ring.count == 0 || !track->measured || track->cpu_mono_us <= track->stored_mono_us)
        return false;
    export(track, ring_at(&track->ring, track->ring.count - 1), out);
    out->cpu_centi =
        ring_cpu_centi(track->cpu_us - track->stored_cpu_us,
                       (uint64_t)(track->cpu_mono_us - track->stored_mono_us), track->cpu_count);
    track->stored_cpu_us = track->cpu_us;
    track->stored_mono_us = track->cpu_mono_us;
    return true;
}

static void store(struct observe *observe, struct tracked *tracks, size_t count)
{
    _cleanup_free_ struct journal_sample *rows = mem_calloc(count + 1, sizeof(*rows));
    struct err err = {0};
    size_t used = 0;

    pthread_mutex_lock(&observe->lock);
    for (size_t i = 0; i < count; i++) {
        if (take_stored(tracks[i].track, &rows[used]))
            used++;
    }
    pthread_mutex_unlock(&observe->lock);
    if (used > 0 && journal_samples_add(observe->journal, rows, used, &err) < 0)
        log_err(LOG_WARN, "samples were not kept", NULL, &err);
}

/* One look at all of them. WARNED: say only once that it cannot be done. */
static void measure(struct observe *observe, struct tracked *tracks, size_t count, bool *warned)
{
    _cleanup_free_ struct engine_sample *found = mem_calloc(count + 1, sizeof(*found));
    int64_t begun = time_mono_us(), now;
    struct err err = {0};

    for (size_t i = 0; i < count; i++) {
        found[i].id = tracks[i].track->id;
        found[i].engine_data = tracks[i].engine_data;
    }
    if (observe->engine->ops->sample(observe->engine, found, count, &err) < 0) {
        if (!*warned)
            log_err(LOG_WARN, "sandboxes cannot be measured", NULL, &err);
        *warned = true;
        return;
    }
    now = time_mono_us();
    pthread_mutex_lock(&observe->lock);
    for (size_t i = 0; i < count; i++) {
        if (found[i].ok && tracks[i].track->running)
            note(tracks[i].track, &found[i], now);
    }
    pthread_mutex_unlock(&observe->lock);
    atomic_fetch_add(&observe->samples, count);
    atomic_store(&observe->sample_us, time_mono_us() - begun);
}

static void round_of(struct observe *observe, bool to_store, bool *warned)
{
    size_t count;
    struct tracked *tracks = tracks_running(observe, &count);

    if (count > 0)
        measure(observe, tracks, count, warned);
    if (to_store && count > 0)
        store(observe, tracks, count);
    tracked_free(observe, tracks, count);
}

/* Until WHEN_MONO_MS. False: stop. */
static bool sleep_until(struct observe *observe, int64_t when_mono_ms)
{
    struct timespec until = {.tv_sec = when_mono_ms / 1000,
                             .tv_nsec = (long)(when_mono_ms % 1000) * 1000000};
    bool stop;

    pthread_mutex_lock(&observe->lock);
    while (!observe->stop &&
           pthread_cond_timedwait(&observe->wake, &observe->lock, &until) != ETIMEDOUT)
        continue;
    stop = observe->stop;
    pthread_mutex_unlock(&observe->lock);
    return !stop;
}

static void prune(struct observe *observe)
{
    struct err err = {0};

    if (journal_prune(observe->journal, time_unix_ms(), &err) < 0)
        log_err(LOG_WARN, "the journal was not pruned", NULL, &err);
}

static void *sampler_main(void *ctx)
{
    struct observe *observe = ctx;
    bool can = observe->sample_ms > 0 && observe->engine->ops->sample != NULL, warned = false;
    int64_t step = can ? observe->sample_ms : STORE_MS, due = time_mono_ms();
    int64_t store_due = due + STORE_MS, minute = time_unix_ms() / 1000 / TEAM_STEP_S;

    while (sleep_until(observe, due)) {
        int64_t now = time_mono_ms(), this_minute = time_unix_ms() / 1000 / TEAM_STEP_S;
        if (can)
            round_of(observe, now >= store_due, &warned);
        if (this_minute != minute)
            teams_write(observe, minute * TEAM_STEP_S);
        minute = this_minute;
        if (now >= store_due) {
            prune(observe);
            store_due = now + STORE_MS;
        }
        due += step;
        if (due < now) /* the machine slept, or a round took long */
            due = now + step;
    }
    if (can)
        round_of(observe, true, &warned);
    teams_write(observe, minute * TEAM_STEP_S);
    return NULL;
}

int sampler_start(struct observe *observe, struct err *err)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&observe->sampler, NULL, sampler_main, observe);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_sys(err, rc, "cannot start the sampling thread");
    pthread_setname_np(observe->sampler, "samples");
    observe->sampler_started = true;
    return 0;
}

void sampler_stop(struct observe *observe)
{
    pthread_mutex_lock(&observe->lock);
    observe->stop = true;
    pthread_cond_broadcast(&observe->wake);
    pthread_mutex_unlock(&observe->lock);
    if (observe->sampler_started)
        pthread_join(observe->sampler, NULL);
    observe->sampler_started = false;
}

/* --- reading --------------------------------------------------------------------------------- */

bool observe_newest(struct observe *observe, const char *namespace_, const char *id,
                    struct journal_sample *out)
{
    struct track *track;
    bool found;

    pthread_mutex_lock(&observe->lock);
    track = track_find(observe, id);
    found = track != NULL && strcmp(track->namespace_, namespace_) == 0 && track->ring.count > 0;
    if (found)
        export(track, ring_at(&track->ring, track->ring.count - 1), out);
    pthread_mutex_unlock(&observe->lock);
    return found;
}

/* What the ring of ID has between FROM and TO. */
static struct journal_sample *from_ring(struct observe *observe, const char *id, int64_t from,
                                        int64_t to, size_t *count)
{
    struct journal_sample *rows = NULL;
    const struct track *track;

    *count = 0;
    pthread_mutex_lock(&observe->lock);
    track = track_find(observe, id);
    if (track != NULL && track->ring.count > 0)
        rows = mem_calloc(track->ring.count, sizeof(*rows));
    for (uint32_t i = 0; rows != NULL && i < track->ring.count; i++) {
        const struct ring_sample *sample = ring_at(&track->ring, i);
        if (sample->at_unix_s >= from && sample->at_unix_s <= to)
            export(track, sample, &rows[(*count)++]);
    }
    pthread_mutex_unlock(&observe->lock);
    return rows;
}

int observe_samples(struct observe *observe, const char *id, int64_t from_unix_s, int64_t to_unix_s,
                    struct journal_sample **out, size_t *count, struct err *err)
{
    _cleanup_free_ struct journal_sample *fine = NULL;
    struct journal_sample *rows = NULL;
    size_t fine_count, used = 0;
    int64_t coarse_to = to_unix_s;

    fine = from_ring(observe, id, from_unix_s, to_unix_s, &fine_count);
    if (fine_count > 0)
        coarse_to = fine[0].at_unix_s - 1;
    if (journal_samples_list(observe->journal, id, from_unix_s, coarse_to, &rows, &used, err) < 0)
        return -1;
    if (fine_count > 0) {
        rows = mem_realloc_array(rows, used + fine_count, sizeof(*rows));
        memcpy(rows + used, fine, fine_count * sizeof(*rows));
    }
    *out = rows;
    *count = used + fine_count;
    return 0;
}
