/*
 * server/api/events.c - what happened to sandboxes. Source: platform-api.md section 10.
 */
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/view.h"
#include "server/base/str.h"
#include "server/observe/observe.h"

#define EVENTS_DEFAULT 10
#define EVENTS_MAX 100
#define OFFSET_MAX 1000000

static json_t *make_events(struct view *view, struct err *err)
{
    const struct journal_event_query query = {
        .namespace_ = view->who.namespace_,
        .sandbox_id = view->id[0] != '\0' ? view->id : NULL,
        .types = view->types,
        .offset = view->offset,
        .limit = view->limit,
        .ascending = view->forward,
    };
    struct journal_event *events = NULL;
    json_t *list;
    size_t count = 0;

    if (view->id[0] != '\0' &&
        observe_may_see(view->api->observe, view->who.namespace_, view->id, err) < 0)
        return NULL;
    if (journal_event_list(observe_journal(view->api->observe), &query, &events, &count, err) < 0)
        return NULL;
    list = json_array();
    for (size_t i = 0; i < count; i++) {
        struct err ignored = {0};
        json_t *event = json_parse_object(events[i].data, strlen(events[i].data), &ignored);
        if (event != NULL)
            json_array_append_new(list, event);
    }
    journal_events_free(events, count);
    return list;
}

/* `types`, repeated or comma-joined; none: all. */
static int parse_types(struct request *req, uint32_t *out, struct err *err)
{
    size_t at = 0;
    const char *value;

    *out = 0;
    while ((value = request_query_next(req, "types", &at)) != NULL) {
        for (const char *p = value; *p != '\0'; p += strspn(p, ",")) {
            char name[64];
            size_t len = strcspn(p, ",");
            int type = str_copy(name, sizeof(name), p, len) == 0 ? observe_event_type(name) : -1;
            if (type < 0) {
                err_set(err, ERR_INVALID, "'%.*s' is no type of event", (int)(len < 64 ? len : 64),
                        p);
                return error_schema(err);
            }
            *out |= 1u << type;
            p += len;
        }
    }
    if (*out == 0)
        *out = OBSERVE_EVENTS_ALL;
    return 0;
}

static int parse_order(struct request *req, bool *ascending, struct err *err)
{
    const char *text = request_query(req, "orderAsc");

    *ascending = str_eq(text, "true");
    if (text == NULL || *ascending || str_eq(text, "false"))
        return 0;
    err_set(err, ERR_INVALID, "parameter 'orderAsc' must be true or false");
    return error_schema(err);
}

/* GET /events/sandboxes and GET /events/sandboxes/{sandboxID}. */
int events_list(struct request *req, struct err *err)
{
    _cleanup_view_ struct view *view = view_new(req, err);
    int64_t limit = EVENTS_DEFAULT, offset = 0;

    if (view == NULL || view_number(req, "limit", 1, EVENTS_MAX, &limit, err) < 0 ||
        view_number(req, "offset", 0, OFFSET_MAX, &offset, err) < 0 ||
        parse_types(req, &view->types, err) < 0 || parse_order(req, &view->forward, err) < 0)
        return -1;
    view->limit = (size_t)limit;
    view->offset = (size_t)offset;
    return view_submit(req, &view, make_events, err);
}
