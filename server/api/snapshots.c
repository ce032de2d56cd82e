/*
 * server/api/snapshots.c - snapshots: make one, list them, delete what a snapshot id means.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mapper/template_id.h"
#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/list_query.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/limits.h"

/* SnapshotInfo. */
static json_t *wire_snapshot(const struct snapshot *snapshot)
{
    json_t *object = json_object(), *names = json_array();
    char id[SNAPSHOT_ID_SIZE];

    snapshot_public_id(snapshot, id); /* fits: checked when it was named */
    if (snapshot->name[0] != '\0')
        json_array_append_new(names, json_string(id));
    json_put_str(object, "snapshotID", id);
    json_put(object, "names", names);
    return object;
}

struct snapshot_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[SANDBOX_ID_SIZE];
    char *name;               /* owned; of the new one, or what to delete; NULL: none */
    struct snapshot snapshot; /* the result */
    int rc;
    struct err err;
};

static void op_free(struct snapshot_op *op)
{
    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    snapshot_clear(&op->snapshot);
    free(op->name);
    free(op);
}

static void cleanup_op(struct snapshot_op **op)
{
    op_free(*op);
}

static struct snapshot_op *op_new(struct request *req)
{
    struct snapshot_op *op = mem_zalloc(sizeof(*op));

    op->api = request_api(req);
    op->who = *request_identity(req);
    return op;
}

/* Hand *OP to a worker; it is the work's on success, still the caller's on failure. */
static int op_submit(struct request *req, struct snapshot_op **op, void (*run)(struct work *work),
                     void (*done)(struct work *work), struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, done, err) < 0)
        return -1;                     /* queue full: ERR_BUSY */
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

/* --- POST /sandboxes/{sandboxID}/snapshots --------------------------------------------------- */

static void snapshot_run(struct work *work)
{
    struct snapshot_op *op = container_of(work, struct snapshot_op, work);
    const struct lifecycle_snapshot request = {
        .namespace_ = op->who.namespace_,
        .client = op->who.client,
        .sandbox_id = op->id,
        .name = op->name,
    };

    op->rc = lifecycle_snapshot(op->api->lifecycle, &request, &op->snapshot, &op->err);
}

static void snapshot_done(struct work *work)
{
    struct snapshot_op *op = container_of(work, struct snapshot_op, work);

    if (op->rc == 0) {
        reply_header(op->reply, KEPT_HEADER, KEPT_FILES);
        reply_json(op->reply, 201, wire_snapshot(&op->snapshot));
    } else {
        reply_err(op->reply, &op->err);
    }
    op_free(op);
}

static int parse_body(struct request *req, char **name, struct err *err)
{
    _cleanup_json_ json_t *body = body_json(req, err);
    const char *text = NULL;
    bool memory = true; /* what is kept is said in the answer, whatever was asked for */

    if (body == NULL)
        return -1;
    if (json_get_str(body, "name", &text, err) < 0 ||
        json_get_bool(body, "memory", &memory, err) < 0)
        return error_schema(err);
    *name = mem_strdup(text);
    return 0;
}

int sandbox_snapshot(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct snapshot_op *op = op_new(req);
    const char *id = request_param(req, "sandboxID");

    if (sandbox_id_parse(id, strlen(id), op->id, err) < 0 || parse_body(req, &op->name, err) < 0)
        return -1;
    return op_submit(req, &op, snapshot_run, snapshot_done, err);
}

/* --- DELETE /templates/{templateID} ---------------------------------------------------------- */

static void delete_run(struct work *work)
{
    struct snapshot_op *op = container_of(work, struct snapshot_op, work);

    op->rc = lifecycle_snapshot_delete(op->api->lifecycle, op->who.namespace_, op->name, &op->err);
}

static void delete_done(struct work *work)
{
    struct snapshot_op *op = container_of(work, struct snapshot_op, work);

    if (op->rc == 0)
        reply_empty(op->reply, 204);
    else
        reply_err(op->reply, &op->err);
    op_free(op);
}

