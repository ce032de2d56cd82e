/*
 * server/api/fork.c - POST /sandboxes/{sandboxID}/fork.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/model/limits.h"

struct fork_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[SANDBOX_ID_SIZE];
    struct lifecycle_fork fork;
    struct lifecycle_forked *forked; /* the result: `fork.count` of them */
    int rc;
    struct err err;
};

static void op_free(struct fork_op *op)
{
    if (op == NULL)
        return;
    for (size_t i = 0; op->forked != NULL && i < op->fork.count; i++)
        sandbox_clear(&op->forked[i].sandbox);
    free(op->forked);
    if (op->reply != NULL)
        reply_unref(op->reply);
    free(op);
}

static void cleanup_op(struct fork_op **op)
{
    op_free(*op);
}

static void fork_run(struct work *work)
{
    struct fork_op *op = container_of(work, struct fork_op, work);

    op->fork.namespace_ = op->who.namespace_;
    op->fork.client = op->who.client;
    op->fork.key_id = op->who.key_id;
    op->fork.sandbox_id = op->id;
    op->rc = lifecycle_fork(op->api->lifecycle, &op->fork, op->forked, &op->err);
}

/* Exactly one of `sandbox` and `error`. */
static json_t *entry_of(struct api *api, const struct lifecycle_forked *forked)
{
    json_t *entry = json_object();

    if (forked->rc == 0)
        json_put(entry, "sandbox", wire_sandbox(api, &forked->sandbox));
    else
        json_put(entry, "error", error_body(&forked->err));
    return entry;
}

static void fork_done(struct work *work)
{
    struct fork_op *op = container_of(work, struct fork_op, work);

    if (op->rc < 0) {
        reply_err(op->reply, &op->err);
    } else {
        json_t *list = json_array();
        for (size_t i = 0; i < op->fork.count; i++)
            json_array_append_new(list, entry_of(op->api, &op->forked[i]));
        reply_header(op->reply, KEPT_HEADER, KEPT_FILES);
        reply_json(op->reply, 201, list);
    }
    op_free(op);
}

static int parse(struct request *req, struct lifecycle_fork *fork, struct err *err)
{
    _cleanup_json_ json_t *body = body_json(req, err);
    int64_t count = 1;

    if (body == NULL)
        return -1;
    fork->timeout_s = SANDBOX_TIMEOUT_V1_DEFAULT_S;
    if (json_get_i64(body, "timeout", INT32_MIN, INT32_MAX, &fork->timeout_s, err) < 0 ||
        json_get_i64(body, "count", INT32_MIN, INT32_MAX, &count, err) < 0)
        return error_schema(err);
    if (count < 1)
        return err_set(err, ERR_INVALID, "Count must be at least 1");
    if (count > FORK_COUNT_MAX)
        return err_set(err, ERR_INVALID, "Count cannot be greater than %d", FORK_COUNT_MAX);
    fork->count = (size_t)count;
    return 0;
}

int sandbox_fork(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct fork_op *op = mem_zalloc(sizeof(*op));
    const char *id = request_param(req, "sandboxID");

    op->api = request_api(req);
    op->who = *request_identity(req);
    if (sandbox_id_parse(id, strlen(id), op->id, err) < 0 || parse(req, &op->fork, err) < 0 ||
        api_rate_limit(req, (int64_t)op->fork.count, err) < 0)
        return -1;
    op->forked = mem_calloc(op->fork.count, sizeof(*op->forked));
    if (work_submit(request_workers(req), &op->work, fork_run, fork_done, err) < 0)
        return -1;
    op->reply = request_defer(req);
    op = NULL;
    return 0;
}
