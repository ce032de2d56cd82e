/*
 * server/observe/observe.h - what sandboxes do and use: samples, log lines, events, webhooks.
 *
 * Lifecycle tells of each thing that happens (observe_event); threads of this folder sample control
 * groups, read what envd says, and deliver to webhooks. All of it is kept in the journal
 * (server/store/journal.h) and read from there by server/api. Nothing here holds up a sandbox: an
 * event is one small transaction, all else runs beside.
 */
#ifndef SANDPIT_OBSERVE_OBSERVE_H
#define SANDPIT_OBSERVE_OBSERVE_H

#include "server/base/buf.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/lifecycle/lifecycle.h"
#include "server/store/journal.h"

struct observe;

struct observe_config {
    const char *state_dir; /* where the journal is; borrowed for the call */
    struct engine *engine;
    const struct secret *master; /* webhooks' secrets are sealed with a key of it; for the call */
    int64_t sample_ms;           /* how often; 0: never */
    bool webhook_private;        /* webhooks may go to loopback and private addresses */
};

/* Open the journal. From now on observe_event works. Blocks. */
int observe_new(const struct observe_config *config, struct observe **out, struct err *err);
/* Begin to sample, read and deliver; LIFECYCLE has its sandboxes. Blocks. */
int observe_start(struct observe *observe, struct lifecycle *lifecycle, struct err *err);
/* End the threads: before the engine goes. What waits is written; deliveries stay. Blocks. */
void observe_stop(struct observe *observe);
/* After the last observe_event. */
void observe_free(struct observe *observe);

/* A lifecycle_event_fn; CTX is the struct observe. */
void observe_event(void *ctx, enum lifecycle_event event, const struct sandbox *sandbox,
                   enum sandbox_end why);

/*
 * Whether NAMESPACE_ may see what is kept of sandbox ID, running or ended: 0, or -1 with
 * ERR_NOT_FOUND. Worker.
 */
int observe_may_see(struct observe *observe, const char *namespace_, const char *id,
                    struct err *err);

/* --- samples: worker ------------------------------------------------------------------------- */

/* Of one sandbox, FROM to TO (Unix seconds, both included), oldest first; *OUT to free(). */
int observe_samples(struct observe *observe, const char *id, int64_t from_unix_s, int64_t to_unix_s,
                    struct journal_sample **out, size_t *count, struct err *err);
/* The newest of sandbox ID if it is NAMESPACE_'s and has one. Any thread, never blocks. */
bool observe_newest(struct observe *observe, const char *namespace_, const char *id,
                    struct journal_sample *out);

/* --- log lines: worker ----------------------------------------------------------------------- */

/* journal_logs_list, after all that has been said is in the journal. */
int observe_logs(struct observe *observe, const struct journal_log_query *query,
                 struct journal_line **out, size_t *count, struct err *err);

/* --- events and webhooks: worker ------------------------------------------------------------- */

/* "sandbox.lifecycle.created" … to its bit. -1: no such type. */
int observe_event_type(const char *name);
const char *observe_event_name(unsigned type);
#define OBSERVE_EVENTS_ALL ((1u << LIFECYCLE_EVENT_COUNT) - 1)

struct journal *observe_journal(struct observe *observe);
/* SECRET (LEN bytes) as the journal keeps it, to free(). */
char *observe_seal(struct observe *observe, const char *secret, size_t len);
/* URL may be a webhook's: http or https, a host, no user. ERR_INVALID. Pure but for settings. */
int observe_url_check(const struct observe *observe, const char *url, struct err *err);

/* --- namespaces: worker ---------------------------------------------------------------------- */

/* Minutes with something in them, and the one that runs, oldest first; *OUT to free(). */
int observe_team(struct observe *observe, const char *namespace_, int64_t from_unix_s,
                 int64_t to_unix_s, struct journal_team **out, size_t *count, struct err *err);

/* Lines for /metrics. Any thread. */
void observe_metrics(struct observe *observe, struct buf *out);

#endif
