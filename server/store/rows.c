/* The loop that every list of rows is. */
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/store/journal_private.h"
#include "server/store/store_private.h"

static void rows_free(const struct row_kind *kind, char *rows, size_t count)
{
    for (size_t i = 0; i < count && kind->clear != NULL; i++)
        kind->clear(rows + i * kind->size);
    free(rows);
}

static int rows_read(sqlite3_stmt *stmt, const struct row_kind *kind, void *out, size_t *count)
{
    char *rows = NULL;
    size_t used = 0, cap = 0;
    int rc;

    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (used == cap) {
            cap = cap > 0 ? 2 * cap : 16;
            rows = mem_realloc_array(rows, cap, kind->size);
        }
        memset(rows + used * kind->size, 0, kind->size);
        if (kind->read(stmt, rows + used * kind->size))
            used++;
        else
            log_warn("a stored row cannot be read and does not count", "kind", kind->name, "row",
                     (const char *)sqlite3_column_text(stmt, 0));
    }
    if (rc != SQLITE_DONE) {
        rows_free(kind, rows, used);
        return rc;
    }
    *(void **)out = rows;
    *count = used;
    return SQLITE_OK;
}

int store_rows(struct store *store, sqlite3_stmt *stmt, const struct row_kind *kind, void *out,
               size_t *count, struct err *err)
{
    int rc = rows_read(stmt, kind, out, count);

    if (rc != SQLITE_OK)
        store_fail(store, rc, kind->name, err);
    store_end(store, stmt);
    return rc == SQLITE_OK ? 0 : -1;
}

int journal_rows(struct journal *journal, sqlite3_stmt *stmt, const struct row_kind *kind,
                 void *out, size_t *count, struct err *err)
{
    int rc = rows_read(stmt, kind, out, count);

    if (rc != SQLITE_OK)
        journal_fail(journal, rc, kind->name, err);
    journal_end(journal, stmt);
    return rc == SQLITE_OK ? 0 : -1;
}
