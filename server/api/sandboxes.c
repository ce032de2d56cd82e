/*
 * server/api/sandboxes.c - one sandbox: create, look, end, and move its end.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/wire.h"
#include "server/base/fault.h"
#include "server/base/mem.h"
#include "server/model/limits.h"

#define MS_PER_S 1000

/* One call into lifecycle on a worker, and its answer. */
struct sandbox_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[SANDBOX_ID_SIZE];
    int64_t timeout_ms;
    bool extend_only;
    bool v2;
    char *idempotency_key; /* owned; NULL: none */
    struct create_body create;
    struct sandbox sandbox; /* the result */
    int rc;
    struct err err;
};

static void op_free(struct sandbox_op *op)
{
    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    create_body_clear(&op->create);
    free(op->idempotency_key);
    sandbox_clear(&op->sandbox);
    free(op);
}

static void cleanup_op(struct sandbox_op **op)
{
    op_free(*op);
}

/* An op of REQ's caller. NULL with ERR_INVALID when the path names a sandbox by a wrong id. */
static struct sandbox_op *op_new(struct request *req, struct err *err)
{
    struct sandbox_op *op = mem_zalloc(sizeof(*op));
    const char *id = request_param(req, "sandboxID");

    op->api = request_api(req);
    op->who = *request_identity(req);
    if (id != NULL && sandbox_id_parse(id, strlen(id), op->id, err) < 0) {
        op_free(op);
        return NULL;
    }
    return op;
}

/* Hand *OP to a worker; it is the work's on success, still the caller's on failure. */
static int op_submit(struct request *req, struct sandbox_op **op, void (*run)(struct work *work),
                     void (*done)(struct work *work), struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, done, err) < 0)
        return -1;                     /* queue full: ERR_BUSY */
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

/* The answer of a call that returns nothing. */
static void op_done_empty(struct work *work)
{
    struct sandbox_op *op = container_of(work, struct sandbox_op, work);

    if (op->rc == 0)
        reply_empty(op->reply, 204);
    else
        reply_err(op->reply, &op->err);
    op_free(op);
}

json_t *body_json(struct request *req, struct err *err)
{
    json_t *body = request_json(req, err);

    if (body == NULL)
        error_parse(err);
    return body;
}

/* --- POST /sandboxes, POST /v2/sandboxes ----------------------------------------------------- */

static void create_run(struct work *work)
{
    struct sandbox_op *op = container_of(work, struct sandbox_op, work);

    op->create.request.namespace_ = op->who.namespace_;
    op->create.request.client = op->who.client;
    op->create.request.key_id = op->who.key_id;
    if (op->idempotency_key != NULL) {
        op->create.request.idempotency_key = op->idempotency_key;
        wire_create_hash(&op->create, op->v2, op->create.request.body_sha256);
    }
    op->rc = lifecycle_create(op->api->lifecycle, &op->create.request, &op->sandbox, &op->err);
}

static void create_done(struct work *work)
{
    struct sandbox_op *op = container_of(work, struct sandbox_op, work);

    if (op->rc == 0) {
        fault_point("create.answer");
        reply_json(op->reply, 201, wire_sandbox(op->api, &op->sandbox));
    } else {
        error_of_create(&op->err);
        reply_err(op->reply, &op->err);
    }
    op_free(op);
}

static int create(struct request *req, bool v2, struct err *err)
{
    _cleanup_(cleanup_op) struct sandbox_op *op = op_new(req, err);
    const char *key = request_header(req, "idempotency-key");
    _cleanup_json_ json_t *body = NULL;

    if (op == NULL)
        return -1;
    if (key != NULL && claim_key_check(key, err) < 0)
        return -1;
    op->idempotency_key = mem_strdup(key);
    op->v2 = v2;
    body = body_json(req, err);
    if (body == NULL || wire_create_parse(body, v2, &op->create, err) < 0 ||
        api_rate_limit(req, 1, err) < 0)
        return -1;
    return op_submit(req, &op, create_run, create_done, err);
}

int sandbox_create_v1(struct request *req, struct err *err)
{
    return create(req, false, err);
}

int sandbox_create_v2(struct request *req, struct err *err)
{
    return create(req, true, err);
}

/* --- GET and DELETE /sandboxes/{sandboxID} --------------------------------------------------- */

int sandbox_get(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct sandbox_op *op = op_new(req, err);

    if (op == NULL ||
        lifecycle_get(op->api->lifecycle, op->who.namespace_, op->id, &op->sandbox, err) < 0)
        return -1;
    reply_json(request_reply(req), 200, wire_detail(op->api, &op->sandbox));
    return 0;
}

static void delete_run(struct work *work)
{
    struct sandbox_op *op = container_of(work, struct sandbox_op, work);

    op->rc = lifecycle_kill(op->api->lifecycle, op->who.namespace_, op->id, SANDBOX_END_KILLED,
                            &op->err);
}

int sandbox_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct sandbox_op *op = op_new(req, err);

    if (op == NULL)
        return -1;
    return op_submit(req, &op, delete_run, op_done_empty, err);
}

/* --- POST …/timeout, POST …/refreshes -------------------------------------------------------- */

int body_seconds(struct request *req, const char *key, int64_t max_s, bool required,
                 int64_t *out_ms, struct err *err)
{
    _cleanup_json_ json_t *body = body_json(req, err);
    int64_t seconds = -1;

    if (body == NULL)
        return -1;
    if (json_get_i64(body, key, 0, max_s, &seconds, err) < 0)
        return error_schema(err);
    if (seconds < 0 && required)
        return err_set(err, ERR_INVALID, "validation error: field '%s' is required", key);
    if (seconds >= 0)
        *out_ms = seconds * MS_PER_S;
    return 0;
}

static void timeout_run(struct work *work)
{
    struct sandbox_op *op = container_of(work, struct sandbox_op, work);

    op->rc = lifecycle_set_timeout(op->api->lifecycle, op->who.namespace_, op->id, op->timeout_ms,
                                   op->extend_only, &op->err);
}

int sandbox_set_timeout(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct sandbox_op *op = op_new(req, err);

    if (op == NULL || body_seconds(req, "timeout", INT32_MAX, true, &op->timeout_ms, err) < 0)
        return -1;
    return op_submit(req, &op, timeout_run, op_done_empty, err);
}

int sandbox_refresh(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct sandbox_op *op = op_new(req, err);

    if (op == NULL ||
        body_seconds(req, "duration", SANDBOX_REFRESH_MAX_S, false, &op->timeout_ms, err) < 0)
        return -1;
    if (op->timeout_ms < SANDBOX_REFRESH_MIN_S * MS_PER_S)
        op->timeout_ms = SANDBOX_REFRESH_MIN_S * MS_PER_S;
    op->extend_only = true;
    return op_submit(req, &op, timeout_run, op_done_empty, err);
}
