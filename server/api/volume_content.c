/*
 * server/api/volume_content.c - the files of a volume: look, change, remove, list, make folders.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/volume_op.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/limits.h"

/* A helper may work long (a large tree to remove): it must not take every worker with it. */
static _Atomic unsigned calls;

static int count_call(struct content_op *op, struct err *err)
{
    if (atomic_fetch_add(&calls, 1) >= VOLUME_CALLS_MAX) {
        atomic_fetch_sub(&calls, 1);
        return err_set(err, ERR_BUSY, "too many operations on volumes at once; try again");
    }
    op->counted = true;
    return 0;
}

static void uncount_call(struct content_op *op)
{
    if (op->counted)
        atomic_fetch_sub(&calls, 1);
    op->counted = false;
}

void content_op_free(struct content_op *op)
{
    if (op == NULL)
        return;
    uncount_call(op);
    if (op->reply != NULL)
        reply_unref(op->reply);
    volume_answer_clear(&op->answer);
    free(op->body);
    free(op);
}

void cleanup_content_op(struct content_op **op)
{
    content_op_free(*op);
}

struct content_op *content_op_new(struct request *req, enum volume_verb verb, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = mem_zalloc(sizeof(*op));
    const char *path = request_query(req, "path");

    op->answer = (struct volume_answer)VOLUME_ANSWER_NONE;
    op->api = request_api(req);
    op->workers = request_workers(req);
    op->who = *request_identity(req);
    op->request.verb = verb;
    op->request.uid = op->request.gid = op->request.mode = -1;
    if (volume_id_parse(request_param(req, "volumeID"), op->id, err) < 0)
        return NULL;
    if (path == NULL) {
        err_set(err, ERR_INVALID, "validation error: query parameter 'path' is required");
        return NULL;
    }
    if (volume_path_clean(path, op->request.path, err) < 0) {
        error_schema(err);
        return NULL;
    }
    if (count_call(op, err) < 0)
        return NULL;
    return steal_ptr(&op);
}

/* The query's NAME between 0 and MAX into *OUT, which stays when it is absent. */
static int query_number(struct request *req, const char *name, int64_t min, int64_t max,
                        int32_t *out, struct err *err)
{
    const char *text = request_query(req, name);
    int64_t value;

    if (text == NULL)
        return 0;
    if (str_to_i64(text, strlen(text), min, max, name, &value, err) < 0)
        return error_schema(err);
    *out = (int32_t)value;
    return 0;
}

static int query_bool(struct request *req, const char *name, bool *out, struct err *err)
{
    const char *text = request_query(req, name);

    if (text == NULL)
        return 0;
    if (!str_eq(text, "true") && !str_eq(text, "false"))
        return err_set(err, ERR_INVALID,
                       "validation error: query parameter '%s' must be true or false", name);
    *out = str_eq(text, "true");
    return 0;
}

int content_op_query(struct request *req, struct content_op *op, struct err *err)
{
    struct volume_request *request = &op->request;

    if (query_number(req, "uid", 0, VOLUME_ID_MAX, &request->uid, err) < 0 ||
        query_number(req, "gid", 0, VOLUME_ID_MAX, &request->gid, err) < 0 ||
        query_number(req, "mode", 0, 07777, &request->mode, err) < 0)
        return -1;
    return query_bool(req, "force", &request->force, err);
}

static void op_run(struct work *work)
{
    struct content_op *op = container_of(work, struct content_op, work);

    op->rc = lifecycle_volume_do(op->api->lifecycle, op->who.namespace_, op->id, &op->request,
                                 &op->answer, &op->err);
    uncount_call(op);
}

int content_op_submit(struct request *req, struct content_op **op, void (*done)(struct work *work),
                      struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, op_run, done, err) < 0)
        return -1;                     /* queue full: ERR_BUSY */
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

void content_op_reply(struct content_op *op, int status)
{
    if (op->rc == 0 && op->answer.count != 1)
        op->rc = err_set(&op->err, ERR_INTERNAL, "a volume gave no entry");
    if (op->rc == 0)
        reply_json(op->reply, status, wire_volume_entry(&op->answer.entries[0]));
    else
        reply_err(op->reply, &op->err);
    content_op_free(op);
}

static void done_entry(struct work *work)
{
    content_op_reply(container_of(work, struct content_op, work), 200);
}

static void done_created(struct work *work)
{
    content_op_reply(container_of(work, struct content_op, work), 201);
}

int volume_stat(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_STAT, err);

    return op == NULL ? -1 : content_op_submit(req, &op, done_entry, err);
}

/* KEY of the body between 0 and MAX into *OUT, which stays when it is absent. */
static int body_number(const json_t *body, const char *key, int64_t max, int32_t *out,
                       struct err *err)
{
    int64_t value = -1;

    if (json_get_i64(body, key, 0, max, &value, err) < 0)
        return error_schema(err);
    *out = (int32_t)value;
    return 0;
}

int volume_set(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_SET, err);
    _cleanup_json_ json_t *body = NULL;

    if (op == NULL)
        return -1;
    body = request_json(req, err);
    if (body == NULL)
        return error_parse(err);
    if (body_number(body, "uid", VOLUME_ID_MAX, &op->request.uid, err) < 0 ||
        body_number(body, "gid", VOLUME_ID_MAX, &op->request.gid, err) < 0 ||
        body_number(body, "mode", 07777, &op->request.mode, err) < 0)
        return -1;
    return content_op_submit(req, &op, done_entry, err);
}

static void done_empty(struct work *work)
{
    struct content_op *op = container_of(work, struct content_op, work);

    if (op->rc == 0)
        reply_empty(op->reply, 204);
    else
        reply_err(op->reply, &op->err);
    content_op_free(op);
}

int volume_remove(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_REMOVE, err);

    return op == NULL ? -1 : content_op_submit(req, &op, done_empty, err);
}

static void done_list(struct work *work)
{
    struct content_op *op = container_of(work, struct content_op, work);
    json_t *list;

    if (op->rc < 0) {
        reply_err(op->reply, &op->err);
        content_op_free(op);
        return;
    }
    list = json_array();
    for (size_t i = 0; i < op->answer.count; i++)
        json_array_append_new(list, wire_volume_entry(&op->answer.entries[i]));
    reply_json(op->reply, 200, list);
    content_op_free(op);
}

int volume_dir_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_LIST, err);
    int32_t depth = 1;

    if (op == NULL || query_number(req, "depth", 1, VOLUME_DEPTH_MAX, &depth, err) < 0)
        return -1;
    op->request.depth = (uint32_t)depth;
    return content_op_submit(req, &op, done_list, err);
}

int volume_dir_make(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_MAKE_DIR, err);

    if (op == NULL || content_op_query(req, op, err) < 0)
        return -1;
    return content_op_submit(req, &op, done_created, err);
}
