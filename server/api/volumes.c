/*
 * server/api/volumes.c - volumes: list, create, get, delete. Their files: volume_content.c.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/auth/volume_token.h"
#include "server/base/mem.h"
#include "server/base/time.h"

/* One call into lifecycle on a worker, and its answer. */
struct volume_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[UUID_SIZE];
    char name[VOLUME_NAME_SIZE];
    struct volume *list; /* of LIST */
    size_t count;
    struct volume volume;
    int rc;
    struct err err;
};

static void op_free(struct volume_op *op)
{
    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    free(op->list);
    free(op);
}

static void cleanup_op(struct volume_op **op)
{
    op_free(*op);
}

/* An op of REQ's caller. NULL with ERR_INVALID when the path names a volume by a wrong id. */
static struct volume_op *op_new(struct request *req, struct err *err)
{
    struct volume_op *op = mem_zalloc(sizeof(*op));
    const char *id = request_param(req, "volumeID");

    op->api = request_api(req);
    op->who = *request_identity(req);
    if (id != NULL && volume_id_parse(id, op->id, err) < 0) {
        op_free(op);
        return NULL;
    }
    return op;
}

/* Hand *OP to a worker; it is the work's on success, still the caller's on failure. */
static int op_submit(struct request *req, struct volume_op **op, void (*run)(struct work *work),
                     void (*done)(struct work *work), struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, done, err) < 0)
        return -1;                     /* queue full: ERR_BUSY */
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

/* --- GET /volumes ---------------------------------------------------------------------------- */

static void list_run(struct work *work)
{
    struct volume_op *op = container_of(work, struct volume_op, work);

    op->rc = lifecycle_volume_list(op->api->lifecycle, op->who.namespace_, &op->list, &op->count,
                                   &op->err);
}

static void list_done(struct work *work)
{
    struct volume_op *op = container_of(work, struct volume_op, work);
    json_t *list;

    if (op->rc < 0) {
        reply_err(op->reply, &op->err);
        op_free(op);
        return;
    }
    list = json_array();
    for (size_t i = 0; i < op->count; i++) {
        json_t *item = json_object();
        json_put_str(item, "volumeID", op->list[i].id);
        json_put_str(item, "name", op->list[i].name);
        json_array_append_new(list, item);
    }
    reply_json(op->reply, 200, list);
    op_free(op);
}

int volumes_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct volume_op *op = op_new(req, err);

    return op == NULL ? -1 : op_submit(req, &op, list_run, list_done, err);
}

/* --- POST /volumes, GET /volumes/{volumeID} -------------------------------------------------- */

/* A volume with a fresh token. NULL with ERR. */
static json_t *wire_volume(const struct volume_op *op, struct err *err)
{
    uint8_t key[SHA256_BYTES];
    json_t *object;
    char *token = NULL;
    int rc;

    lifecycle_volume_key(op->api->lifecycle, key);
    rc = volume_token_make(key, &op->who, op->volume.id, op->api->domain, time_unix_ms() / 1000,
                           &token, err);
    secret_wipe(key, sizeof(key));
    if (rc < 0)
        return NULL;
    object = json_object();
    json_put_str(object, "volumeID", op->volume.id);
    json_put_str(object, "name", op->volume.name);
    json_put_str(object, "token", token);
    secret_wipe(token, strlen(token));
    free(token);
    return object;
}

static void one_done(struct volume_op *op, int status)
{
    json_t *object = op->rc == 0 ? wire_volume(op, &op->err) : NULL;

    if (object != NULL)
        reply_json(op->reply, status, object);
    else
        reply_err(op->reply, &op->err);
    op_free(op);
}

static void create_run(struct work *work)
{
    struct volume_op *op = container_of(work, struct volume_op, work);

    op->rc = lifecycle_volume_create(op->api->lifecycle, op->who.namespace_, op->name, &op->volume,
                                     &op->err);
    if (op->rc < 0 && op->err.code == ERR_EXISTS)
        op->err.code = ERR_INVALID; /* E2B's status for a name that is taken: 400 */
}

static void create_done(struct work *work)
{
    one_done(container_of(work, struct volume_op, work), 201);
}

int volume_create(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct volume_op *op = op_new(req, err);
    _cleanup_json_ json_t *body = NULL;
    const char *name = NULL;

    if (op == NULL)
        return -1;
    body = request_json(req, err);
    if (body == NULL)
        return error_parse(err);
    if (json_get_str(body, "name", &name, err) < 0)
        return error_schema(err);
    if (name == NULL)
        return err_set(err, ERR_INVALID, "validation error: field 'name' is required");
    if (volume_name_check(name, strlen(name), err) < 0)
        return -1;
    memcpy(op->name, name, strlen(name) + 1);
    return op_submit(req, &op, create_run, create_done, err);
}

static void get_run(struct work *work)
{
    struct volume_op *op = container_of(work, struct volume_op, work);

    op->rc =
        lifecycle_volume_get(op->api->lifecycle, op->who.namespace_, op->id, &op->volume, &op->err);
}

static void get_done(struct work *work)
{
    one_done(container_of(work, struct volume_op, work), 200);
}

int volume_get(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct volume_op *op = op_new(req, err);

    return op == NULL ? -1 : op_submit(req, &op, get_run, get_done, err);
}

/* --- DELETE /volumes/{volumeID} -------------------------------------------------------------- */

static void delete_run(struct work *work)
{
    struct volume_op *op = container_of(work, struct volume_op, work);

    op->rc = lifecycle_volume_delete(op->api->lifecycle, op->who.namespace_, op->id, &op->err);
}

static void delete_done(struct work *work)
{
    struct volume_op *op = container_of(work, struct volume_op, work);

    if (op->rc == 0)
        reply_empty(op->reply, 204);
    else
        reply_err(op->reply, &op->err);
    op_free(op);
}

int volume_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct volume_op *op = op_new(req, err);

    return op == NULL ? -1 : op_submit(req, &op, delete_run, delete_done, err);
}