/* The only templates that clients make, so far, are snapshots. */
int template_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct snapshot_op *op = op_new(req);
    const char *ref = request_param(req, "templateID");
    struct template template;

    op->name = mem_strdup(ref);
    if (lifecycle_template_get(op->api->lifecycle, op->who.namespace_, ref, &template, err) == 0 &&
        template.is_public)
        return err_set(err, ERR_FORBIDDEN, "template '%.200s' is built in and cannot be deleted",
                       ref);
    return op_submit(req, &op, delete_run, delete_done, err);
}

/* --- GET /snapshots -------------------------------------------------------------------------- */

struct filter {
    char sandbox_id[SANDBOX_ID_SIZE]; /* "": any */
    bool named;
    struct template_id name;
    size_t limit;
    bool after_set;
    struct list_key after;
};

static int parse_filter(struct request *req, struct filter *out, struct err *err)
{
    const char *sandbox = request_query(req, "sandboxID"), *name = request_query(req, "name");
    const char *limit = request_query(req, "limit"), *token = request_query(req, "nextToken");
    uint64_t value = LIST_LIMIT_MAX;

    if (sandbox != NULL && sandbox[0] != '\0' &&
        sandbox_id_parse(sandbox, strlen(sandbox), out->sandbox_id, err) < 0)
        return -1;
    out->named = name != NULL && name[0] != '\0';
    if (out->named && template_id_parse(name, strlen(name), &out->name, err) < 0)
        return -1;
    if (limit != NULL &&
        str_to_u64(limit, strlen(limit), 1, LIST_LIMIT_MAX, "parameter 'limit'", &value, err) < 0)
        return error_schema(err);
    out->limit = (size_t)value;
    out->after_set = token != NULL && token[0] != '\0';
    return out->after_set ? list_token_parse(token, false, &out->after, err) : 0;
}

/* A name or template id; without a tag any. */
static bool has_name(const struct snapshot *snapshot, const struct template_id *ref)
{
    bool by_id = ref->namespace_[0] == '\0' && str_eq(ref->name, snapshot->template_id);
    bool by_name = str_eq(ref->name, snapshot->name) &&
                   (ref->namespace_[0] == '\0' || str_eq(ref->namespace_, snapshot->namespace_));

    return (by_id || by_name) && (ref->tag[0] == '\0' || str_eq(ref->tag, snapshot->tag) ||
                                  str_eq(ref->tag, snapshot->build_id));
}

static bool wanted(const struct filter *filter, const struct snapshot *snapshot)
{
    if (filter->sandbox_id[0] != '\0' && !str_eq(filter->sandbox_id, snapshot->sandbox_id))
        return false;
    if (filter->named && !has_name(snapshot, &filter->name))
        return false;
    if (!filter->after_set)
        return true;
    if (snapshot->created_unix_ms != filter->after.started_unix_ms)
        return snapshot->created_unix_ms < filter->after.started_unix_ms;
    return strcmp(snapshot->id, filter->after.id) < 0;
}

static void send_page(struct request *req, const struct filter *filter, const struct snapshot *list,
                      size_t count)
{
    json_t *items = json_array();
    struct list_key last = {0};
    char token[LIST_TOKEN_SIZE];

    for (size_t i = 0; i < count; i++) {
        if (!wanted(filter, &list[i]))
            continue;
        if (json_array_size(items) == filter->limit) { /* there is more */
            list_token_format(&last, false, token);
            reply_header(request_reply(req), "x-next-token", token);
            break;
        }
        json_array_append_new(items, wire_snapshot(&list[i]));
        last.started_unix_ms = list[i].created_unix_ms;
        memcpy(last.id, list[i].id, sizeof(last.id));
    }
    reply_json(request_reply(req), 200, items);
}

int snapshots_list(struct request *req, struct err *err)
{
    struct filter filter = {0};
    struct snapshot *list = NULL;
    size_t count = 0;

    if (parse_filter(req, &filter, err) < 0)
        return -1;
    lifecycle_snapshot_list(request_api(req)->lifecycle, request_identity(req)->namespace_, &list,
                            &count);
    send_page(req, &filter, list, count);
    snapshot_list_free(list, count);
    return 0;
}
