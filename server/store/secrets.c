#include <string.h>

#include "server/base/mem.h"
#include "server/store/store_private.h"

static int not_found(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no such secret");
}

int store_secret_add(struct store *store, const struct secret_info *info, const char *sealed,
                     size_t max, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SECRET_ADD, SYNC_FULL, err);
    int rc, result = 0;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, info->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, info->namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, info->name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, info->version);
    sqlite3_bind_text(stmt, 5, info->metadata, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 6, info->created_unix_ms);
    sqlite3_bind_int64(stmt, 7, info->updated_unix_ms);
    sqlite3_bind_text(stmt, 8, sealed, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 9, (int64_t)max);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
        result = err_set(err, ERR_EXISTS, "a secret of that name exists");
    else if (rc != SQLITE_DONE)
        result = store_fail(store, rc, "new secret", err);
    else if (sqlite3_changes(store->db) == 0)
        result = err_set(err, ERR_LIMIT, "the namespace has %zu secrets already", max);
    store_end(store, stmt);
    return result;
}

/* The row that STMT stands on. *OUT and *SEALED (unless NULL) are owned. */
static int read_row(sqlite3_stmt *stmt, struct secret_info *out, char **sealed, struct err *err)
{
    struct secret_info info = {0};

    if (!store_column_copy(stmt, 0, info.id, sizeof(info.id)) ||
        !store_column_copy(stmt, 1, info.namespace_, sizeof(info.namespace_)) ||
        !store_column_copy(stmt, 2, info.name, sizeof(info.name)))
        return err_set(err, ERR_INTERNAL, "a stored secret cannot be read");
    info.version = sqlite3_column_int64(stmt, 3);
    info.metadata = mem_strdup((const char *)sqlite3_column_text(stmt, 4));
    info.created_unix_ms = sqlite3_column_int64(stmt, 5);
    info.updated_unix_ms = sqlite3_column_int64(stmt, 6);
    if (sealed != NULL)
        *sealed = mem_strdup((const char *)sqlite3_column_text(stmt, 7));
    *out = info;
    return 0;
}

/* The one row of STMT, bound; ends it. */
static int one_row(struct store *store, sqlite3_stmt *stmt, struct secret_info *out, char **sealed,
                   struct err *err)
{
    int rc = sqlite3_step(stmt), result;

    if (rc == SQLITE_ROW) {
        result = read_row(stmt, out, sealed, err);
        rc = sqlite3_step(stmt); /* an update commits here */
        if (result == 0 && rc != SQLITE_DONE) {
            secret_info_clear(out);
            if (sealed != NULL)
                free(steal_ptr(sealed));
            result = store_fail(store, rc, "secret", err);
        }
    } else {
        result = rc == SQLITE_DONE ? not_found(err) : store_fail(store, rc, "secret", err);
    }
    store_end(store, stmt);
    return result;
}

int store_secret_update(struct store *store, const char *namespace_, const char *id,
                        int64_t now_unix_ms, const char *sealed, bool keep_metadata,
                        const char *metadata, struct secret_info *out, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SECRET_UPDATE, SYNC_FULL, err);

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, now_unix_ms);
    sqlite3_bind_text(stmt, 4, sealed, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 5, metadata, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 6, !keep_metadata);
    return one_row(store, stmt, out, NULL, err);
}

int store_secret_get(struct store *store, const char *namespace_, const char *key, bool by_name,
                     struct secret_info *out, char **sealed, struct err *err)
{
    sqlite3_stmt *stmt =
        store_begin(store, by_name ? STMT_SECRET_NAMED : STMT_SECRET_GET, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key, -1, SQLITE_STATIC);
    return one_row(store, stmt, out, sealed, err);
}

int store_secret_delete(struct store *store, const char *namespace_, const char *id,
                        struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SECRET_DELETE, SYNC_FULL, err);

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, id, -1, SQLITE_STATIC);
    return store_finish_change(store, stmt, "secret", id, err);
}

int store_secret_list(struct store *store, const char *namespace_, const char *after, size_t max,
                      struct secret_info **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SECRET_LIST, SYNC_NORMAL, err);
    struct secret_info *list = NULL;
    size_t used = 0;
    int rc, result = 0;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_text(stmt, 1, namespace_, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, after, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, (int64_t)max);
    list = mem_calloc(max, sizeof(*list));
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && used < max && result == 0) {
        result = read_row(stmt, &list[used], NULL, err);
        used += result == 0;
    }
    if (result == 0 && rc != SQLITE_DONE && rc != SQLITE_ROW)
        result = store_fail(store, rc, "list of secrets", err);
    store_end(store, stmt);
    if (result < 0) {
        while (used > 0)
            secret_info_clear(&list[--used]);
        free(list);
        return -1;
    }
    *out = list;
    *count = used;
    return 0;
}
