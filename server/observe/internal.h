/*
 * server/observe/internal.h - what the files of this folder share.
 *
 *   observe.c  start, end, what happens       samples.c  the sampler, and what it keeps
 *   tracks.c   which sandboxes there are      logs.c     the reader of log pipes, lines to keep
 *   events.c   an event's JSON                webhooks.c delivery
 */
#ifndef SANDPIT_OBSERVE_INTERNAL_H
#define SANDPIT_OBSERVE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/base/map.h"
#include "server/base/seal.h"
#include "server/observe/observe.h"
#include "server/observe/ring.h"

#define ENDED_MAX 1000   /* ended sandboxes whose newest samples stay in memory */
#define TEAM_STEP_S 60   /* one row of figures of a namespace */
#define LOG_FLUSH_MS 200 /* the longest a line waits to be written */
#define WEBHOOK_THREADS 4
#define WEBHOOK_RETRIES 3
#define WEBHOOK_RETRY_MS 10000
#define WEBHOOK_TIMEOUT_MS 10000
#define WEBHOOK_LEASE_MS 30000 /* after a crash in the middle of one it is tried again */

/* A sandbox, known from its first event until some time after its end. */
struct track {
    char id[SANDBOX_ID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char *engine_data;
    uint32_t cpu_count, memory_mb, disk_mb;
    bool running;
    bool ended;
    unsigned refs;
    struct ring ring;
    bool measured; /* the two that follow are of this run of the server */
    uint64_t cpu_us;
    int64_t cpu_mono_us;
    uint64_t stored_cpu_us; /* the same, when a sample was last written to the journal */
    int64_t stored_mono_us;
    struct track *next_ended;
};

/* What a namespace does. */
struct team {
    char namespace_[NAMESPACE_SIZE];
    uint32_t running;
    uint32_t most;    /* at once, in this minute */
    uint32_t started; /* in this minute */
    bool was_written; /* its last minute had something */
};

struct logs;
struct webhooks;

struct observe {
    struct journal *journal;
    struct engine *engine;
    struct lifecycle *lifecycle;
    int64_t sample_ms;
    bool webhook_private;
    uint8_t seal_key[SEAL_KEY_BYTES];
    struct logs *logs;
    struct webhooks *webhooks;

    pthread_mutex_t lock; /* guards what follows */
    struct map tracks;    /* id → struct track; without the ended */
    struct map ended;     /* the same of the ended */
    struct track *ended_first, **ended_tail;
    size_t ended_count;
    struct map teams; /* namespace → struct team */

    pthread_t sampler;
    bool sampler_started;
    pthread_cond_t wake; /* stop has changed */
    bool stop;

    _Atomic uint64_t events[LIFECYCLE_EVENT_COUNT], events_lost;
    _Atomic uint64_t delivered, failed, given_up;
    _Atomic uint64_t lines, lines_lost;
    _Atomic uint64_t samples;
    _Atomic int64_t sample_us; /* what the last round took */
};

/* tracks.c; each takes the lock. */
void tracks_init(struct observe *observe);
void tracks_clear(struct observe *observe);
/* SANDBOX has begun, goes on, stands still. STARTED: it counts as a start. */
void track_run(struct observe *observe, const struct sandbox *sandbox, bool started);
void track_pause(struct observe *observe, const struct sandbox *sandbox);
void track_end(struct observe *observe, const char *id);
/* One that runs: a reference, and a copy of what a resume may change meanwhile. */
struct tracked {
    struct track *track;
    char *engine_data;
};
/* All that run. */
struct tracked *tracks_running(struct observe *observe, size_t *count);
void tracked_free(struct observe *observe, struct tracked *list, size_t count);
/* Under the lock: of ID, ended or not, or NULL. */
struct track *track_find(struct observe *observe, const char *id);
/* Write the minute's figures of all namespaces that begins at AT_UNIX_S. */
void teams_write(struct observe *observe, int64_t at_unix_s);

/* samples.c: the thread. */
int sampler_start(struct observe *observe, struct err *err);
void sampler_stop(struct observe *observe);

/* logs.c */
int logs_new(struct observe *observe, struct logs **out, struct err *err);
int logs_start(struct logs *logs, struct err *err);
void logs_stop(struct logs *logs);
void logs_free(struct logs *logs);
/* Read from sandbox ID from now on; no more (its last words are still read). Any thread. */
void logs_open(struct logs *logs, const char *id);
void logs_close(struct logs *logs, const char *id);
/* A line of the server's own about ID. FIELDS (taken) may be NULL. Any thread. */
void logs_say(struct logs *logs, const char *id, enum log_level level, const char *logger,
              const char *message, json_t *fields);
/* All that was said until now is in the journal after it. */
void logs_flush(struct logs *logs);

/* events.c: the event of SANDBOX, as clients get it. *OUT to journal_event_clear. */
void event_make(enum lifecycle_event event, const struct sandbox *sandbox, enum sandbox_end why,
                int64_t now_unix_ms, struct journal_event *out);

/* webhooks.c */
int webhooks_new(struct observe *observe, struct webhooks **out, struct err *err);
int webhooks_start(struct webhooks *webhooks, struct err *err);
void webhooks_stop(struct webhooks *webhooks);
void webhooks_free(struct webhooks *webhooks);
void webhooks_wake(struct webhooks *webhooks);

#endif
