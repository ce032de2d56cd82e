/*
 * Migrations, by PRAGMA user_version: entry i leads from version i to i + 1 in one transaction.
 * Entries are never edited once released; a change is a new entry.
 */
#include "server/base/mem.h"
#include "server/store/store_private.h"

static const char *const steps[] = {
    /* times are Unix milliseconds; flags: see store/sandboxes.c; expires_ms 0: never */
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE sandboxes ("
    " id TEXT PRIMARY KEY, namespace TEXT NOT NULL, client TEXT NOT NULL,"
    " template_id TEXT NOT NULL, alias TEXT NOT NULL, state TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,"
    " cpu_count INTEGER NOT NULL, memory_mb INTEGER NOT NULL, disk_mb INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, metadata TEXT, env TEXT, network TEXT, engine_data TEXT"
    ") WITHOUT ROWID;"
    "CREATE TABLE keys ("
    " id TEXT NOT NULL UNIQUE, namespace TEXT NOT NULL, client TEXT NOT NULL,"
    " scopes INTEGER NOT NULL, sha256 BLOB NOT NULL UNIQUE, mask_tail TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, revoked INTEGER NOT NULL);",
    /* which envd runs in it; "" where that was not noted */
    "ALTER TABLE sandboxes ADD COLUMN envd_version TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE sandboxes ADD COLUMN envd_build TEXT NOT NULL DEFAULT '';",
    /* whose layers lie below a sandbox, "": its template's; a snapshot is one build */
    "ALTER TABLE sandboxes ADD COLUMN base_template TEXT NOT NULL DEFAULT '';"
    "CREATE TABLE snapshots ("
    " id TEXT PRIMARY KEY, namespace TEXT NOT NULL, client TEXT NOT NULL,"
    " template_id TEXT NOT NULL, name TEXT NOT NULL, tag TEXT NOT NULL, build_id TEXT NOT NULL,"
    " sandbox_id TEXT NOT NULL, base_template TEXT NOT NULL, state TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL, cpu_count INTEGER NOT NULL,"
    " memory_mb INTEGER NOT NULL, disk_mb INTEGER NOT NULL, envd_version TEXT NOT NULL, env TEXT"
    ") WITHOUT ROWID;",
    /* volumes; volume_mounts: JSON, server/model/volume.h */
    "CREATE TABLE volumes ("
    " id TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,"
    " size_mb INTEGER NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (namespace, name)"
    ") WITHOUT ROWID;"
    "ALTER TABLE sandboxes ADD COLUMN volume_mounts TEXT;",
    /* which key made a sandbox, and for how long; "" and 0 where that was not noted */
    "ALTER TABLE sandboxes ADD COLUMN key_id TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE sandboxes ADD COLUMN timeout_s INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE quotas (scope TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,"
    " max INTEGER NOT NULL, PRIMARY KEY (scope, name, kind)) WITHOUT ROWID;"
    /* Idempotency-Keys, and how they follow the row of their sandbox: store/claims.c */
    "CREATE TABLE claims ("
    " namespace TEXT NOT NULL, key TEXT NOT NULL, body_sha256 BLOB NOT NULL,"
    " sandbox_id TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL, state TEXT NOT NULL,"
    " template_id TEXT, base_template TEXT, alias TEXT, envd_version TEXT, flags INTEGER,"
    " PRIMARY KEY (namespace, key)) WITHOUT ROWID;"
    "CREATE INDEX claims_created ON claims (created_ms);"
    "CREATE TRIGGER claims_done AFTER INSERT ON sandboxes WHEN NEW.state = 'running' BEGIN"
    " UPDATE claims SET state = 'done', template_id = NEW.template_id,"
    " base_template = NEW.base_template, alias = NEW.alias, envd_version = NEW.envd_version,"
    " flags = NEW.flags WHERE sandbox_id = NEW.id AND state = 'open'; END;"
    "CREATE TRIGGER claims_undone AFTER DELETE ON sandboxes BEGIN"
    " DELETE FROM claims WHERE sandbox_id = OLD.id AND state = 'open'; END;",
    /* secrets; sealed: the value, encrypted with a key that is derived for its id */
    "CREATE TABLE secrets ("
    " id TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,"
    " metadata TEXT, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " sealed TEXT NOT NULL, UNIQUE (namespace, name)) WITHOUT ROWID;",
    /* what the API knows of a key; kind: enum key_kind */
    "ALTER TABLE keys ADD COLUMN name TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN mask_head TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;",
};
#define VERSION_NOW ((int)array_size(steps))

static int user_version(struct store *store, int *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW ? 0 : store_fail(store, rc, "user_version", err);
}

static int exec(struct store *store, const char *text, struct err *err)
{
    int rc = sqlite3_exec(store->db, text, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : store_fail(store, rc, "migration", err);
}

/* Within a write transaction, so that two processes at once do not both migrate. */
static int migrate_locked(struct store *store, struct err *err)
{
    int version;

    if (user_version(store, &version, err) < 0)
        return -1;
    for (; version < VERSION_NOW; version++) {
        _cleanup_free_ char *bump = mem_asprintf("PRAGMA user_version = %d", version + 1);
        if (exec(store, steps[version], err) < 0 || exec(store, bump, err) < 0)
            return -1;
    }
    return 0;
}

int store_migrate(struct store *store, bool read_only, struct err *err)
{
    int version;

    if (user_version(store, &version, err) < 0)
        return -1;
    if (version > VERSION_NOW)
        return err_set(err, ERR_INVALID,
                       "the state database has version %d and this sandpit knows %d: "
                       "start the newer sandpit, or another --state-dir",
                       version, VERSION_NOW);
    if (version == VERSION_NOW)
        return 0;
    if (read_only)
        return err_set(err, ERR_INVALID,
                       "the state database has version %d: start sandpit serve once to bring it to "
                       "%d",
                       version, VERSION_NOW);
    if (exec(store, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    if (migrate_locked(store, err) < 0) {
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return -1;
    }
    return exec(store, "COMMIT", err);
}
