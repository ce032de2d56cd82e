#include <string.h>

#include "server/base/mem.h"
#include "server/store/store_private.h"

/* Bits of the column "flags". Stored: never renumber. */
#define FLAG_SECURE 1
#define FLAG_AUTO_PAUSE 2
#define FLAG_AUTO_RESUME 4
#define FLAG_INTERNET 8
#define FLAG_INTERNET_SET 16
#define FLAG_PRIVATE_TRAFFIC 32
#define FLAG_AUTO_PAUSE_FILES 64
#define FLAG_PAUSED_FILES 128
#define FLAG_PAUSED_DEAF 256

static int flags_of(const struct sandbox *s)
{
    return (s->secure ? FLAG_SECURE : 0) | (s->auto_pause ? FLAG_AUTO_PAUSE : 0) |
           (s->auto_resume ? FLAG_AUTO_RESUME : 0) | (s->internet ? FLAG_INTERNET : 0) |
           (s->internet_set ? FLAG_INTERNET_SET : 0) |
           (s->private_traffic ? FLAG_PRIVATE_TRAFFIC : 0) |
           (s->auto_pause_files ? FLAG_AUTO_PAUSE_FILES : 0) |
           (s->paused_files ? FLAG_PAUSED_FILES : 0) | (s->paused_deaf ? FLAG_PAUSED_DEAF : 0);
}

void store_sandbox_flags(struct sandbox *s, int flags)
{
    s->secure = (flags & FLAG_SECURE) != 0;
    s->auto_pause = (flags & FLAG_AUTO_PAUSE) != 0;
    s->auto_resume = (flags & FLAG_AUTO_RESUME) != 0;
    s->internet = (flags & FLAG_INTERNET) != 0;
    s->internet_set = (flags & FLAG_INTERNET_SET) != 0;
    s->private_traffic = (flags & FLAG_PRIVATE_TRAFFIC) != 0;
    s->auto_pause_files = (flags & FLAG_AUTO_PAUSE_FILES) != 0;
    s->paused_files = (flags & FLAG_PAUSED_FILES) != 0;
    s->paused_deaf = (flags & FLAG_PAUSED_DEAF) != 0;
}

static void bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
    sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

int store_sandbox_put(struct store *store, const struct sandbox *s, struct err *err)
{
    /* a sandbox that was paused is there after a power cut, too */
    enum sync sync = s->state == SANDBOX_PAUSED ? SYNC_FULL : SYNC_NORMAL;
    sqlite3_stmt *stmt = store_begin(store, STMT_SANDBOX_PUT, sync, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, s->id);
    bind_text(stmt, 2, s->namespace_);
    bind_text(stmt, 3, s->client);
    bind_text(stmt, 4, s->template_id);
    bind_text(stmt, 5, s->alias);
    bind_text(stmt, 6, sandbox_state_name(s->state));
    sqlite3_bind_int64(stmt, 7, s->created_unix_ms);
    sqlite3_bind_int64(stmt, 8, s->started_unix_ms);
    sqlite3_bind_int64(stmt, 9, s->end_unix_ms);
    sqlite3_bind_int64(stmt, 10, s->cpu_count);
    sqlite3_bind_int64(stmt, 11, s->memory_mb);
    sqlite3_bind_int64(stmt, 12, s->disk_mb);
    sqlite3_bind_int(stmt, 13, flags_of(s));
    bind_text(stmt, 14, s->metadata);
    bind_text(stmt, 15, s->env);
    bind_text(stmt, 16, s->network);
    bind_text(stmt, 17, s->engine_data);
    bind_text(stmt, 18, s->envd_version);
    bind_text(stmt, 19, s->envd_build);
    bind_text(stmt, 20, s->base_template_id);
    bind_text(stmt, 21, s->volume_mounts);
    bind_text(stmt, 22, s->key_id);
    sqlite3_bind_int64(stmt, 23, s->timeout_s);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

int store_sandbox_state(struct store *store, const char *id, enum sandbox_state state,
                        struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SANDBOX_STATE, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    bind_text(stmt, 2, sandbox_state_name(state));
    return store_finish_change(store, stmt, "sandbox", id, err);
}

int store_sandbox_end(struct store *store, const char *id, int64_t end_unix_ms, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SANDBOX_END, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, end_unix_ms);
    return store_finish_change(store, stmt, "sandbox", id, err);
}

int store_sandbox_envd(struct store *store, const char *id, const char *version, const char *build,
                       struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SANDBOX_ENVD, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    bind_text(stmt, 2, version);
    bind_text(stmt, 3, build);
    return store_finish_change(store, stmt, "sandbox", id, err);
}

int store_sandbox_delete(struct store *store, const char *id, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SANDBOX_DELETE, SYNC_NORMAL, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_text(stmt, 1, id);
    rc = store_step(store, stmt, err);
    store_end(store, stmt);
    return rc;
}

static char *column_dup(sqlite3_stmt *stmt, int at)
{
    return mem_strdup((const char *)sqlite3_column_text(stmt, at));
}

static bool column_u32(sqlite3_stmt *stmt, int at, uint32_t *out)
{
    int64_t value = sqlite3_column_int64(stmt, at);

    if (value < 0 || value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* False for a row that this version cannot hold: written by another one, or by hand. */
static bool read_row(sqlite3_stmt *stmt, void *row)
{
    struct sandbox *s = row;
    const char *state = (const char *)sqlite3_column_text(stmt, 5);

    if (!store_column_copy(stmt, 0, s->id, sizeof(s->id)) ||
        !store_column_copy(stmt, 1, s->namespace_, sizeof(s->namespace_)) ||
        !store_column_copy(stmt, 2, s->client, sizeof(s->client)) ||
        !store_column_copy(stmt, 3, s->template_id, sizeof(s->template_id)) ||
        !store_column_copy(stmt, 4, s->alias, sizeof(s->alias)) || state == NULL ||
        sandbox_state_parse(state, &s->state) < 0 || !column_u32(stmt, 9, &s->cpu_count) ||
        !store_column_copy(stmt, 17, s->envd_version, sizeof(s->envd_version)) ||
        !store_column_copy(stmt, 18, s->envd_build, sizeof(s->envd_build)) ||
        !store_column_copy(stmt, 19, s->base_template_id, sizeof(s->base_template_id)) ||
        !store_column_copy(stmt, 21, s->key_id, sizeof(s->key_id)) ||
        !column_u32(stmt, 10, &s->memory_mb) || !column_u32(stmt, 11, &s->disk_mb))
        return false;
    s->created_unix_ms = sqlite3_column_int64(stmt, 6);
    s->started_unix_ms = sqlite3_column_int64(stmt, 7);
    s->end_unix_ms = sqlite3_column_int64(stmt, 8);
    store_sandbox_flags(s, sqlite3_column_int(stmt, 12));
    s->metadata = column_dup(stmt, 13);
    s->env = column_dup(stmt, 14);
    s->network = column_dup(stmt, 15);
    s->engine_data = column_dup(stmt, 16);
    s->volume_mounts = column_dup(stmt, 20);
    s->timeout_s = sqlite3_column_int64(stmt, 22);
    return true;
}

static void clear_row(void *row)
{
    sandbox_clear(row);
}

static const struct row_kind sandbox_rows = {.name = "list of sandboxes",
                                             .size = sizeof(struct sandbox),
                                             .read = read_row,
                                             .clear = clear_row};

int store_sandbox_list(struct store *store, struct sandbox **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, STMT_SANDBOX_LIST, SYNC_NORMAL, err);

    if (stmt == NULL)
        return -1;
    return store_rows(store, stmt, &sandbox_rows, out, count, err);
}
