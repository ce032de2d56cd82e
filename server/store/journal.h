/*
 * server/store/journal.h - what happened: events and their delivery, log lines, samples.
 *
 * STATE_DIR/journal.db, SQLite (WAL), apart from sandpit.db: what is written here all the time is
 * never in the way of a create's row, and losing this file loses no sandbox. Blocking: workers and
 * threads of server/observe. One connection behind one mutex; any thread. Each call is one
 * transaction. Rows go by age and number (journal_prune).
 */
#ifndef SANDPIT_STORE_JOURNAL_H
#define SANDPIT_STORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/model/sandbox.h"

#define JOURNAL_KEEP_MS ((int64_t)7 * 24 * 3600 * 1000) /* events, log lines, team figures */
#define JOURNAL_SAMPLES_KEEP_MS ((int64_t)24 * 3600 * 1000)
#define JOURNAL_LOGS_MAX 2000000       /* lines of all sandboxes together */
#define JOURNAL_LOGS_SANDBOX_MAX 10000 /* of one */
#define JOURNAL_DELIVERIES_MAX 100000  /* that wait; more are not made */

struct journal;

int journal_open(const char *state_dir, struct journal **out, struct err *err);
void journal_close(struct journal *journal);
/* Drop what is too old or too many, a bounded part of it; to be called every minute or so. */
int journal_prune(struct journal *journal, int64_t now_unix_ms, struct err *err);
/* Bytes of the file, for metrics. */
int64_t journal_size(struct journal *journal);

/* --- events ---------------------------------------------------------------------------------- */

