#include "server/store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/store/journal_private.h"

#define BUSY_TIMEOUT_MS 5000
#define DB_NAME "journal.db"
#define VERSION_NOW 1
#define PRUNE_ROWS 5000 /* at once: others wait meanwhile */
#define STRINGIFY(macro) STRING(macro)
#define STRING(text) #text

/* Times are Unix milliseconds (_ms) or seconds (_s). `seq` grows with time. */
static const char schema[] =
    "CREATE TABLE sandboxes (id TEXT PRIMARY KEY, namespace TEXT NOT NULL,"
    " ended_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " namespace TEXT NOT NULL, sandbox_id TEXT NOT NULL, type INTEGER NOT NULL,"
    " at_ms INTEGER NOT NULL, data TEXT NOT NULL);"
    "CREATE INDEX events_namespace ON events (namespace, seq);"
    "CREATE INDEX events_sandbox ON events (sandbox_id, seq);"
    "CREATE TABLE webhooks (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " url TEXT NOT NULL, secret TEXT NOT NULL, types INTEGER NOT NULL, enabled INTEGER NOT NULL,"
    " created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX webhooks_namespace ON webhooks (namespace, created_ms);"
    "CREATE TABLE deliveries (id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL, event_id TEXT NOT "
    "NULL,"
    " attempts INTEGER NOT NULL, due_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX deliveries_due ON deliveries (due_ms);"
    "CREATE INDEX deliveries_webhook ON deliveries (webhook_id);"
    "CREATE TABLE logs (seq INTEGER PRIMARY KEY AUTOINCREMENT, sandbox_id TEXT NOT NULL,"
    " at_ms INTEGER NOT NULL, level INTEGER NOT NULL, line TEXT NOT NULL);"
    "CREATE INDEX logs_sandbox ON logs (sandbox_id, at_ms, seq);"
    "CREATE TABLE samples (sandbox_id TEXT NOT NULL, at_s INTEGER NOT NULL, cpu_count INTEGER,"
    " cpu_centi INTEGER, memory_used INTEGER, memory_total INTEGER, memory_cache INTEGER,"
    " disk_used INTEGER, disk_total INTEGER, PRIMARY KEY (sandbox_id, at_s)) WITHOUT ROWID;"
    "CREATE INDEX samples_at ON samples (at_s);"
    "CREATE TABLE team (namespace TEXT NOT NULL, at_s INTEGER NOT NULL, concurrent INTEGER,"
    " started INTEGER, PRIMARY KEY (namespace, at_s)) WITHOUT ROWID;"
    "CREATE INDEX team_at ON team (at_s);"
    "PRAGMA user_version = 1;";

#define EVENT_LIST(order)                                                                          \
    "SELECT id, namespace, sandbox_id, type, at_ms, data FROM events WHERE namespace = ?1"         \
    " AND (?2 IS NULL OR sandbox_id = ?2) AND (?3 >> type) & 1 ORDER BY seq " order                \
    " LIMIT ?4 OFFSET ?5"
#define LOG_LIST(order)                                                                            \
    "SELECT at_ms, level, line FROM logs WHERE sandbox_id = ?1 AND at_ms BETWEEN ?2 AND ?3"        \
    " AND level >= ?4 AND (?5 IS NULL OR instr(json_extract(line, '$.message'), ?5) > 0)"          \
    " ORDER BY at_ms " order ", seq " order " LIMIT ?6"

