#include <string.h>

#include "server/base/mem.h"
#include "server/store/store_private.h"

static void bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
    sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

int store_volume_add(struct store *store, const struct volume *volume, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_VOLUME_ADD, SYNC_FULL, err);
    int rc, step;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, volume->id);
    bind_text(stmt, 2, volume->namespace_);
    bind_text(stmt, 3, volume->name);
    bind_text(stmt, 4, volume_state_name(volume->state));
    sqlite3_bind_int64(stmt, 5, (int64_t)volume->size_mb);
    sqlite3_bind_int64(stmt, 6, volume->created_unix_ms);
    step = sqlite3_step(stmt);
    if (step == SQLITE_DONE)
        rc = 0;
    else if ((step & 0xff) == SQLITE_CONSTRAINT)
        rc = err_set(err, ERR_EXISTS, "Volume with name '%s' already exists", volume->name);
    else
        rc = store_fail(store, step, "new volume", err);
    store_end(store, stmt);
    return rc;
}

int store_volume_state(struct store *store, const char *id, enum volume_state state,
                       struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_VOLUME_STATE, SYNC_FULL, err);

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    bind_text(stmt, 2, volume_state_name(state));
    return store_finish_change(store, stmt, "volume", id, err);
}

int store_volume_delete(struct store *store, const char *id, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_VOLUME_DELETE, SYNC_FULL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

/* False for a row that this version cannot hold: written by another one, or by hand. */
static bool read_row(sqlite3_stmt *stmt, void *row)
{
    struct volume *out = row;
    const char *state = (const char *)sqlite3_column_text(stmt, 3);
    int64_t size = sqlite3_column_int64(stmt, 4);

    if (!store_column_copy(stmt, 0, out->id, sizeof(out->id)) ||
        !store_column_copy(stmt, 1, out->namespace_, sizeof(out->namespace_)) ||
        !store_column_copy(stmt, 2, out->name, sizeof(out->name)) || state == NULL ||
        volume_state_parse(state, &out->state) < 0 || size < 0)
        return false;
    out->size_mb = (uint64_t)size;
    out->created_unix_ms = sqlite3_column_int64(stmt, 5);
    return true;
}

static int not_found(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Volume not found");
}

/* The one row that STMT, bound, gives. Ends it. */
static int read_one(struct store *store, sqlite3_stmt *stmt, struct volume *out, struct err *err)
{
    struct volume row = {.size_mb = 0};
    int step = sqlite3_step(stmt), rc = 0;

    if (step == SQLITE_DONE)
        rc = not_found(err);
    else if (step != SQLITE_ROW)
        rc = store_fail(store, step, "volume", err);
    else if (!read_row(stmt, &row))
        rc = err_set(err, ERR_INTERNAL, "a stored volume cannot be read");
    store_end(store, stmt);
    if (rc == 0)
        *out = row;
    return rc;
}

int store_volume_get(struct store *store, const char *namespace_, const char *id,
                     struct volume *out, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_VOLUME_GET, SYNC_NORMAL, err);
    struct volume row;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    if (read_one(store, stmt, &row, err) < 0)
        return -1;
    if (namespace_ != NULL && strcmp(row.namespace_, namespace_) != 0)
        return not_found(err);
    *out = row;
    return 0;
}

int store_volume_by_name(struct store *store, const char *namespace_, const char *name,
                         struct volume *out, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_VOLUME_BY_NAME, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, namespace_);
    bind_text(stmt, 2, name);
    return read_one(store, stmt, out, err);
}

static const struct row_kind volume_rows = {
    .name = "list of volumes", .size = sizeof(struct volume), .read = read_row};

int store_volume_list(struct store *store, const char *namespace_, struct volume **out,
                      size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_VOLUME_LIST, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, namespace_);
    return store_rows(store, stmt, &volume_rows, out, count, err);
}
