#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/store/store_private.h"

#define BUSY_TIMEOUT_MS 5000
#define BUSY_RETRY_MS 5
#define DB_NAME "sandpit.db"

#define VOLUME_COLUMNS "id, namespace, name, state, size_mb, created_ms"

static const char *const sql[STMT_COUNT] = {
    [STMT_SANDBOX_PUT] =
        "INSERT OR REPLACE INTO sandboxes (id, namespace, client, template_id, alias, state,"
        " created_ms, started_ms, end_ms, cpu_count, memory_mb, disk_mb, flags, metadata, env,"
        " network, engine_data, envd_version, envd_build, base_template,"
        " volume_mounts, key_id, timeout_s) VALUES "
        "(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,"
        "?17,?18,?19,?20,?21,?22,?23)",
    [STMT_SANDBOX_STATE] = "UPDATE sandboxes SET state = ?2 WHERE id = ?1",
    [STMT_SANDBOX_END] = "UPDATE sandboxes SET end_ms = ?2 WHERE id = ?1",
    [STMT_SANDBOX_ENVD] = "UPDATE sandboxes SET envd_version = ?2, envd_build = ?3 WHERE id = ?1",
    [STMT_SANDBOX_DELETE] = "DELETE FROM sandboxes WHERE id = ?1",
    [STMT_SANDBOX_LIST] =
        "SELECT id, namespace, client, template_id, alias, state, created_ms, started_ms, end_ms,"
        " cpu_count, memory_mb, disk_mb, flags, metadata, env, network, engine_data,"
        " envd_version, envd_build, base_template, volume_mounts, key_id, timeout_s"
        " FROM sandboxes ORDER BY started_ms, id",
    [STMT_SNAPSHOT_PUT] =
        "INSERT OR REPLACE INTO snapshots (id, namespace, client, template_id, name, tag,"
        " build_id, sandbox_id, base_template, state, created_ms, size_bytes, cpu_count,"
        " memory_mb, disk_mb, envd_version, env) VALUES "
        "(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)",
    [STMT_SNAPSHOT_DELETE] = "DELETE FROM snapshots WHERE id = ?1",
    [STMT_SNAPSHOT_LIST] =
        "SELECT id, namespace, client, template_id, name, tag, build_id, sandbox_id,"
        " base_template, state, created_ms, size_bytes, cpu_count, memory_mb, disk_mb,"
        " envd_version, env FROM snapshots ORDER BY created_ms, id",
    [STMT_KEY_ADD] =
        "INSERT INTO keys (id, namespace, client, scopes, sha256, mask_tail, created_ms,"
        " expires_ms, revoked, name, kind, created_by, mask_head, used_ms)"
        " VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    [STMT_KEY_REVOKE] = "UPDATE keys SET revoked = 1 WHERE id = ?1",
    [STMT_KEY_EXPIRE] = "UPDATE keys SET expires_ms = ?2 WHERE id = ?1",
    [STMT_KEY_RENAME] = "UPDATE keys SET name = ?2 WHERE id = ?1",
    [STMT_KEY_USED] = "UPDATE keys SET used_ms = ?2 WHERE id = ?1 AND used_ms < ?2",
    [STMT_KEY_LIST] =
        "SELECT id, namespace, client, scopes, sha256, mask_tail, created_ms, expires_ms, revoked,"
        " name, kind, created_by, mask_head, used_ms FROM keys ORDER BY created_ms DESC, rowid "
        "DESC",
    [STMT_VOLUME_ADD] = "INSERT INTO volumes (id, namespace, name, state, size_mb, created_ms)"
                        " VALUES (?1,?2,?3,?4,?5,?6)",
    [STMT_VOLUME_STATE] = "UPDATE volumes SET state = ?2 WHERE id = ?1",
    [STMT_VOLUME_DELETE] = "DELETE FROM volumes WHERE id = ?1",
    [STMT_VOLUME_GET] = "SELECT " VOLUME_COLUMNS " FROM volumes WHERE id = ?1",
    [STMT_VOLUME_BY_NAME] =
        "SELECT " VOLUME_COLUMNS " FROM volumes WHERE namespace = ?1 AND name = ?2",
    [STMT_VOLUME_LIST] = "SELECT " VOLUME_COLUMNS " FROM volumes WHERE ?1 IS NULL OR namespace = ?1"
                         " ORDER BY created_ms, id",
    [STMT_QUOTA_SET] =
        "INSERT OR REPLACE INTO quotas (scope, name, kind, max) VALUES (?1,?2,?3,?4)",
    [STMT_QUOTA_CLEAR] = "DELETE FROM quotas WHERE scope = ?1 AND name = ?2",
    [STMT_QUOTA_LIST] = "SELECT scope, name, kind, max FROM quotas ORDER BY scope, name, kind",
    [STMT_CLAIM_ADD] = "INSERT OR IGNORE INTO claims (namespace, key, body_sha256, sandbox_id,"
                       " created_ms, state) VALUES (?1,?2,?3,?4,?5,'open')",
    [STMT_CLAIM_GET] = "SELECT namespace, key, body_sha256, sandbox_id, state, created_ms,"
                       " template_id, base_template, alias, envd_version, flags FROM claims"
                       " WHERE namespace = ?1 AND key = ?2",
    [STMT_CLAIM_DROP] = "DELETE FROM claims WHERE namespace = ?1 AND key = ?2",
    [STMT_CLAIM_LOST] = "UPDATE claims SET state = 'lost' WHERE sandbox_id = ?1",
    [STMT_CLAIM_RECOVER] = "DELETE FROM claims WHERE state = 'open' AND sandbox_id NOT IN"
                           " (SELECT id FROM sandboxes)",
    [STMT_CLAIM_SWEEP] = "DELETE FROM claims WHERE created_ms < ?1 AND state <> 'open'",
    [STMT_CLAIM_COUNT] = "SELECT count(*) FROM claims",
    [STMT_META_GET] = "SELECT value FROM meta WHERE name = ?1",
    [STMT_META_SET] = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)",
    [STMT_VERSION] = "PRAGMA data_version",
    [STMT_CHECK] = "SELECT count(*) FROM meta",
    [STMT_SECRET_ADD] =
        "INSERT INTO secrets (id, namespace, name, version, metadata, created_ms, updated_ms,"
        " sealed) SELECT ?1,?2,?3,?4,?5,?6,?7,?8 WHERE"
        " (SELECT count(*) FROM secrets WHERE namespace = ?2) < ?9",
    [STMT_SECRET_UPDATE] =
        "UPDATE secrets SET version = version + 1, updated_ms = max(updated_ms, ?3), sealed = ?4,"
        " metadata = CASE WHEN ?6 THEN ?5 ELSE metadata END WHERE namespace = ?1 AND id = ?2"
        " RETURNING id, namespace, name, version, metadata, created_ms, updated_ms, sealed",
    [STMT_SECRET_GET] =
        "SELECT id, namespace, name, version, metadata, created_ms, updated_ms, sealed"
        " FROM secrets WHERE namespace = ?1 AND id = ?2",
    [STMT_SECRET_NAMED] =
        "SELECT id, namespace, name, version, metadata, created_ms, updated_ms, sealed"
        " FROM secrets WHERE namespace = ?1 AND name = ?2",
    [STMT_SECRET_DELETE] = "DELETE FROM secrets WHERE namespace = ?1 AND id = ?2",
    [STMT_SECRET_LIST] =
        "SELECT id, namespace, name, version, metadata, created_ms, updated_ms, sealed"
        " FROM secrets WHERE namespace = ?1 AND (?2 = '' OR id < ?2) ORDER BY id DESC LIMIT ?3",
};