static const char *const sql[JOURNAL_STMT_COUNT] = {
    [JOURNAL_BEGIN] = "BEGIN IMMEDIATE",
    [JOURNAL_COMMIT] = "COMMIT",
    [JOURNAL_ROLLBACK] = "ROLLBACK",
    [JOURNAL_SANDBOX_ADD] = "INSERT OR IGNORE INTO sandboxes (id, namespace, ended_ms) VALUES "
                            "(?1, ?2, 0)",
    [JOURNAL_SANDBOX_END] = "UPDATE sandboxes SET ended_ms = ?2 WHERE id = ?1",
    [JOURNAL_SANDBOX_OPEN] = "SELECT id FROM sandboxes WHERE ended_ms = 0",
    [JOURNAL_SANDBOX_OWNER] = "SELECT namespace FROM sandboxes WHERE id = ?1",
    [JOURNAL_EVENT_ADD] =
        "INSERT OR IGNORE INTO events (id, namespace, sandbox_id, type, at_ms, data)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    /* random version 4 UUIDs */
    [JOURNAL_EVENT_DELIVER] =
        "INSERT INTO deliveries (id, webhook_id, event_id, attempts, due_ms)"
        " SELECT lower(substr(h,1,8)||'-'||substr(h,9,4)||'-4'||substr(h,14,3)||'-a'||"
        "substr(h,18,3)||'-'||substr(h,21,12)), wid, ?1, 0, ?2 FROM"
        " (SELECT id AS wid, hex(randomblob(16)) AS h FROM webhooks WHERE namespace = ?3"
        " AND enabled AND (types >> ?4) & 1"
        " AND (SELECT count(*) FROM deliveries) < " STRINGIFY(JOURNAL_DELIVERIES_MAX) ")",
    [JOURNAL_EVENT_LIST_ASC] = EVENT_LIST("ASC"),
    [JOURNAL_EVENT_LIST_DESC] = EVENT_LIST("DESC"),
    [JOURNAL_WEBHOOK_COUNT] = "SELECT count(*) FROM webhooks WHERE namespace = ?1",
    [JOURNAL_WEBHOOK_ADD] =
        "INSERT INTO webhooks (id, namespace, name, url, secret, types, enabled, created_ms)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [JOURNAL_WEBHOOK_CHANGE] = "UPDATE webhooks SET name = ?3, url = ?4, types = ?5, enabled = ?6"
                               " WHERE id = ?1 AND namespace = ?2",
    [JOURNAL_WEBHOOK_DELETE] = "DELETE FROM webhooks WHERE id = ?1 AND namespace = ?2",
    [JOURNAL_WEBHOOK_LIST] =
        "SELECT id, namespace, name, url, secret, types, enabled, created_ms FROM webhooks"
        " WHERE namespace = ?1 AND (?2 IS NULL OR id = ?2) ORDER BY created_ms, id",
    [JOURNAL_DELIVERY_DUE] = "SELECT min(due_ms) FROM deliveries WHERE webhook_id NOT IN (?1, ?2,"
                             " ?3, ?4, ?5, ?6, ?7, ?8)",
    [JOURNAL_DELIVERY_NEXT] =
        "SELECT d.id, d.attempts, e.data, w.id, w.namespace, w.name, w.url, w.secret,"
        " w.types, w.enabled, w.created_ms FROM deliveries d LEFT JOIN events e ON e.id = "
        "d.event_id LEFT JOIN webhooks w ON w.id = d.webhook_id"
        " WHERE d.due_ms <= ?9 AND d.webhook_id NOT IN (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        " ORDER BY d.due_ms LIMIT 1",
    [JOURNAL_DELIVERY_LEASE] = "UPDATE deliveries SET due_ms = ?2 WHERE id = ?1",
    [JOURNAL_DELIVERY_DONE] = "DELETE FROM deliveries WHERE id = ?1",
    [JOURNAL_DELIVERY_DROP] = "DELETE FROM deliveries WHERE webhook_id = ?1",
    [JOURNAL_DELIVERY_RETRY] =
        "UPDATE deliveries SET attempts = attempts + 1, due_ms = ?2 WHERE id = ?1",
    [JOURNAL_DELIVERY_COUNT] = "SELECT count(*) FROM deliveries",
    [JOURNAL_LOG_ADD] = "INSERT INTO logs (sandbox_id, at_ms, level, line) VALUES (?1, ?2, ?3, ?4)",
    [JOURNAL_LOG_TRIM] = "DELETE FROM logs WHERE sandbox_id = ?1 AND seq IN (SELECT seq FROM logs"
                         " WHERE sandbox_id = ?1 ORDER BY at_ms DESC, seq DESC LIMIT -1"
                         " OFFSET " STRINGIFY(JOURNAL_LOGS_SANDBOX_MAX) ")",
    [JOURNAL_LOG_LIST_ASC] = LOG_LIST("ASC"),
    [JOURNAL_LOG_LIST_DESC] = LOG_LIST("DESC"),
    [JOURNAL_SAMPLE_ADD] =
        "INSERT OR REPLACE INTO samples (sandbox_id, at_s, cpu_count, cpu_centi, memory_used,"
        " memory_total, memory_cache, disk_used, disk_total) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [JOURNAL_SAMPLE_LIST] =
        "SELECT at_s, cpu_count, cpu_centi, memory_used, memory_total, memory_cache, disk_used,"
        " disk_total FROM samples WHERE sandbox_id = ?1 AND at_s BETWEEN ?2 AND ?3 ORDER BY at_s",
    [JOURNAL_TEAM_ADD] =
        "INSERT INTO team (namespace, at_s, concurrent, started) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT DO UPDATE SET concurrent = max(concurrent, excluded.concurrent),"
        " started = started + excluded.started",
    [JOURNAL_TEAM_LIST] = "SELECT at_s, concurrent, started FROM team WHERE namespace = ?1"
                          " AND at_s BETWEEN ?2 AND ?3 ORDER BY at_s",
    [JOURNAL_PRUNE_LOGS] = "DELETE FROM logs WHERE seq <= (SELECT min(seq) + ?2 FROM logs)"
                           " AND at_ms < ?1",
    [JOURNAL_PRUNE_LOGS_MANY] =
        "DELETE FROM logs WHERE seq <= min((SELECT max(seq) FROM logs) - ?1,"
        " (SELECT min(seq) FROM logs) + ?2)",
    [JOURNAL_PRUNE_EVENTS] = "DELETE FROM events WHERE seq <= (SELECT min(seq) + ?2 FROM events)"
                             " AND at_ms < ?1",
    [JOURNAL_PRUNE_SAMPLES] = "DELETE FROM samples WHERE (sandbox_id, at_s) IN (SELECT sandbox_id,"
                              " at_s FROM samples WHERE at_s < ?1 / 1000 LIMIT ?2)",
    [JOURNAL_PRUNE_TEAM] = "DELETE FROM team WHERE (namespace, at_s) IN (SELECT namespace, at_s"
                           " FROM team WHERE at_s < ?1 / 1000 LIMIT ?2)",
    [JOURNAL_PRUNE_SANDBOXES] = "DELETE FROM sandboxes WHERE ended_ms > 0 AND ended_ms < ?1",
    [JOURNAL_PRUNE_DELIVERIES] = "DELETE FROM deliveries WHERE event_id NOT IN (SELECT id FROM "
                                 "events)",
};

