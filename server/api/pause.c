/*
 * server/api/pause.c - pause a sandbox, and bring a paused one back.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/model/limits.h"

#define MS_PER_S 1000

/* One call into lifecycle on a worker, and its answer. */
struct pause_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[SANDBOX_ID_SIZE];
    struct lifecycle_pause pause;
    struct lifecycle_wake wake;
    struct lifecycle_woken woken; /* the result */
    int rc;
    struct err err;
};

static void op_free(struct pause_op *op)
{
    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    sandbox_clear(&op->woken.sandbox);
    free(op);
}

static void cleanup_op(struct pause_op **op)
{
    op_free(*op);
}

/* An op of REQ's caller. NULL with ERR_INVALID when the path names a sandbox by a wrong id. */
static struct pause_op *op_new(struct request *req, struct err *err)
{
    struct pause_op *op = mem_zalloc(sizeof(*op));
    const char *id = request_param(req, "sandboxID");

    op->api = request_api(req);
    op->who = *request_identity(req);
    if (sandbox_id_parse(id, strlen(id), op->id, err) < 0) {
        op_free(op);
        return NULL;
    }
    return op;
}

/* Hand *OP to a worker; it is the work's on success, still the caller's on failure. */
static int op_submit(struct request *req, struct pause_op **op, void (*run)(struct work *work),
                     void (*done)(struct work *work), struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, done, err) < 0)
        return -1;                     /* queue full: ERR_BUSY */
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

/* KEY of the body, a boolean; *OUT stays when it is not there. */
static int body_bool(struct request *req, const char *key, bool *out, struct err *err)
{
    _cleanup_json_ json_t *body = body_json(req, err);

    if (body == NULL)
        return -1;
    return json_get_bool(body, key, out, err) < 0 ? error_schema(err) : 0;
}

/* --- POST …/pause ---------------------------------------------------------------------------- */

static void pause_run(struct work *work)
{
    struct pause_op *op = container_of(work, struct pause_op, work);

    op->rc = lifecycle_pause(op->api->lifecycle, op->who.namespace_, op->id, &op->pause, &op->err);
}

static void pause_done(struct work *work)
{
    struct pause_op *op = container_of(work, struct pause_op, work);

    if (op->rc == 0) {
        reply_header(op->reply, KEPT_HEADER, op->pause.files_only ? KEPT_FILES : KEPT_MEMORY);
        reply_empty(op->reply, 204);
    } else {
        reply_err(op->reply, &op->err);
    }
    op_free(op);
}

int sandbox_pause(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct pause_op *op = op_new(req, err);
    bool memory = true;

    if (op == NULL || body_bool(req, "memory", &memory, err) < 0 ||
        body_bool(req, "requireHealthyGuest", &op->pause.require_healthy, err) < 0)
        return -1;
    op->pause.files_only = !memory;
    return op_submit(req, &op, pause_run, pause_done, err);
}

/* --- POST …/connect, POST /v2/…/connect, POST …/resume --------------------------------------- */

static void wake_run(struct work *work)
{
    struct pause_op *op = container_of(work, struct pause_op, work);

    op->rc = lifecycle_wake(op->api->lifecycle, op->who.namespace_, op->id, &op->wake, &op->woken,
                            &op->err);
}

static void wake_done(struct work *work)
{
    struct pause_op *op = container_of(work, struct pause_op, work);

    if (op->rc < 0) {
        reply_err(op->reply, &op->err);
    } else {
        if (op->woken.resumed)
            reply_header(op->reply, KEPT_HEADER, op->woken.booted ? KEPT_FILES : KEPT_MEMORY);
        reply_json(op->reply, op->woken.resumed ? 201 : 200,
                   wire_sandbox(op->api, &op->woken.sandbox));
    }
    op_free(op);
}

/* A timeout that is not in the body: DEFAULT_S, or refused when that is negative. */
static int start_again(struct request *req, int64_t default_s, bool must_be_paused, struct err *err)
{
    _cleanup_(cleanup_op) struct pause_op *op = op_new(req, err);
    bool memory = true;

    if (op == NULL)
        return -1;
    op->wake.timeout_ms = default_s * MS_PER_S;
    if (body_seconds(req, "timeout", INT32_MAX, default_s < 0, &op->wake.timeout_ms, err) < 0 ||
        body_bool(req, "memory", &memory, err) < 0)
        return -1;
    op->wake.reboot = !memory;
    op->wake.must_be_paused = must_be_paused;
    return op_submit(req, &op, wake_run, wake_done, err);
}

int sandbox_connect_v1(struct request *req, struct err *err)
{
    return start_again(req, -1, false, err);
}

int sandbox_connect_v2(struct request *req, struct err *err)
{
    return start_again(req, SANDBOX_TIMEOUT_DEFAULT_S, false, err);
}

int sandbox_resume(struct request *req, struct err *err)
{
    return start_again(req, SANDBOX_TIMEOUT_V1_DEFAULT_S, true, err);
}
