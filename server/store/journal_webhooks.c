/* Webhooks and the deliveries that wait for them. */
#include <string.h>

#include "server/base/mem.h"
#include "server/store/journal_private.h"
#include "server/store/store_private.h"

void journal_webhook_clear(struct journal_webhook *webhook)
{
    free(webhook->name);
    free(webhook->url);
    free(webhook->secret);
    webhook->name = webhook->url = webhook->secret = NULL;
}

void journal_webhooks_free(struct journal_webhook *webhooks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        journal_webhook_clear(&webhooks[i]);
    free(webhooks);
}

static int no_webhook(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Webhook not found");
}

/* The lock is held: the first number of the only row of ID, with TEXT (or NULL) bound. */
static int count_of(struct journal *journal, enum journal_stmt id, const char *text, size_t *out,
                    struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, id, err);
    int rc;

    if (stmt == NULL)
        return -1;
    if (text != NULL)
        journal_bind(stmt, 1, text);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = (size_t)sqlite3_column_int64(stmt, 0);
    else
        journal_fail(journal, rc, sqlite3_sql(stmt), err);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return rc == SQLITE_ROW ? 0 : -1;
}

static int insert_webhook(struct journal *journal, const struct journal_webhook *webhook,
                          struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_WEBHOOK_ADD, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, webhook->id);
    journal_bind(stmt, 2, webhook->namespace_);
    journal_bind(stmt, 3, webhook->name);
    journal_bind(stmt, 4, webhook->url);
    journal_bind(stmt, 5, webhook->secret);
    sqlite3_bind_int64(stmt, 6, webhook->types);
    sqlite3_bind_int(stmt, 7, webhook->enabled);
    sqlite3_bind_int64(stmt, 8, webhook->created_unix_ms);
    return journal_step(journal, stmt, err);
}

int journal_webhook_add(struct journal *journal, const struct journal_webhook *webhook, size_t max,
                        struct err *err)
{
    size_t count = 0;
    int rc;

    if (journal_lock(journal, err) < 0)
        return -1;
    rc = count_of(journal, JOURNAL_WEBHOOK_COUNT, webhook->namespace_, &count, err);
    if (rc == 0 && count >= max)
        rc = err_set(err, ERR_LIMIT, "you have reached the maximum number of webhooks (%zu)", max);
    if (rc == 0)
        rc = insert_webhook(journal, webhook, err);
    return journal_unlock(journal, rc, err);
}

int journal_webhook_change(struct journal *journal, const struct journal_webhook *webhook,
                           struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_WEBHOOK_CHANGE, err);
    int rc;

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, webhook->id);
    journal_bind(stmt, 2, webhook->namespace_);
    journal_bind(stmt, 3, webhook->name);
    journal_bind(stmt, 4, webhook->url);
    sqlite3_bind_int64(stmt, 5, webhook->types);
    sqlite3_bind_int(stmt, 6, webhook->enabled);
    rc = journal_step(journal, stmt, err);
    if (rc == 0 && sqlite3_changes(journal->db) == 0)
        rc = no_webhook(err);
    journal_end(journal, stmt);
    return rc;
}

/* The lock is held. */
static int delete_locked(struct journal *journal, const char *namespace_, const char *id,
                         struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_WEBHOOK_DELETE, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, id);
    journal_bind(stmt, 2, namespace_);
    if (journal_step(journal, stmt, err) < 0)
        return -1;
    if (sqlite3_changes(journal->db) == 0)
        return no_webhook(err);
    stmt = journal_stmt(journal, JOURNAL_DELIVERY_DROP, err);
    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, id);
    return journal_step(journal, stmt, err);
}

int journal_webhook_delete(struct journal *journal, const char *namespace_, const char *id,
                           struct err *err)
{
    if (journal_lock(journal, err) < 0)
        return -1;
    return journal_unlock(journal, delete_locked(journal, namespace_, id, err), err);
}

/* A webhook in columns AT and following. False when it is not whole. */
static bool read_webhook(sqlite3_stmt *stmt, int at, struct journal_webhook *out)
{
    if (!store_column_copy(stmt, at, out->id, sizeof(out->id)) ||
        !store_column_copy(stmt, at + 1, out->namespace_, sizeof(out->namespace_)))
        return false;
    out->name = journal_text(stmt, at + 2);
    out->url = journal_text(stmt, at + 3);
    out->secret = journal_text(stmt, at + 4);
    out->types = (uint32_t)sqlite3_column_int64(stmt, at + 5);
    out->enabled = sqlite3_column_int(stmt, at + 6) != 0;
    out->created_unix_ms = sqlite3_column_int64(stmt, at + 7);
    return true;
}