int journal_fail(struct journal *journal, int rc, const char *what, struct err *err)
{
    enum err_code code = ERR_INTERNAL;

    if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED)
        code = ERR_BUSY;
    else if ((rc & 0xff) == SQLITE_FULL)
        code = ERR_NO_SPACE;
    err_set(err, code, "the journal database failed");
    return err_detail(err, "%s: %s (sqlite %d)", what, sqlite3_errmsg(journal->db), rc);
}

sqlite3_stmt *journal_stmt(struct journal *journal, enum journal_stmt id, struct err *err)
{
    int rc;

    if (journal->stmts[id] != NULL)
        return journal->stmts[id];
    rc = sqlite3_prepare_v3(journal->db, sql[id], -1, SQLITE_PREPARE_PERSISTENT,
                            &journal->stmts[id], NULL);
    if (rc != SQLITE_OK)
        journal_fail(journal, rc, sql[id], err);
    return journal->stmts[id];
}

sqlite3_stmt *journal_begin(struct journal *journal, enum journal_stmt id, struct err *err)
{
    sqlite3_stmt *stmt;

    pthread_mutex_lock(&journal->lock);
    stmt = journal_stmt(journal, id, err);
    if (stmt == NULL)
        pthread_mutex_unlock(&journal->lock);
    return stmt;
}

void journal_end(struct journal *journal, sqlite3_stmt *stmt)
{
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    pthread_mutex_unlock(&journal->lock);
}

int journal_step(struct journal *journal, sqlite3_stmt *stmt, struct err *err)
{
    int rc = sqlite3_step(stmt), result = 0;

    if (rc != SQLITE_DONE)
        result = journal_fail(journal, rc, sqlite3_sql(stmt), err);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return result;
}

/* The lock is held. */
static int run(struct journal *journal, enum journal_stmt id, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, id, err);

    return stmt == NULL ? -1 : journal_step(journal, stmt, err);
}

int journal_lock(struct journal *journal, struct err *err)
{
    pthread_mutex_lock(&journal->lock);
    if (run(journal, JOURNAL_BEGIN, err) == 0)
        return 0;
    pthread_mutex_unlock(&journal->lock);
    return -1;
}

int journal_unlock(struct journal *journal, int rc, struct err *err)
{
    struct err ignored = {0};

    if (rc == 0)
        rc = run(journal, JOURNAL_COMMIT, err);
    if (rc < 0 && sqlite3_get_autocommit(journal->db) == 0)
        run(journal, JOURNAL_ROLLBACK, &ignored);
    pthread_mutex_unlock(&journal->lock);
    return rc;
}

