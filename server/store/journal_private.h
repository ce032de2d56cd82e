/*
 * server/store/journal_private.h - the journal's connection, for server/store/journal*.c only.
 *
 * journal_begin takes the mutex and fetches a statement; journal_end resets it and gives the mutex
 * back. Within one begin and end other statements may be fetched with journal_stmt.
 */
#ifndef SANDPIT_STORE_JOURNAL_PRIVATE_H
#define SANDPIT_STORE_JOURNAL_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>

#include "server/store/journal.h"

enum journal_stmt {
    JOURNAL_BEGIN,
    JOURNAL_COMMIT,
    JOURNAL_ROLLBACK,
    JOURNAL_SANDBOX_ADD,
    JOURNAL_SANDBOX_END,
    JOURNAL_SANDBOX_OPEN,
    JOURNAL_SANDBOX_OWNER,
    JOURNAL_EVENT_ADD,
    JOURNAL_EVENT_DELIVER,
    JOURNAL_EVENT_LIST_ASC,
    JOURNAL_EVENT_LIST_DESC,
    JOURNAL_WEBHOOK_COUNT,
    JOURNAL_WEBHOOK_ADD,
    JOURNAL_WEBHOOK_CHANGE,
    JOURNAL_WEBHOOK_DELETE,
    JOURNAL_WEBHOOK_LIST,
    JOURNAL_DELIVERY_DUE,
    JOURNAL_DELIVERY_NEXT,
    JOURNAL_DELIVERY_LEASE,
    JOURNAL_DELIVERY_DONE,
    JOURNAL_DELIVERY_DROP,
    JOURNAL_DELIVERY_RETRY,
    JOURNAL_DELIVERY_COUNT,
    JOURNAL_LOG_ADD,
    JOURNAL_LOG_TRIM,
    JOURNAL_LOG_LIST_ASC,
    JOURNAL_LOG_LIST_DESC,
    JOURNAL_SAMPLE_ADD,
    JOURNAL_SAMPLE_LIST,
    JOURNAL_TEAM_ADD,
    JOURNAL_TEAM_LIST,
    JOURNAL_PRUNE_LOGS,
    JOURNAL_PRUNE_LOGS_MANY,
    JOURNAL_PRUNE_EVENTS,
    JOURNAL_PRUNE_SAMPLES,
    JOURNAL_PRUNE_TEAM,
    JOURNAL_PRUNE_SANDBOXES,
    JOURNAL_PRUNE_DELIVERIES,
    JOURNAL_STMT_COUNT
};

struct journal {
    pthread_mutex_t lock; /* guards all below */
    sqlite3 *db;
    sqlite3_stmt *stmts[JOURNAL_STMT_COUNT]; /* prepared on first use */
};

/* Lock and fetch. NULL with ERR and unlocked on failure. */
sqlite3_stmt *journal_begin(struct journal *journal, enum journal_stmt id, struct err *err);
void journal_end(struct journal *journal, sqlite3_stmt *stmt);
/* The lock is held. */
sqlite3_stmt *journal_stmt(struct journal *journal, enum journal_stmt id, struct err *err);
/* Step STMT, which returns no rows, and reset it. */
int journal_step(struct journal *journal, sqlite3_stmt *stmt, struct err *err);
int journal_fail(struct journal *journal, int rc, const char *what, struct err *err);
/* Lock and begin a transaction; it ends and unlocks with RC 0: commit, else: rollback. Gives RC. */
int journal_lock(struct journal *journal, struct err *err);
int journal_unlock(struct journal *journal, int rc, struct err *err);

/* As store_rows, with the loop it has (rows.c). */
struct row_kind;
int journal_rows(struct journal *journal, sqlite3_stmt *stmt, const struct row_kind *kind,
                 void *out, size_t *count, struct err *err);

/* Text that lives until the statement is reset; NULL binds NULL. */
void journal_bind(sqlite3_stmt *stmt, int at, const char *text);
char *journal_text(sqlite3_stmt *stmt, int at);

#endif
