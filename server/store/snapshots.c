#include <stdlib.h>

#include "server/base/mem.h"
#include "server/store/store_private.h"

static void bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
    sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

int store_snapshot_put(struct store *store, const struct snapshot *s, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SNAPSHOT_PUT, SYNC_FULL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, s->id);
    bind_text(stmt, 2, s->namespace_);
    bind_text(stmt, 3, s->client);
    bind_text(stmt, 4, s->template_id);
    bind_text(stmt, 5, s->name);
    bind_text(stmt, 6, s->tag);
    bind_text(stmt, 7, s->build_id);
    bind_text(stmt, 8, s->sandbox_id);
    bind_text(stmt, 9, s->base_template_id);
    bind_text(stmt, 10, snapshot_state_name(s->state));
    sqlite3_bind_int64(stmt, 11, s->created_unix_ms);
    sqlite3_bind_int64(stmt, 12, (int64_t)s->size_bytes);
    sqlite3_bind_int64(stmt, 13, s->cpu_count);
    sqlite3_bind_int64(stmt, 14, s->memory_mb);
    sqlite3_bind_int64(stmt, 15, s->disk_mb);
    bind_text(stmt, 16, s->envd_version);
    bind_text(stmt, 17, s->env);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

int store_snapshot_delete(struct store *store, const char *id, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SNAPSHOT_DELETE, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

static bool column_u32(sqlite3_stmt *stmt, int at, uint32_t *out)
{
    int64_t value = sqlite3_column_int64(stmt, at);

    if (value < 0 || value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* False for a row that this version cannot hold. */
static bool read_row(sqlite3_stmt *stmt, void *row)
{
    struct snapshot *s = row;
    const struct {
        char *out;
        size_t size;
    } texts[] = {
        {s->id, sizeof(s->id)},
        {s->namespace_, sizeof(s->namespace_)},
        {s->client, sizeof(s->client)},
        {s->template_id, sizeof(s->template_id)},
        {s->name, sizeof(s->name)},
        {s->tag, sizeof(s->tag)},
        {s->build_id, sizeof(s->build_id)},
        {s->sandbox_id, sizeof(s->sandbox_id)},
        {s->base_template_id, sizeof(s->base_template_id)},
    };
    const char *state = (const char *)sqlite3_column_text(stmt, 9);

    for (size_t i = 0; i < array_size(texts); i++) {
        if (!store_column_copy(stmt, (int)i, texts[i].out, texts[i].size))
            return false;
    }
    if (state == NULL || snapshot_state_parse(state, &s->state) < 0 ||
        !column_u32(stmt, 12, &s->cpu_count) || !column_u32(stmt, 13, &s->memory_mb) ||
        !column_u32(stmt, 14, &s->disk_mb) ||
        !store_column_copy(stmt, 15, s->envd_version, sizeof(s->envd_version)))
        return false;
    s->created_unix_ms = sqlite3_column_int64(stmt, 10);
    s->size_bytes = (uint64_t)sqlite3_column_int64(stmt, 11);
    s->env = mem_strdup((const char *)sqlite3_column_text(stmt, 16));
    return true;
}

static void clear_row(void *row)
{
    snapshot_clear(row);
}

static const struct row_kind snapshot_rows = {.name = "list of snapshots",
                                              .size = sizeof(struct snapshot),
                                              .read = read_row,
                                              .clear = clear_row};

int store_snapshot_list(struct store *store, struct snapshot **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SNAPSHOT_LIST, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    return store_rows(store, stmt, &snapshot_rows, out, count, err);
}
