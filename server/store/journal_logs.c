/* Log lines and samples: many short rows, written together. */
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/store/journal_private.h"
#include "server/store/store_private.h"

static int insert_line(struct journal *journal, const struct journal_line *line, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_LOG_ADD, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, line->sandbox_id);
    sqlite3_bind_int64(stmt, 2, line->at_unix_ms);
    sqlite3_bind_int64(stmt, 3, line->level);
    journal_bind(stmt, 4, line->text);
    return journal_step(journal, stmt, err);
}

int journal_logs_add(struct journal *journal, const struct journal_line *lines, size_t count,
                     struct err *err)
{
    int rc = 0;

    if (journal_lock(journal, err) < 0)
        return -1;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = insert_line(journal, &lines[i], err);
    return journal_unlock(journal, rc, err);
}

int journal_logs_trim(struct journal *journal, const char *sandbox_id, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_LOG_TRIM, err);
    int rc;

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, sandbox_id);
    rc = journal_step(journal, stmt, err);
    journal_end(journal, stmt);
    return rc;
}

void journal_lines_free(struct journal_line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(lines[i].text);
    free(lines);
}

static bool read_line(sqlite3_stmt *stmt, void *row)
{
    struct journal_line *line = row;

    line->at_unix_ms = sqlite3_column_int64(stmt, 0);
    line->level = (unsigned)sqlite3_column_int(stmt, 1);
    line->text = journal_text(stmt, 2);
    return true;
}

static void clear_line(void *row)
{
    free(((struct journal_line *)row)->text);
}

static const struct row_kind line_rows = {.name = "list of log lines",
                                          .size = sizeof(struct journal_line),
                                          .read = read_line,
                                          .clear = clear_line};

int journal_logs_list(struct journal *journal, const struct journal_log_query *query,
                      struct journal_line **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(
        journal, query->descending ? JOURNAL_LOG_LIST_DESC : JOURNAL_LOG_LIST_ASC, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, query->sandbox_id);
    sqlite3_bind_int64(stmt, 2, query->from_unix_ms);
    sqlite3_bind_int64(stmt, 3, query->to_unix_ms);
    sqlite3_bind_int64(stmt, 4, query->level);
    journal_bind(stmt, 5, query->search);
    sqlite3_bind_int64(stmt, 6, (int64_t)query->limit);
    if (journal_rows(journal, stmt, &line_rows, out, count, err) < 0)
        return -1;
    for (size_t i = 0; i < *count; i++)
        str_copy((*out)[i].sandbox_id, SANDBOX_ID_SIZE, query->sandbox_id,
                 strlen(query->sandbox_id));
    return 0;
}

/* --- samples --------------------------------------------------------------------------------- */

static int insert_sample(struct journal *journal, const struct journal_sample *sample,
                         struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_SAMPLE_ADD, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, sample->sandbox_id);
    sqlite3_bind_int64(stmt, 2, sample->at_unix_s);
    sqlite3_bind_int64(stmt, 3, sample->cpu_count);
    sqlite3_bind_int64(stmt, 4, sample->cpu_centi);
    sqlite3_bind_int64(stmt, 5, (int64_t)sample->memory_used);
    sqlite3_bind_int64(stmt, 6, (int64_t)sample->memory_total);
    sqlite3_bind_int64(stmt, 7, (int64_t)sample->memory_cache);
    sqlite3_bind_int64(stmt, 8, (int64_t)sample->disk_used);
    sqlite3_bind_int64(stmt, 9, (int64_t)sample->disk_total);
    return journal_step(journal, stmt, err);
}

int journal_samples_add(struct journal *journal, const struct journal_sample *samples, size_t count,
                        struct err *err)
{
    int rc = 0;

    if (journal_lock(journal, err) < 0)
        return -1;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = insert_sample(journal, &samples[i], err);
    return journal_unlock(journal, rc, err);
}

static bool read_sample(sqlite3_stmt *stmt, void *row)
{
    struct journal_sample *out = row;

    out->at_unix_s = sqlite3_column_int64(stmt, 0);
    out->cpu_count = (uint32_t)sqlite3_column_int64(stmt, 1);
    out->cpu_centi = (uint32_t)sqlite3_column_int64(stmt, 2);
    out->memory_used = (uint64_t)sqlite3_column_int64(stmt, 3);
    out->memory_total = (uint64_t)sqlite3_column_int64(stmt, 4);
    out->memory_cache = (uint64_t)sqlite3_column_int64(stmt, 5);
    out->disk_used = (uint64_t)sqlite3_column_int64(stmt, 6);
    out->disk_total = (uint64_t)sqlite3_column_int64(stmt, 7);
    return true;
}

static const struct row_kind sample_rows = {
    .name = "list of samples", .size = sizeof(struct journal_sample), .read = read_sample};

int journal_samples_list(struct journal *journal, const char *sandbox_id, int64_t from_unix_s,
                         int64_t to_unix_s, struct journal_sample **out, size_t *count,
                         struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_SAMPLE_LIST, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, sandbox_id);
    sqlite3_bind_int64(stmt, 2, from_unix_s);
    sqlite3_bind_int64(stmt, 3, to_unix_s);
    if (journal_rows(journal, stmt, &sample_rows, out, count, err) < 0)
        return -1;
    for (size_t i = 0; i < *count; i++)
        str_copy((*out)[i].sandbox_id, SANDBOX_ID_SIZE, sandbox_id, strlen(sandbox_id));
    return 0;
}

/* --- namespaces ------------------------------------------------------------------------------ */

static int insert_team(struct journal *journal, const struct journal_team *row, struct err *err)
{
    sqlite3_stmt *stmt = journal_stmt(journal, JOURNAL_TEAM_ADD, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, row->namespace_);
    sqlite3_bind_int64(stmt, 2, row->at_unix_s);
    sqlite3_bind_int64(stmt, 3, row->concurrent);
    sqlite3_bind_int64(stmt, 4, row->started);
    return journal_step(journal, stmt, err);
}

int journal_team_add(struct journal *journal, const struct journal_team *rows, size_t count,
                     struct err *err)
{
    int rc = 0;

    if (journal_lock(journal, err) < 0)
        return -1;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = insert_team(journal, &rows[i], err);
    return journal_unlock(journal, rc, err);
}

static bool read_team(sqlite3_stmt *stmt, void *row)
{
    struct journal_team *team = row;

    team->at_unix_s = sqlite3_column_int64(stmt, 0);
    team->concurrent = (uint32_t)sqlite3_column_int64(stmt, 1);
    team->started = (uint32_t)sqlite3_column_int64(stmt, 2);
    return true;
}

static const struct row_kind team_rows = {
    .name = "list of team figures", .size = sizeof(struct journal_team), .read = read_team};

int journal_team_list(struct journal *journal, const char *namespace_, int64_t from_unix_s,
                      int64_t to_unix_s, struct journal_team **out, size_t *count, struct err *err)
{
    sqlite3_stmt *stmt = journal_begin(journal, JOURNAL_TEAM_LIST, err);

    if (stmt == NULL)
        return -1;
    journal_bind(stmt, 1, namespace_);
    sqlite3_bind_int64(stmt, 2, from_unix_s);
    sqlite3_bind_int64(stmt, 3, to_unix_s);
    if (journal_rows(journal, stmt, &team_rows, out, count, err) < 0)
        return -1;
    for (size_t i = 0; i < *count; i++)
        str_copy((*out)[i].namespace_, NAMESPACE_SIZE, namespace_, strlen(namespace_));
    return 0;
}
