/*
 * server/api/logs.c - GET /sandboxes/{id}/logs and GET /v2/sandboxes/{id}/logs.
 *
 * Source: platform-api.md section 5; the CLI reads `line` as JSON and wants a `level` in it.
 */
#include <stdio.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/view.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/observe/observe.h"

#define LOGS_DEFAULT 1000
#define LOGS_V2_MAX 1000
#define SEARCH_MAX 256
#define UNIX_MS_MAX 253402300799999 /* the end of year 9999 */
#define AHEAD_MS 60000              /* lines of one moment are told apart by going ahead of it */

static const char *text_of(const json_t *line, const char *key)
{
    const char *text = json_string_value(json_object_get(line, key));

    return text != NULL ? text : "";
}

/* The other fields, all as text. */
static json_t *fields_of(const json_t *line)
{
    json_t *fields = json_object();
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)line, key, value) {
        if (str_eq(key, "message") || str_eq(key, "level"))
            continue;
        if (json_is_string(value)) {
            json_put(fields, key, json_incref(value));
        } else {
            _cleanup_free_ char *text = json_dumps(value, JSON_ENCODE_ANY);
            json_put_str(fields, key, text);
        }
    }
    return fields;
}

/* SandboxLogEntry. NULL when the journal's text is no line. */
static json_t *wire_entry(const struct journal_line *line, const char *stamp)
{
    struct err ignored = {0};
    _cleanup_json_ json_t *json = json_parse_object(line->text, strlen(line->text), &ignored);
    json_t *entry;

    if (json == NULL)
        return NULL;
    entry = json_object();
    json_put_str(entry, "timestamp", stamp);
    json_put_str(entry, "message", text_of(json, "message"));
    json_put_str(entry, "level", text_of(json, "level"));
    json_put(entry, "fields", fields_of(json));
    return entry;
}

/* ENTRIES, and LINES unless it is NULL, get what the view asks for. */
static int fetch(struct view *view, json_t *lines, json_t *entries, struct err *err)
{
    const struct journal_log_query query = {
        .sandbox_id = view->id,
        .from_unix_ms = view->from,
        .to_unix_ms = view->to,
        .level = view->level,
        .search = view->text,
        .limit = view->limit,
        .descending = !view->forward,
    };
    struct journal_line *found = NULL;
    size_t count = 0;

    if (observe_may_see(view->api->observe, view->who.namespace_, view->id, err) < 0 ||
        observe_logs(view->api->observe, &query, &found, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char stamp[TIME_RFC3339_SIZE];
        time_rfc3339_ms(found[i].at_unix_ms, stamp);
        json_t *entry = wire_entry(&found[i], stamp);
        if (entry == NULL)
            continue;
        json_array_append_new(entries, entry);
        if (lines != NULL) {
            json_t *line = json_object();
            json_put_str(line, "timestamp", stamp);
            json_put_str(line, "line", found[i].text);
            json_array_append_new(lines, line);
        }
    }
    journal_lines_free(found, count);
    return 0;
}

static json_t *make_v1(struct view *view, struct err *err)
{
    _cleanup_json_ json_t *answer = json_object();
    json_t *lines = json_array(), *entries = json_array();

    json_put(answer, "logs", lines);
    json_put(answer, "logEntries", entries);
    return fetch(view, lines, entries, err) < 0 ? NULL : steal_ptr(&answer);
}

static int parse_limit(struct request *req, int64_t max, struct view *view, struct err *err)
{
    int64_t limit = LOGS_DEFAULT;

    if (view_number(req, "limit", 0, max, &limit, err) < 0)
        return -1;
    if (limit > JOURNAL_LOGS_SANDBOX_MAX)
        limit = JOURNAL_LOGS_SANDBOX_MAX;
    view->limit = (size_t)limit;
    return 0;
}

int sandbox_logs_v1(struct request *req, struct err *err)
{
    _cleanup_view_ struct view *view = view_new(req, err);

    if (view == NULL)
        return -1;
    view->from = time_unix_ms() - JOURNAL_KEEP_MS;
    view->to = UNIX_MS_MAX;
    view->forward = true;
    if (view_number(req, "start", 0, UNIX_MS_MAX, &view->from, err) < 0 ||
        parse_limit(req, INT32_MAX, view, err) < 0)
        return -1;
    return view_submit(req, &view, make_v1, err);
}

static json_t *make_v2(struct view *view, struct err *err)
{
    _cleanup_json_ json_t *answer = json_object();
    json_t *entries = json_array();

    json_put(answer, "logs", entries);
    return fetch(view, NULL, entries, err) < 0 ? NULL : steal_ptr(&answer);
}

static int parse_words(struct request *req, struct view *view, struct err *err)
{
    const char *direction = request_query(req, "direction"), *level = request_query(req, "level");
    const char *search = request_query(req, "search");
    enum log_level least = LOG_DEBUG;

    view->forward = str_eq(direction, "forward");
    if (direction != NULL && !view->forward && !str_eq(direction, "backward"))
        err_set(err, ERR_INVALID, "parameter 'direction' must be forward or backward");
    else if (level != NULL && log_level_parse(level, &least) < 0)
        err_set(err, ERR_INVALID, "parameter 'level' must be debug, info, warn or error");
    else if (search != NULL && strlen(search) > SEARCH_MAX)
        err_set(err, ERR_INVALID, "parameter 'search' is longer than %d bytes", SEARCH_MAX);
    if (err->code != ERR_NONE)
        return error_schema(err);
    view->level = least;
    if (search != NULL && search[0] != '\0')
        view->text = mem_strdup(search);
    return 0;
}

/* Without a cursor: the last 7 days. With one: 7 days on from it, in the direction. */
static int parse_window(struct request *req, struct view *view, struct err *err)
{
    int64_t now = time_unix_ms(), cursor = -1;

    if (view_number(req, "cursor", 0, UNIX_MS_MAX, &cursor, err) < 0)
        return -1;
    view->from = now - JOURNAL_KEEP_MS;
    view->to = now + AHEAD_MS;
    if (cursor < 0)
        return 0;
    view->from = view->forward ? cursor : cursor - JOURNAL_KEEP_MS;
    view->to = view->forward ? cursor + JOURNAL_KEEP_MS : cursor;
    return 0;
}

int sandbox_logs_v2(struct request *req, struct err *err)
{
    _cleanup_view_ struct view *view = view_new(req, err);

    if (view == NULL || parse_limit(req, LOGS_V2_MAX, view, err) < 0 ||
        parse_words(req, view, err) < 0 || parse_window(req, view, err) < 0)
        return -1;
    return view_submit(req, &view, make_v2, err);
}
