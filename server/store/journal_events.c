/* Events, and the webhooks that want them. */
#include <string.h>

#include "server/base/mem.h"
#include "server/store/journal_private.h"
#include "server/store/store_private.h"

void journal_event_clear(struct journal_event *event)
{
    free(event->data);
    event->data = NULL;
}

void journal_events_free(struct journal_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        journal_event_clear(&events[i]);
    free(events);
}

/* The lock is held. */
static int note_sandbox(struct journal *journal, const struct journal_event *event, struct err *err)
{
    sqlite3_stmt *stmt;

    if (event->begins) {
        stmt = journal_stmt(journal, JOURNAL_SANDBOX_ADD, err);
        if (stmt == NULL)
            return -1;
        journal_bind(stmt, 1, event->sandbox_id);
        journal_bind(stmt, 2, event->namespace_);
        if (journal_step(journal, stmt, err) < 0)
            return -1;
    }
    if (!event->ends)
        return 0;
    stmt = journal_stmt(journal, JOURNAL_SANDBOX_END, err);
    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, event->sandbox_id);
    sqlite3_bind_int64(stmt, 2, event->at_unix_ms);
    return journal_step(journal, stmt, err);
}

/* The lock is held. Returns 1 when it is new, 0 when it was there, or -1. */
static int insert_event(struct journal *journal, const struct journal_event *event, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_EVENT_ADD, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, event->id);
    journal_bind(stmt, 2, event->namespace_);
    journal_bind(stmt, 3, event->sandbox_id);
    sqlite3_bind_int64(stmt, 4, event->type);
    sqlite3_bind_int64(stmt, 5, event->at_unix_ms);
    journal_bind(stmt, 6, event->data);
    if (journal_step(journal, stmt, err) < 0)
        return -1;
    return sqlite3_changes(journal->db) > 0;
}

/* The lock is held. */
static int make_deliveries(struct journal *journal, const struct journal_event *event,
                           size_t *deliveries, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_EVENT_DELIVER, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, event->id);
    sqlite3_bind_int64(stmt, 2, event->at_unix_ms);
    journal_bind(stmt, 3, event->namespace_);
    sqlite3_bind_int64(stmt, 4, event->type);
    if (journal_step(journal, stmt, err) < 0)
        return -1;
    *deliveries = (size_t)sqlite3_changes(journal->db);
    return 0;
}

int journal_event_add(struct journal *journal, const struct journal_event *event,
                      size_t *deliveries, struct err *err)
{
    int rc;

    *deliveries = 0;
    if (journal_lock(journal, err) < 0)
        return -1;
    rc = note_sandbox(journal, event, err);
    if (rc == 0)
        rc = insert_event(journal, event, err);
    if (rc > 0)
        rc = make_deliveries(journal, event, deliveries, err);
    return journal_unlock(journal, rc, err);
}

static bool read_event(sqlite3_stmt *stmt, struct journal_event *out)
{
    if (!store_column_copy(stmt, 0, out->id, sizeof(out->id)) ||
        !store_column_copy(stmt, 1, out->namespace_, sizeof(out->namespace_)) ||
        !store_column_copy(stmt, 2, out->sandbox_id, sizeof(out->sandbox_id)))
        return false;
    out->type = (unsigned)sqlite3_column_int(stmt, 3);
    out->at_unix_ms = sqlite3_column_int64(stmt, 4);
    out->data = journal_text(stmt, 5);
    return out->data != NULL;
}

int journal_event_list(struct journal *journal, const struct journal_event_query *query,
                       struct journal_event **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(
        journal, query->ascending ? JOURNAL_EVENT_LIST_ASC : JOURNAL_EVENT_LIST_DESC, err);
    struct journal_event *list;
    size_t used = 0;
    int rc;

    if (stmt == NULL)
        return -1;
    list = mem_calloc(query->limit + 1, sizeof(*list));
    journal_bind(stmt, 1, query->namespace_);
    journal_bind(stmt, 2, query->sandbox_id);
    sqlite3_bind_int64(stmt, 3, query->types);
    sqlite3_bind_int64(stmt, 4, (int64_t)query->limit);
    sqlite3_bind_int64(stmt, 5, (int64_t)query->offset);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (used < query->limit && read_event(stmt, &list[used]))
            used++;
    }
    if (rc != SQLITE_DONE)
        journal_fail(journal, rc, "list of events", err);
    journal_end(journal, stmt);
    if (rc != SQLITE_DONE) {
        journal_events_free(list, used);
        return -1;
    }
    *out = list;
    *count = used;
    return 0;
}

int journal_open_sandboxes(struct journal *journal, char (**out)[SANDBOX_ID_SIZE], size_t *count,
                           struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_SANDBOX_OPEN, err);
    char(*list)[SANDBOX_ID_SIZE] = NULL;
    size_t used = 0, cap = 0;
    int rc;

    if (stmt == NULL)
        return -1;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (used == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            list = mem_realloc_array(list, cap, sizeof(*list));
        }
        if (store_column_copy(stmt, 0, list[used], sizeof(list[used])))
            used++;
    }
    if (rc != SQLITE_DONE)
        journal_fail(journal, rc, "list of open sandboxes", err);
    journal_end(journal, stmt);
    if (rc != SQLITE_DONE) {
        free(list);
        return -1;
    }
    *out = list;
    *count = used;
    return 0;
}

int journal_owner(struct journal *journal, const char *sandbox_id, char out[NAMESPACE_SIZE],
                  struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_SANDBOX_OWNER, err);
    int rc, result = 0;

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, sandbox_id);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_DONE || (rc == SQLITE_ROW && !store_column_copy(stmt, 0, out, NAMESPACE_SIZE)))
        result = err_set(err, ERR_NOT_FOUND, "no sandbox with id '%.64s'", sandbox_id);
    else if (rc != SQLITE_ROW)
        result = journal_fail(journal, rc, "owner", err);
    journal_end(journal, stmt);
    return result;
}
