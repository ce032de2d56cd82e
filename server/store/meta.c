#include "server/base/mem.h"
#include "server/store/store_private.h"

int store_meta_get(struct store *store, const char *name, char **out, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_META_GET, SYNC_NORMAL, err);
    int rc, result = 0;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = mem_strdup((const char *)sqlite3_column_text(stmt, 0));
    else if (rc == SQLITE_DONE)
        *out = NULL;
    else
        result = store_fail(store, rc, "named value", err);
    store_end(store, stmt);
    return result;
}

int store_meta_set(struct store *store, const char *name, const char *value, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_META_SET, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, value, -1, SQLITE_STATIC);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}