struct journal_event {
    char id[UUID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char sandbox_id[SANDBOX_ID_SIZE];
    unsigned type; /* bit number in a webhook's `types` */
    bool begins;   /* the sandbox is new */
    bool ends;     /* … and this is its end */
    int64_t at_unix_ms;
    char *data; /* owned: the event's JSON as clients get it */
};
void journal_event_clear(struct journal_event *event);
void journal_events_free(struct journal_event *events, size_t count);

/*
 * Keep EVENT and, for each enabled webhook of its namespace that wants its type, a delivery. One
 * with an id that is there already changes nothing. *DELIVERIES: how many were made.
 */
int journal_event_add(struct journal *journal, const struct journal_event *event,
                      size_t *deliveries, struct err *err);

struct journal_event_query {
    const char *namespace_;
    const char *sandbox_id; /* NULL: all */
    uint32_t types;         /* bits */
    size_t offset, limit;
    bool ascending; /* else newest first */
};
/* *OUT of *COUNT: journal_events_free. */
int journal_event_list(struct journal *journal, const struct journal_event_query *query,
                       struct journal_event **out, size_t *count, struct err *err);
/*
 * The sandboxes that have begun and not ended as far as events tell, to free(): for start-up, which
 * knows better. Each is NUL-terminated.
 */
int journal_open_sandboxes(struct journal *journal, char (**out)[SANDBOX_ID_SIZE], size_t *count,
                           struct err *err);
/* Whose sandbox ID is or was: ERR_NOT_FOUND when it was never seen, or too long ago. */
int journal_owner(struct journal *journal, const char *sandbox_id, char out[NAMESPACE_SIZE],
                  struct err *err);

/* --- webhooks -------------------------------------------------------------------------------- */

struct journal_webhook {
    char id[UUID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char *name; /* owned, as the next two */
    char *url;
    char *secret; /* sealed */
    uint32_t types;
    bool enabled;
    int64_t created_unix_ms;
};
void journal_webhook_clear(struct journal_webhook *webhook);
void journal_webhooks_free(struct journal_webhook *webhooks, size_t count);
/* Insert, unless MAX of its namespace are there (ERR_LIMIT). */
int journal_webhook_add(struct journal *journal, const struct journal_webhook *webhook, size_t max,
                        struct err *err);
/* Replace name, url, types and enabled. ERR_NOT_FOUND. */
int journal_webhook_change(struct journal *journal, const struct journal_webhook *webhook,
                           struct err *err);
/* With its deliveries. ERR_NOT_FOUND. */
int journal_webhook_delete(struct journal *journal, const char *namespace_, const char *id,
                           struct err *err);
/* ERR_NOT_FOUND. *OUT to clear. */
int journal_webhook_get(struct journal *journal, const char *namespace_, const char *id,
                        struct journal_webhook *out, struct err *err);
int journal_webhook_list(struct journal *journal, const char *namespace_,
                         struct journal_webhook **out, size_t *count, struct err *err);

/* --- deliveries ------------------------------------------------------------------------------ */

struct journal_delivery {
    char id[UUID_SIZE];
    unsigned attempts; /* that have failed */
    struct journal_webhook webhook;
    char *data; /* owned: the event; NULL: it is too old and gone */
};
void journal_delivery_clear(struct journal_delivery *delivery);
#define JOURNAL_BUSY_MAX 8
/*
 * Take one that is due and none of the BUSY webhooks' (JOURNAL_BUSY_MAX ids, "" for none): it is
 * due again at LEASE_UNIX_MS, unless it is done before. *FOUND false: none, and
 * *WAIT_UNTIL_UNIX_MS is when the first will be (INT64_MAX: none waits).
 */
int journal_delivery_take(struct journal *journal, char busy[JOURNAL_BUSY_MAX][UUID_SIZE],
                          int64_t now_unix_ms, int64_t lease_unix_ms, bool *found,
                          struct journal_delivery *out, int64_t *wait_until_unix_ms,
                          struct err *err);
/* It is over: delivered, or given up. */
int journal_delivery_done(struct journal *journal, const char *id, struct err *err);
int journal_delivery_retry(struct journal *journal, const char *id, int64_t due_unix_ms,
                           struct err *err);
int journal_delivery_count(struct journal *journal, size_t *out, struct err *err);

/* --- log lines ------------------------------------------------------------------------------- */

struct journal_line {
    char sandbox_id[SANDBOX_ID_SIZE];
    int64_t at_unix_ms;
    unsigned level; /* enum log_level */
    char *text;     /* owned: a JSON object */
};
int journal_logs_add(struct journal *journal, const struct journal_line *lines, size_t count,
                     struct err *err);
/* Keep the newest JOURNAL_LOGS_SANDBOX_MAX of one sandbox. */
int journal_logs_trim(struct journal *journal, const char *sandbox_id, struct err *err);

struct journal_log_query {
    const char *sandbox_id;
    int64_t from_unix_ms, to_unix_ms; /* both included */
    unsigned level;                   /* at least */
    const char *search;               /* within the text's message; NULL: any */
    size_t limit;
    bool descending; /* newest first */
};
/* Each line's text is owned by *OUT: journal_lines_free. */
int journal_logs_list(struct journal *journal, const struct journal_log_query *query,
                      struct journal_line **out, size_t *count, struct err *err);
void journal_lines_free(struct journal_line *lines, size_t count);

/* --- samples --------------------------------------------------------------------------------- */

struct journal_sample {
    char sandbox_id[SANDBOX_ID_SIZE];
    int64_t at_unix_s;
    uint32_t cpu_count;
    uint32_t cpu_centi; /* hundredths of a percent, over all its cores */
    uint64_t memory_used, memory_total, memory_cache; /* bytes, as the next two */
    uint64_t disk_used, disk_total;
};
int journal_samples_add(struct journal *journal, const struct journal_sample *samples, size_t count,
                        struct err *err);
/* Of one sandbox, oldest first; *OUT to free(). */
int journal_samples_list(struct journal *journal, const char *sandbox_id, int64_t from_unix_s,
                         int64_t to_unix_s, struct journal_sample **out, size_t *count,
                         struct err *err);

/* A minute of a namespace. */
struct journal_team {
    char namespace_[NAMESPACE_SIZE];
    int64_t at_unix_s;   /* its begin */
    uint32_t concurrent; /* the most at once */
    uint32_t started;
};
/* One that is there already is raised to, and increased by, what ROWS say. */
int journal_team_add(struct journal *journal, const struct journal_team *rows, size_t count,
                     struct err *err);
/* Oldest first; *OUT to free(). */
int journal_team_list(struct journal *journal, const char *namespace_, int64_t from_unix_s,
                      int64_t to_unix_s, struct journal_team **out, size_t *count, struct err *err);

#endif
