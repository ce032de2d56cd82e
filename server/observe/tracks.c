/* Which sandboxes and namespaces there are, as lifecycle told. */
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/observe/internal.h"

void tracks_init(struct observe *observe)
{
    map_init(&observe->tracks);
    map_init(&observe->ended);
    map_init(&observe->teams);
    observe->ended_tail = &observe->ended_first;
}

static void track_free(struct track *track)
{
    ring_clear(&track->ring);
    free(track->engine_data);
    free(track);
}

static void clear_map(struct map *map, void (*free_fn)(void *value))
{
    void *value;

    for (size_t at = 0; map_next(map, &at, &value);)
        free_fn(value);
    map_clear(map);
}

static void free_track(void *value)
{
    track_free(value);
}

void tracks_clear(struct observe *observe)
{
    clear_map(&observe->tracks, free_track);
    clear_map(&observe->ended, free_track);
    clear_map(&observe->teams, free);
}

/* Under the lock, as all that is static below. */
static void unref(struct track *track)
{
    if (--track->refs == 0)
        track_free(track);
}

static struct team *team_of(struct observe *observe, const char *namespace_)
{
    struct team *team = map_get(&observe->teams, namespace_);

    if (team != NULL)
        return team;
    team = mem_zalloc(sizeof(*team));
    str_copy(team->namespace_, sizeof(team->namespace_), namespace_, strlen(namespace_));
    map_put(&observe->teams, team->namespace_, team);
    return team;
}

static void set_running(struct observe *observe, struct track *track, bool running)
{
    struct team *team = team_of(observe, track->namespace_);

    if (track->running == running)
        return;
    track->running = running;
    team->running += running ? 1u : -1u;
    if (team->running > team->most)
        team->most = team->running;
}

static struct track *add(struct observe *observe, const struct sandbox *sandbox)
{
    struct track *track = mem_zalloc(sizeof(*track));

    memcpy(track->id, sandbox->id, sizeof(track->id));
    memcpy(track->namespace_, sandbox->namespace_, sizeof(track->namespace_));
    track->refs = 1;
    map_put(&observe->tracks, track->id, track);
    return track;
}

static void describe(struct track *track, const struct sandbox *sandbox)
{
    free(track->engine_data);
    track->engine_data = mem_strdup(sandbox->engine_data);
    track->cpu_count = sandbox->cpu_count;
    track->memory_mb = sandbox->memory_mb;
    track->disk_mb = sandbox->disk_mb;
    track->measured = false; /* time passed in which nothing was measured */
}

void track_run(struct observe *observe, const struct sandbox *sandbox, bool started)
{
    struct track *track;
    bool is_new;

    pthread_mutex_lock(&observe->lock);
    track = map_get(&observe->tracks, sandbox->id);
    is_new = track == NULL;
    if (is_new)
        track = add(observe, sandbox);
    describe(track, sandbox);
    if (is_new && started) { /* its CPU time counts from here */
        track->measured = true;
        track->cpu_mono_us = track->stored_mono_us = time_mono_us();
    }
    set_running(observe, track, true);
    if (started)
        team_of(observe, track->namespace_)->started++;
    pthread_mutex_unlock(&observe->lock);
}

void track_pause(struct observe *observe, const struct sandbox *sandbox)
{
    struct track *track;

    pthread_mutex_lock(&observe->lock);
    track = map_get(&observe->tracks, sandbox->id);
    if (track == NULL)
        track = add(observe, sandbox);
    set_running(observe, track, false);
    pthread_mutex_unlock(&observe->lock);
}

/* Keep its samples for a while; the oldest of the ended goes. */
static void keep_ended(struct observe *observe, struct track *track)
{
    track->ended = true;
    map_put(&observe->ended, track->id, track);
    *observe->ended_tail = track;
    observe->ended_tail = &track->next_ended;
    if (++observe->ended_count <= ENDED_MAX)
        return;
    track = observe->ended_first;
    observe->ended_first = track->next_ended;
    observe->ended_count--;
    map_remove(&observe->ended, track->id);
    unref(track);
}

void track_end(struct observe *observe, const char *id)
{
    struct track *track;

    pthread_mutex_lock(&observe->lock);
    track = map_remove(&observe->tracks, id);
    if (track != NULL) {
        set_running(observe, track, false);
        keep_ended(observe, track);
    }
    pthread_mutex_unlock(&observe->lock);
}

