#include <string.h>

#include "server/base/mem.h"
#include "server/store/store_private.h"

static void bind_key(sqlite3_stmt *stmt, const struct key *key)
{
    sqlite3_bind_text(stmt, 1, key->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key->namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, key->client, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, key->scopes);
    sqlite3_bind_blob(stmt, 5, key->sha256, sizeof(key->sha256), SQLITE_STATIC);
    sqlite3_bind_text(stmt, 6, key->mask_tail, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 7, key->created_unix_ms);
    sqlite3_bind_int64(stmt, 8, key->expires_unix_ms);
    sqlite3_bind_int(stmt, 9, key->revoked);
    sqlite3_bind_text(stmt, 10, key->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 11, key->kind);
    sqlite3_bind_text(stmt, 12, key->created_by, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 13, key->mask_head, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 14, key->used_unix_ms);
}

int store_key_add(struct store *store, const struct key *key, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_KEY_ADD, SYNC_FULL, err);
    int rc, result = 0;

    if (stmt == NULL)
        return -1;
    bind_key(stmt, key);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_DONE)
        store->own_key_changes++;
    else if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
        result = err_set(err, ERR_EXISTS, "a key with id '%s' or the same text exists", key->id);
    else
        result = store_fail(store, rc, "new key", err);
    store_end(store, stmt);
    return result;
}

/* Counted even when nothing changed: one reload too many does no harm. */
static int finish_key_change(struct store *store, sqlite3_stmt *stmt, const char *id,
                             struct err *err)
{
    store->own_key_changes++;
    return store_finish_change(store, stmt, "key", id, err);
}

int store_key_revoke(struct store *store, const char *id, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_KEY_REVOKE, SYNC_FULL, err);

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    return finish_key_change(store, stmt, id, err);
}

int store_key_expire(struct store *store, const char *id, int64_t expires_unix_ms, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_KEY_EXPIRE, SYNC_FULL, err);

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, expires_unix_ms);
    return finish_key_change(store, stmt, id, err);
}

int store_key_rename(struct store *store, const char *id, const char *name, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_KEY_RENAME, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
    return finish_key_change(store, stmt, id, err);
}

/* Not a change that anybody must follow, so it is not counted. */
int store_key_used(struct store *store, const char *id, int64_t used_unix_ms, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_KEY_USED, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, used_unix_ms);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

/* False for a row that this version cannot hold; such a key opens nothing. */
static bool read_row(sqlite3_stmt *stmt, void *row)
{
    struct key *key = row;
    if (!store_column_copy(stmt, 0, key->id, sizeof(key->id)) ||
        !store_column_copy(stmt, 1, key->namespace_, sizeof(key->namespace_)) ||
        !store_column_copy(stmt, 2, key->client, sizeof(key->client)) ||
        !store_column_copy(stmt, 5, key->mask_tail, sizeof(key->mask_tail)) ||
        sqlite3_column_bytes(stmt, 4) != SHA256_BYTES ||
        !store_column_copy(stmt, 9, key->name, sizeof(key->name)) ||
        sqlite3_column_int(stmt, 10) > KEY_TOKEN ||
        !store_column_copy(stmt, 11, key->created_by, sizeof(key->created_by)) ||
        !store_column_copy(stmt, 12, key->mask_head, sizeof(key->mask_head)))
        return false;
    memcpy(key->sha256, sqlite3_column_blob(stmt, 4), SHA256_BYTES);
    key->scopes = (uint32_t)sqlite3_column_int64(stmt, 3) & SCOPE_ALL;
    key->created_unix_ms = sqlite3_column_int64(stmt, 6);
    key->expires_unix_ms = sqlite3_column_int64(stmt, 7);
    key->revoked = sqlite3_column_int(stmt, 8) != 0;
    key->kind = sqlite3_column_int(stmt, 10) == KEY_TOKEN ? KEY_TOKEN : KEY_API;
    key->used_unix_ms = sqlite3_column_int64(stmt, 13);
    return true;
}

static const struct row_kind key_rows = {
    .name = "list of keys", .size = sizeof(struct key), .read = read_row};

int store_key_list(struct store *store, struct key **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_KEY_LIST, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    return store_rows(store, stmt, &key_rows, out, count, err);
}
