#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/store/store_private.h"

static const char *const scopes[] = {[QUOTA_OF_NAMESPACE] = "namespace", [QUOTA_OF_KEY] = "key"};

int store_quota_set(struct store *store, enum quota_scope scope, const char *name,
                    const struct quota *quota, struct err *err)
{
    int rc = 0;

    for (int kind = 0; rc == 0 && kind < QUOTA_COUNT; kind++) {
        sqlite3_stmt *stmt;
        if (quota->max[kind] == QUOTA_UNSET)
            continue;
        stmt = store_begin(store, STMT_QUOTA_SET, SYNC_FULL, err);
        if (stmt == NULL)
            return -1;
        sqlite3_bind_text(stmt, 1, scopes[scope], -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 3, quota_kind_name((enum quota_kind)kind), -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 4, quota->max[kind]);
        rc = store_step(store, stmt, err);
        store->own_key_changes++;
        store_end(store, stmt);
    }
    return rc;
}

int store_quota_clear(struct store *store, enum quota_scope scope, const char *name,
                      struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_QUOTA_CLEAR, SYNC_FULL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, scopes[scope], -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
    rc = store_step(store, stmt, err);
    store->own_key_changes++;
    store_end(store, stmt);
    return rc;
}

/* False for a row that this version does not know. */
static bool read_row(sqlite3_stmt *stmt, struct quota_row *row)
{
    const char *scope = (const char *)sqlite3_column_text(stmt, 0);
    const char *kind = (const char *)sqlite3_column_text(stmt, 2);
    enum quota_kind which;

    if (scope == NULL || kind == NULL || quota_kind_parse(kind, &which) < 0 ||
        !store_column_copy(stmt, 1, row->name, sizeof(row->name)))
        return false;
    row->scope = str_eq(scope, scopes[QUOTA_OF_KEY]) ? QUOTA_OF_KEY : QUOTA_OF_NAMESPACE;
    row->quota.max[which] = sqlite3_column_int64(stmt, 3);
    return true;
}

/* Rows of one owner come one after another. */
static bool same_owner(const struct quota_row *a, const struct quota_row *b)
{
    return a->scope == b->scope && str_eq(a->name, b->name);
}

int store_quota_list(struct store *store, struct quota_row **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_QUOTA_LIST, SYNC_NORMAL, err);
    _cleanup_free_ struct quota_row *list = NULL;
    size_t used = 0;
    int rc;

    if (stmt == NULL)
        return -1;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct quota_row row = {.quota = quota_unset};
        if (!read_row(stmt, &row)) {
            log_warn("a stored limit cannot be read and does not hold");
            continue;
        }
        if (used > 0 && same_owner(&list[used - 1], &row)) {
            quota_overlay(&list[used - 1].quota, &row.quota);
            continue;
        }
        list = mem_realloc_array(list, used + 1, sizeof(*list));
        list[used++] = row;
    }
    if (rc != SQLITE_DONE)
        store_fail(store, rc, "list of limits", err);
    store_end(store, stmt);
    if (rc != SQLITE_DONE)
        return -1;
    *out = steal_ptr(&list);
    *count = used;
    return 0;
}