int store_fail(struct store *store, int rc, const char *what, struct err *err)
{
    enum err_code code = ERR_INTERNAL;

    if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED)
        code = ERR_BUSY;
    else if ((rc & 0xff) == SQLITE_FULL)
        code = ERR_NO_SPACE;
    else if ((rc & 0xff) == SQLITE_READONLY || (rc & 0xff) == SQLITE_PERM ||
             (rc & 0xff) == SQLITE_CANTOPEN)
        code = ERR_FORBIDDEN;
    else if ((rc & 0xff) == SQLITE_NOTADB || (rc & 0xff) == SQLITE_CORRUPT)
        code = ERR_INVALID;
    err_set(err, code,
            code == ERR_BUSY       ? "the state database is locked by another process"
            : code == ERR_NO_SPACE ? "no space left for the state database"
                                   : "the state database failed");
    return err_detail(err, "%s: %s (sqlite %d)", what, sqlite3_errmsg(store->db), rc);
}

/* The pragma takes effect between transactions; every statement here is one of its own. */
static int set_sync(struct store *store, enum sync sync, struct err *err)
{
    int rc;

    if (store->sync == sync)
        return 0;
    rc = sqlite3_exec(store->db,
                      sync == SYNC_FULL ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL",
                      NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return store_fail(store, rc, "synchronous", err);
    store->sync = sync;
    return 0;
}

sqlite3_stmt *store_begin(struct store *store, enum stmt id, enum sync sync, struct err *err)
{
    int rc;

    pthread_mutex_lock(&store->lock);
    if (store->stmts[id] == NULL) {
        rc = sqlite3_prepare_v3(store->db, sql[id], -1, SQLITE_PREPARE_PERSISTENT,
                                &store->stmts[id], NULL);
        if (rc != SQLITE_OK) {
            store_fail(store, rc, sql[id], err);
            goto fail;
        }
    }
    if (set_sync(store, sync, err) < 0)
        goto fail;
    return store->stmts[id];
fail:
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

void store_end(struct store *store, sqlite3_stmt *stmt)
{
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    pthread_mutex_unlock(&store->lock);
}

int store_step(struct store *store, sqlite3_stmt *stmt, struct err *err)
{
    int rc = sqlite3_step(stmt);

    return rc == SQLITE_DONE ? 0 : store_fail(store, rc, sqlite3_sql(stmt), err);
}

int store_finish_change(struct store *store, sqlite3_stmt *stmt, const char *noun, const char *id,
                        struct err *err)
{
    int rc = store_step(store, stmt, err);

    if (rc == 0 && sqlite3_changes(store->db) == 0)
        rc = err_set(err, ERR_NOT_FOUND, "no %s with id '%.64s'", noun, id);
    store_end(store, stmt);
    return rc;
}

bool store_column_copy(sqlite3_stmt *stmt, int at, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(stmt, at);

    return text != NULL && str_copy(out, size, text, (size_t)sqlite3_column_bytes(stmt, at)) == 0;
}

/* SQLite would create it with mode 0644; -wal and -shm take mode and owner from it. */
static int create_private(const char *path, struct err *err)
{
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_sys(err, errno, "cannot open the state database %s", path);
    return 0;
}

/*
 * PRAGMAS, waiting for other processes. A switch to WAL answers "busy" at once, whatever the busy
 * timeout, while another process does the same or is the last to close.
 */
static int run_pragmas(sqlite3 *db, const char *pragmas)
{
    int64_t deadline_ms = time_mono_ms() + BUSY_TIMEOUT_MS;
    int rc;

    while ((rc = sqlite3_exec(db, pragmas, NULL, NULL, NULL)) != SQLITE_OK) {
        if ((rc & 0xff) != SQLITE_BUSY || time_mono_ms() >= deadline_ms)
            break;
        sqlite3_sleep(BUSY_RETRY_MS);
    }
    return rc;
}

static int open_db(struct store *store, const char *path, int flags, struct err *err)
{
    const char *pragmas = flags & SQLITE_OPEN_READONLY
                              ? "PRAGMA trusted_schema=OFF"
                              : "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                                " PRAGMA trusted_schema=OFF";
    int rc = sqlite3_open_v2(path, &store->db, flags | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        return store_fail(store, rc, path, err);
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
    rc = run_pragmas(store->db, pragmas);
    if (rc != SQLITE_OK)
        return store_fail(store, rc, path, err);
    return 0;
}

static int open_store(const char *path, bool read_only, struct store **out, struct err *err)
{
    int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    struct store *store = mem_zalloc(sizeof(*store));

    pthread_mutex_init(&store->lock, NULL);
    if (open_db(store, path, flags, err) < 0 || store_migrate(store, read_only, err) < 0) {
        store_close(store);
        return -1;
    }
    *out = store;
    return 0;
}

int store_open(const char *state_dir, struct store **out, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/" DB_NAME, state_dir);

    if (create_private(path, err) < 0)
        return -1;
    return open_store(path, false, out, err);
}

int store_open_read(const char *state_dir, struct store **out, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/" DB_NAME, state_dir);

    if (access(path, F_OK) < 0)
        return err_sys(err, errno, "there is no state database in %s", state_dir);
    return open_store(path, true, out, err);
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < array_size(store->stmts); i++)
        sqlite3_finalize(store->stmts[i]);
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static int read_number(struct store *store, enum stmt id, int64_t *out, struct err *err)
{
    sqlite3_stmt *stmt = store_begin(store, id, SYNC_NORMAL, err);
    int rc = 0, step;

    if (stmt == NULL)
        return -1;
    step = sqlite3_step(stmt);
    if (step == SQLITE_ROW)
        *out = sqlite3_column_int64(stmt, 0);
    else
        rc = store_fail(store, step, sqlite3_sql(stmt), err);
    store_end(store, stmt);
    return rc;
}

int store_check(struct store *store, struct err *err)
{
    int64_t count;

    if (store == NULL)
        return err_set(err, ERR_BUSY, "the server is starting or stopping");
    return read_number(store, STMT_CHECK, &count, err);
}

int store_version(struct store *store, uint64_t *out, struct err *err)
{
    int64_t data_version;
    uint32_t own;

    if (read_number(store, STMT_VERSION, &data_version, err) < 0)
        return -1;
    pthread_mutex_lock(&store->lock);
    own = store->own_key_changes;
    pthread_mutex_unlock(&store->lock);
    *out = (uint64_t)data_version << 32 | own;
    return 0;
}
