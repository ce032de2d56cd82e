/*
 * server/api/sandboxes_list.c - GET /sandboxes and GET /v2/sandboxes, from memory.
 */
#include <stdio.h>
#include <string.h>

#include "mapper/template_id.h"
#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/list_query.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/limits.h"

#define _cleanup_query_ _cleanup_(list_query_clear)

struct page {
    json_t *items;
    size_t running; /* matching ones before paging */
    bool more;
    struct list_key last;
};

/* One more of the sandboxes in the query's order. */
static void page_add(struct page *page, const struct api *api, const struct list_query *query,
                     const struct sandbox *sandbox)
{
    if (!list_wants_state(query, sandbox) || !list_matches(query, sandbox))
        return;
    if (str_eq(sandbox_state_public(sandbox->state), "running"))
        page->running++;
    if (!list_is_after(query, sandbox))
        return;
    if (json_array_size(page->items) == query->limit) {
        page->more = true;
        return;
    }
    json_array_append_new(page->items, wire_listed(api, sandbox));
    page->last.started_unix_ms = sandbox->started_unix_ms;
    memcpy(page->last.id, sandbox->id, sizeof(page->last.id));
}

static int page_fill(struct request *req, const struct list_query *query, struct page *page,
                     struct err *err)
{
    struct api *api = request_api(req);
    struct sandbox *list = NULL;
    size_t count = 0;

    if (lifecycle_list(api->lifecycle, request_identity(req)->namespace_, &list, &count, err) < 0)
        return -1;
    page->items = json_array();
    for (size_t i = 0; i < count; i++)
        page_add(page, api, query, &list[query->ascending ? count - 1 - i : i]);
    sandbox_list_free(list, count);
    return 0;
}

static int parse_metadata(struct request *req, struct list_query *query, struct err *err)
{
    const char *value = request_query(req, "metadata");

    return value != NULL ? list_metadata_parse(value, &query->metadata, err) : 0;
}

int sandboxes_list_v1(struct request *req, struct err *err)
{
    _cleanup_query_ struct list_query query = {
        .running = true, .limit = SIZE_MAX, .started_after_us = INT64_MIN};
    struct page page = {0};

    if (parse_metadata(req, &query, err) < 0 || page_fill(req, &query, &page, err) < 0)
        return -1;
    reply_json(request_reply(req), 200, page.items);
    return 0;
}

/* The template filter. *KNOWN false: there is no such template, so nothing matches. */
static int parse_template(struct request *req, struct template *template, struct list_query *query,
                          bool *known, struct err *err)
{
    const char *ref = request_query(req, "template");
    struct template_id id;

    *known = true;
    if (ref == NULL || ref[0] == '\0')
        return 0;
    if (template_id_parse(ref, strlen(ref), &id, err) < 0)
        return -1;
    if (id.tag[0] != '\0')
        return err_set(err, ERR_INVALID,
                       "Invalid template: tags are not supported here because sandboxes are not "
                       "tag-scoped");
    if (lifecycle_template_get(request_api(req)->lifecycle, request_identity(req)->namespace_, ref,
                               template, err) == 0) {
        query->template_id = template->id;
        return 0;
    }
    *known = false;
    return err->code == ERR_NOT_FOUND ? 0 : -1;
}

static int parse_page(struct request *req, struct list_query *query, struct err *err)
{
    const char *limit = request_query(req, "limit"), *token = request_query(req, "nextToken");
    uint64_t value = LIST_LIMIT_MAX;

    if (list_order_parse(request_query(req, "order"), &query->ascending, err) < 0)
        return -1;
    if (limit != NULL &&
        str_to_u64(limit, strlen(limit), 1, LIST_LIMIT_MAX, "parameter 'limit'", &value, err) < 0)
        return error_schema(err);
    query->limit = (size_t)value;
    if (token == NULL || token[0] == '\0')
        return 0;
    query->after_set = true;
    return list_token_parse(token, query->ascending, &query->after, err);
}

static void send_page(struct request *req, const struct list_query *query, const struct page *page)
{
    struct reply *reply = request_reply(req);
    char token[LIST_TOKEN_SIZE], total[24];

    if (page->more) {
        list_token_format(&page->last, query->ascending, token);
        reply_header(reply, "x-next-token", token);
    }
    if (query->running) {
        snprintf(total, sizeof(total), "%zu", page->running);
        reply_header(reply, "x-total-running", total);
    }
    reply_json(reply, 200, page->items);
}

int sandboxes_list_v2(struct request *req, struct err *err)
{
    _cleanup_query_ struct list_query query = {.started_after_us = INT64_MIN};
    struct page page = {0};
    struct template template;
    bool known;

    if (parse_metadata(req, &query, err) < 0 ||
        list_states_parse(request_query(req, "state"), &query, err) < 0 ||
        list_started_after_parse(request_query(req, "startedAfter"), &query.started_after_us, err) <
            0 ||
        parse_page(req, &query, err) < 0 || parse_template(req, &template, &query, &known, err) < 0)
        return -1;
    if (!known)
        page.items = json_array();
    else if (page_fill(req, &query, &page, err) < 0)
        return -1;
    send_page(req, &query, &page);
    return 0;
}
