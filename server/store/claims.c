/*
 * server/store/claims.c - Idempotency-Keys.
 *
 * Two triggers (migrate.c) tie a claim to the row of its sandbox in the same transaction: when that
 * row says "running" the claim becomes "done" and copies what the answer needs, and when it is
 * deleted while the claim is still open, the claim goes with it.
 */
#include <string.h>

#include "server/base/mem.h"
#include "server/store/store_private.h"

#define OPEN_TRIES 8 /* the row that was in the way went before it was read */

static int insert(struct store *store, const struct claim *claim, bool *is_new, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_ADD, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, claim->namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, claim->key, -1, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, claim->body_sha256, SHA256_BYTES, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 4, claim->sandbox_id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 5, claim->created_unix_ms);
    rc = store_step(store, stmt, err);
    *is_new = rc == 0 && sqlite3_changes(store->db) > 0;
    store_end(store, stmt);
    return rc;
}

static bool read_row(sqlite3_stmt *stmt, struct claim *claim, struct sandbox *answer)
{
    const char *state = (const char *)sqlite3_column_text(stmt, 4);
    int flags = sqlite3_column_int(stmt, 10);

    if (!store_column_copy(stmt, 0, claim->namespace_, sizeof(claim->namespace_)) ||
        !store_column_copy(stmt, 1, claim->key, sizeof(claim->key)) ||
        sqlite3_column_bytes(stmt, 2) != SHA256_BYTES ||
        !store_column_copy(stmt, 3, claim->sandbox_id, sizeof(claim->sandbox_id)) ||
        state == NULL || claim_state_parse(state, &claim->state) < 0)
        return false;
    memcpy(claim->body_sha256, sqlite3_column_blob(stmt, 2), SHA256_BYTES);
    claim->created_unix_ms = sqlite3_column_int64(stmt, 5);
    memcpy(answer->id, claim->sandbox_id, sizeof(answer->id));
    memcpy(answer->namespace_, claim->namespace_, sizeof(answer->namespace_));
    store_sandbox_flags(answer, flags);
    return claim->state == CLAIM_OPEN ||
           (store_column_copy(stmt, 6, answer->template_id, sizeof(answer->template_id)) &&
            store_column_copy(stmt, 7, answer->base_template_id,
                              sizeof(answer->base_template_id)) &&
            store_column_copy(stmt, 8, answer->alias, sizeof(answer->alias)) &&
            store_column_copy(stmt, 9, answer->envd_version, sizeof(answer->envd_version)));
}

/* *FOUND is false when there is no such row. */
static int look(struct store *store, const struct claim *claim, struct claim *out,
                struct sandbox *answer, bool *found, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_GET, SYNC_NORMAL, err);
    int step, rc = 0;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, claim->namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, claim->key, -1, SQLITE_STATIC);
    step = sqlite3_step(stmt);
    *found = step == SQLITE_ROW;
    if (step == SQLITE_ROW) {
        if (!read_row(stmt, out, answer))
            rc = err_set(err, ERR_INTERNAL, "a stored Idempotency-Key cannot be read");
    } else if (step != SQLITE_DONE) {
        rc = store_fail(store, step, "claim", err);
    }
    store_end(store, stmt);
    return rc;
}

int store_claim_open(struct store *store, const struct claim *claim, bool *is_new,
                     struct claim *found, struct sandbox *answer, struct err *err)
{
    for (int i = 0; i < OPEN_TRIES; i++) {
        bool there = false;
        if (insert(store, claim, is_new, err) < 0)
            return -1;
        if (*is_new)
            return 0;
        if (look(store, claim, found, answer, &there, err) < 0)
            return -1;
        if (there)
            return 0;
    }
    return err_set(err, ERR_BUSY, "the Idempotency-Key is being used by other requests");
}

int store_claim_drop(struct store *store, const char *namespace_, const char *key, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_DROP, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key, -1, SQLITE_STATIC);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

int store_claim_lost(struct store *store, const char *sandbox_id, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_LOST, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, sandbox_id, -1, SQLITE_STATIC);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

int store_claim_recover(struct store *store, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_RECOVER, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

static int count(struct store *store, size_t *out, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_COUNT, SYNC_NORMAL, err);
    int step, rc = 0;

    if (stmt == NULL)
        return -1;
    step = sqlite3_step(stmt);
    if (step == SQLITE_ROW)
        *out = (size_t)sqlite3_column_int64(stmt, 0);
    else
        rc = store_fail(store, step, "count of claims", err);
    store_end(store, stmt);
    return rc;
}

int store_claim_sweep(struct store *store, int64_t before_unix_ms, size_t *left, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_CLAIM_SWEEP, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_int64(stmt, 1, before_unix_ms);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc < 0 ? -1 : count(store, left, err);
}