struct tracked *tracks_running(struct observe *observe, size_t *count)
{
    struct tracked *list;
    void *value;

    *count = 0;
    pthread_mutex_lock(&observe->lock);
    list = mem_calloc(observe->tracks.count + 1, sizeof(*list));
    for (size_t at = 0; map_next(&observe->tracks, &at, &value);) {
        struct track *track = value;
        if (!track->running)
            continue;
        track->refs++;
        list[*count].track = track;
        list[(*count)++].engine_data = mem_strdup(track->engine_data);
    }
    pthread_mutex_unlock(&observe->lock);
    return list;
}

void tracked_free(struct observe *observe, struct tracked *list, size_t count)
{
    pthread_mutex_lock(&observe->lock);
    for (size_t i = 0; i < count; i++)
        unref(list[i].track);
    pthread_mutex_unlock(&observe->lock);
    for (size_t i = 0; i < count; i++)
        free(list[i].engine_data);
    free(list);
}

struct track *track_find(struct observe *observe, const char *id)
{
    struct track *track = map_get(&observe->tracks, id);

    return track != NULL ? track : map_get(&observe->ended, id);
}

/* --- namespaces ------------------------------------------------------------------------------ */

static void take_minute(struct team *team, int64_t at_unix_s, struct journal_team *out)
{
    memcpy(out->namespace_, team->namespace_, sizeof(out->namespace_));
    out->at_unix_s = at_unix_s;
    out->concurrent = team->most;
    out->started = team->started;
    team->was_written = team->most > 0 || team->started > 0;
    team->most = team->running;
    team->started = 0;
}

/* Minutes with nothing in them are left out, but for the first of a row: it ends the line. */
void teams_write(struct observe *observe, int64_t at_unix_s)
{
    _cleanup_free_ struct journal_team *rows = NULL;
    struct err err = {0};
    size_t count = 0;
    void *value;

    pthread_mutex_lock(&observe->lock);
    rows = mem_calloc(observe->teams.count + 1, sizeof(*rows));
    for (size_t at = 0; map_next(&observe->teams, &at, &value);) {
        struct team *team = value;
        if (team->most > 0 || team->started > 0 || team->was_written)
            take_minute(team, at_unix_s, &rows[count++]);
    }
    pthread_mutex_unlock(&observe->lock);
    if (count > 0 && journal_team_add(observe->journal, rows, count, &err) < 0)
        log_err(LOG_WARN, "figures of namespaces were not kept", NULL, &err);
}

/* The minute that runs now. */
static bool running_minute(struct observe *observe, const char *namespace_,
                           struct journal_team *out)
{
    struct team *team;

    pthread_mutex_lock(&observe->lock);
    team = map_get(&observe->teams, namespace_);
    if (team != NULL) {
        memcpy(out->namespace_, team->namespace_, sizeof(out->namespace_));
        out->at_unix_s = time_unix_ms() / 1000 / TEAM_STEP_S * TEAM_STEP_S;
        out->concurrent = team->most;
        out->started = team->started;
    }
    pthread_mutex_unlock(&observe->lock);
    return team != NULL;
}

int observe_team(struct observe *observe, const char *namespace_, int64_t from_unix_s,
                 int64_t to_unix_s, struct journal_team **out, size_t *count, struct err *err)
{
    struct journal_team now = {.at_unix_s = 0};
    bool has_now = running_minute(observe, namespace_, &now);
    struct journal_team *rows = NULL;
    size_t used = 0;

    if (journal_team_list(observe->journal, namespace_, from_unix_s, to_unix_s, &rows, &used, err) <
        0)
        return -1;
    if (has_now && now.at_unix_s >= from_unix_s && now.at_unix_s <= to_unix_s) {
        rows = mem_realloc_array(rows, used + 1, sizeof(*rows));
        if (used > 0 && rows[used - 1].at_unix_s == now.at_unix_s) { /* a restart in this minute */
            rows[used - 1].started += now.started;
            if (now.concurrent > rows[used - 1].concurrent)
                rows[used - 1].concurrent = now.concurrent;
        } else {
            rows[used++] = now;
        }
    }
    *out = rows;
    *count = used;
    return 0;
}