/* All of NAMESPACE_, or the one called ID. */
static int list(struct journal *journal, const char *namespace_, const char *id,
                struct journal_webhook **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_WEBHOOK_LIST, err);
    struct journal_webhook *rows = NULL;
    size_t used = 0;
    int rc;

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, namespace_);
    journal_bind(stmt, 2, id);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        rows = mem_realloc_array(rows, used + 1, sizeof(*rows));
        memset(&rows[used], 0, sizeof(*rows));
        if (read_webhook(stmt, 0, &rows[used]))
            used++;
    }
    if (rc != SQLITE_DONE)
        journal_fail(journal, rc, "list of webhooks", err);
    journal_end(journal, stmt);
    if (rc != SQLITE_DONE) {
        journal_webhooks_free(rows, used);
        return -1;
    }
    *out = rows;
    *count = used;
    return 0;
}

int journal_webhook_get(struct journal *journal, const char *namespace_, const char *id,
                        struct journal_webhook *out, struct err *err)
{
    struct journal_webhook *rows = NULL;
    size_t count = 0;

    if (list(journal, namespace_, id, &rows, &count, err) < 0)
        return -1;
    if (count == 1)
        *out = rows[0]; /* with its strings */
    free(rows);
    return count == 1 ? 0 : no_webhook(err);
}

int journal_webhook_list(struct journal *journal, const char *namespace_,
                         struct journal_webhook **out, size_t *count, struct err *err)
{
    return list(journal, namespace_, NULL, out, count, err);
}

/* --- deliveries ------------------------------------------------------------------------------ */

void journal_delivery_clear(struct journal_delivery *delivery)
{
    journal_webhook_clear(&delivery->webhook);
    free(delivery->data);
    delivery->data = NULL;
}

static void bind_busy(sqlite3_stmt *stmt, char busy[JOURNAL_BUSY_MAX][UUID_SIZE])
{
    for (int i = 0; i < JOURNAL_BUSY_MAX; i++)
        journal_bind(stmt, i + 1, busy[i]);
}

/* The lock is held. */
static int first_due(struct journal *journal, char busy[JOURNAL_BUSY_MAX][UUID_SIZE], int64_t *out,
                     struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_DELIVERY_DUE, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_busy(stmt, busy);
    rc = sqlite3_step(stmt);
    *out = INT64_MAX;
    if (rc != SQLITE_ROW)
        journal_fail(journal, rc, "first delivery", err);
    else if (sqlite3_column_type(stmt, 0) != SQLITE_NULL)
        *out = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return rc == SQLITE_ROW ? 0 : -1;
}

/* The lock is held. */
static int lease(struct journal *journal, const char *id, int64_t until, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_DELIVERY_LEASE, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, until);
    return journal_step(journal, stmt, err);
}

/* The lock is held. */
static int take_due(struct journal *journal, char busy[JOURNAL_BUSY_MAX][UUID_SIZE], int64_t now,
                    bool *found, struct journal_delivery *out, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_DELIVERY_NEXT, err);
    int rc;

    if (stmt == NULL)
        return -1;
    bind_busy(stmt, busy);
    sqlite3_bind_int64(stmt, JOURNAL_BUSY_MAX + 1, now);
    rc = sqlite3_step(stmt);
    *found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        store_column_copy(stmt, 0, out->id, sizeof(out->id));
        out->attempts = (unsigned)sqlite3_column_int(stmt, 1);
        out->data = journal_text(stmt, 2);
        read_webhook(stmt, 3, &out->webhook);
    } else if (rc != SQLITE_DONE) {
        journal_fail(journal, rc, "next delivery", err);
    }
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -1;
}

int journal_delivery_take(struct journal *journal, char busy[JOURNAL_BUSY_MAX][UUID_SIZE],
                          int64_t now_unix_ms, int64_t lease_unix_ms, bool *found,
                          struct journal_delivery *out, int64_t *wait_until_unix_ms,
                          struct err *err)
{
    int rc;

    *out = (struct journal_delivery){.data = NULL};
    *found = false;
    if (journal_lock(journal, err) < 0)
        return -1;
    rc = take_due(journal, busy, now_unix_ms, found, out, err);
    if (rc == 0 && *found)
        rc = lease(journal, out->id, lease_unix_ms, err);
    else if (rc == 0)
        rc = first_due(journal, busy, wait_until_unix_ms, err);
    rc = journal_unlock(journal, rc, err);
    if (rc < 0)
        journal_delivery_clear(out);
    return rc;
}

int journal_delivery_done(struct journal *journal, const char *id, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_DELIVERY_DONE, err);
    int rc;

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, id);
    rc = journal_step(journal, stmt, err);
    journal_end(journal, stmt);
    return rc;
}

int journal_delivery_retry(struct journal *journal, const char *id, int64_t due_unix_ms,
                           struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_DELIVERY_RETRY, err);
    int rc;

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, due_unix_ms);
    rc = journal_step(journal, stmt, err);
    journal_end(journal, stmt);
    return rc;
}

int journal_delivery_count(struct journal *journal, size_t *out, struct err *err)
{
    int rc;

    pthread_mutex_lock(&journal->lock);
    rc = count_of(journal, JOURNAL_DELIVERY_COUNT, NULL, out, err);
    pthread_mutex_unlock(&journal->lock);
    return rc;
}
