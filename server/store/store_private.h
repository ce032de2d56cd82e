/*
 * server/store/store_private.h - the connection and its cached statements, for server/store only.
 *
 * A call is store_begin, bind and step, store_end: begin takes the mutex, end resets the statement
 * and gives the mutex back. Bound text is borrowed and must live until store_end.
 */
#ifndef SANDPIT_STORE_STORE_PRIVATE_H
#define SANDPIT_STORE_STORE_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>

#include "server/store/store.h"

enum stmt {
    STMT_SANDBOX_PUT,
    STMT_SANDBOX_STATE,
    STMT_SANDBOX_END,
    STMT_SANDBOX_ENVD,
    STMT_SANDBOX_DELETE,
    STMT_SANDBOX_LIST,
    STMT_SNAPSHOT_PUT,
    STMT_SNAPSHOT_DELETE,
    STMT_SNAPSHOT_LIST,
    STMT_KEY_ADD,
    STMT_KEY_REVOKE,
    STMT_KEY_EXPIRE,
    STMT_KEY_RENAME,
    STMT_KEY_USED,
    STMT_KEY_LIST,
    STMT_VOLUME_ADD,
    STMT_VOLUME_STATE,
    STMT_VOLUME_DELETE,
    STMT_VOLUME_GET,
    STMT_VOLUME_BY_NAME,
    STMT_VOLUME_LIST,
    STMT_QUOTA_SET,
    STMT_QUOTA_CLEAR,
    STMT_QUOTA_LIST,
    STMT_CLAIM_ADD,
    STMT_CLAIM_GET,
    STMT_CLAIM_DROP,
    STMT_CLAIM_LOST,
    STMT_CLAIM_RECOVER,
    STMT_CLAIM_SWEEP,
    STMT_CLAIM_COUNT,
    STMT_META_GET,
    STMT_META_SET,
    STMT_VERSION,
    STMT_CHECK,
    STMT_SECRET_ADD,
    STMT_SECRET_UPDATE,
    STMT_SECRET_GET,
    STMT_SECRET_NAMED,
    STMT_SECRET_DELETE,
    STMT_SECRET_LIST,
    STMT_COUNT
};

enum sync {              /* how far a commit is when the call returns */
            SYNC_NORMAL, /* in the WAL: survives this process, perhaps not a power cut */
            SYNC_FULL,   /* on the disk */
};

struct store {
    pthread_mutex_t lock; /* guards all below */
    sqlite3 *db;
    sqlite3_stmt *stmts[STMT_COUNT]; /* prepared on first use */
    enum sync sync;
    uint32_t own_key_changes;
};

/* Lock STORE and fetch statement ID. NULL with ERR and unlocked on failure. */
sqlite3_stmt *store_begin(struct store *store, enum stmt id, enum sync sync, struct err *err);
/* Reset STMT and unlock. */
void store_end(struct store *store, sqlite3_stmt *stmt);
/* Step a statement that returns no rows. Within begin and end. */
int store_step(struct store *store, sqlite3_stmt *stmt, struct err *err);
/* Turn SQLite's result RC into an err; WHAT says what was tried. */
int store_fail(struct store *store, int rc, const char *what, struct err *err);
/* store_step, store_end; ERR_NOT_FOUND "no NOUN with id ID" when no row changed. */
int store_finish_change(struct store *store, sqlite3_stmt *stmt, const char *noun, const char *id,
                        struct err *err);
/* Text of column AT into OUT of SIZE bytes. False when NULL, too long or holding a NUL. */
bool store_column_copy(sqlite3_stmt *stmt, int at, char *out, size_t size);

/* rows.c */
struct row_kind {
    const char *name; /* "list of keys": for the log and for errors */
    size_t size;      /* of a row's struct, which is plain data or has a clear */
    /* Fill *ROW, zeroed, from the row STMT is at. False: it is none, and nothing is owned. */
    bool (*read)(sqlite3_stmt *stmt, void *row);
    void (*clear)(void *row); /* or NULL */
};
/*
 * Every row of STMT, begun and bound, as an array to free() at *OUT, a pointer to a pointer to the
 * kind's struct; NULL for none. What cannot be read is logged and left out. Ends STMT.
 */
int store_rows(struct store *store, sqlite3_stmt *stmt, const struct row_kind *kind, void *out,
               size_t *count, struct err *err);

/* sandboxes.c: what the column "flags" says. */
void store_sandbox_flags(struct sandbox *sandbox, int flags);

/*
 * Create or update the tables; READ_ONLY: refuse any version but this one. Start-up, before anyone
 * else has STORE.
 */
int store_migrate(struct store *store, bool read_only, struct err *err);

#endif