void journal_bind(sqlite3_stmt *stmt, int at, const char *text)
{
    sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

char *journal_text(sqlite3_stmt *stmt, int at)
{
    return mem_strdup((const char *)sqlite3_column_text(stmt, at));
}

/* --- opening --------------------------------------------------------------------------------- */

/* SQLite would create it with mode 0644; -wal and -shm take mode and owner from it. */
static int create_private(const char *path, struct err *err)
{
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd >= 0 ? 0 : err_sys(err, errno, "cannot open the journal database %s", path);
}

static int user_version(struct journal *journal, int *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(journal->db, "PRAGMA user_version", -1, &stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW ? 0 : journal_fail(journal, rc, "user_version", err);
}

static int exec(struct journal *journal, const char *text, struct err *err)
{
    int rc = sqlite3_exec(journal->db, text, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : journal_fail(journal, rc, "set-up", err);
}

static int set_up(struct journal *journal, const char *path, struct err *err)
{
    int version = 0,
        rc =
            sqlite3_open_v2(path, &journal->db,
                            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        return journal_fail(journal, rc, path, err);
    sqlite3_extended_result_codes(journal->db, 1);
    sqlite3_busy_timeout(journal->db, BUSY_TIMEOUT_MS);
    if (exec(journal,
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA trusted_schema=OFF",
             err) < 0 ||
        user_version(journal, &version, err) < 0)
        return -1;
    if (version > VERSION_NOW)
        return err_set(err, ERR_INVALID,
                       "%s has version %d and this sandpit knows %d: start the newer sandpit, or "
                       "move that file away (it holds events, logs and webhooks)",
                       path, version, VERSION_NOW);
    if (version == VERSION_NOW)
        return 0;
    if (exec(journal, "BEGIN IMMEDIATE", err) < 0 || exec(journal, schema, err) < 0)
        return -1;
    return exec(journal, "COMMIT", err);
}

int journal_open(const char *state_dir, struct journal **out, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/" DB_NAME, state_dir);
    struct journal *journal;

    if (create_private(path, err) < 0)
        return -1;
    journal = mem_zalloc(sizeof(*journal));
    pthread_mutex_init(&journal->lock, NULL);
    if (set_up(journal, path, err) < 0) {
        journal_close(journal);
        return -1;
    }
    *out = journal;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL)
        return;
    for (size_t i = 0; i < array_size(journal->stmts); i++)
        sqlite3_finalize(journal->stmts[i]);
    sqlite3_close(journal->db);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}

int64_t journal_size(struct journal *journal)
{
    sqlite3_stmt *stmt = NULL;
    int64_t bytes = 0;

    pthread_mutex_lock(&journal->lock);
    if (sqlite3_prepare_v2(journal->db,
                           "SELECT page_count * page_size FROM pragma_page_count(),"
                           " pragma_page_size()",
                           -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        bytes = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    pthread_mutex_unlock(&journal->lock);
    return bytes;
}

/* --- what goes ------------------------------------------------------------------------------- */

static int prune_one(struct journal *journal, enum journal_stmt id, int64_t bound, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, id, err);
    int rc;

    if (stmt == NULL)
        return -1;
    sqlite3_bind_int64(stmt, 1, bound);
    sqlite3_bind_int64(stmt, 2, PRUNE_ROWS);
    rc = journal_step(journal, stmt, err);
    journal_end(journal, stmt);
    return rc;
}

int journal_prune(struct journal *journal, int64_t now, struct err *err)
{
    const struct {
        enum journal_stmt id;
        int64_t bound;
    } steps[] = {
        {JOURNAL_PRUNE_LOGS, now - JOURNAL_KEEP_MS},
        {JOURNAL_PRUNE_LOGS_MANY, JOURNAL_LOGS_MAX},
        {JOURNAL_PRUNE_EVENTS, now - JOURNAL_KEEP_MS},
        {JOURNAL_PRUNE_SAMPLES, now - JOURNAL_SAMPLES_KEEP_MS},
        {JOURNAL_PRUNE_TEAM, now - JOURNAL_KEEP_MS},
        {JOURNAL_PRUNE_SANDBOXES, now - JOURNAL_KEEP_MS},
        {JOURNAL_PRUNE_DELIVERIES, 0},
    };

    for (size_t i = 0; i < array_size(steps); i++) {
        if (prune_one(journal, steps[i].id, steps[i].bound, err) < 0)
            return -1;
    }
    return 0;
}
