/*
 * server/api/secrets.c - secrets. A value goes in and never comes out. Every message is one of a
 * fixed set: nothing that a request holds is ever repeated.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/handlers.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/limits.h"
#include "server/model/secret.h"

struct secret_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char *key;    /* an id or a name, owned; NULL: a list, or a new one */
    json_t *body; /* holds the value, owned */
    size_t limit; /* of a list */
    char after[SECRET_ID_SIZE];
    struct secret_info *list; /* the result, owned */
    size_t count;
    int status; /* when it succeeds */
    int rc;
    struct err err;
};

static void op_free(struct secret_op *op)
{
    json_t *value;

    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    for (size_t i = 0; i < op->count; i++)
        secret_info_clear(&op->list[i]);
    free(op->list);
    value = json_object_get(op->body, "value");
    if (json_is_string(value)) /* jansson's own copy, about to be freed */
        secret_wipe((char *)json_string_value(value), json_string_length(value));
    json_decref(op->body);
    free(op->key);
    free(op);
}

static void cleanup_op(struct secret_op **op)
{
    op_free(*op);
}

static int invalid(struct err *err)
{
    return err_set(err, ERR_INVALID, "Invalid secrets request");
}

/* The contract's 502, which no err code has. */
static void reply_failed(struct reply *reply, const struct err *err)
{
    json_t *body = json_object();

    log_err(LOG_ERROR, "a call for secrets failed", NULL, err);
    json_put_i64(body, "code", 502);
    json_put_str(body, "message", "Secrets backend error");
    reply_json(reply, 502, body);
}

/* ERR in the fixed words. */
static void reply_error(struct reply *reply, const struct err *err)
{
    struct err fixed = {0};

    switch (err->code) {
    case ERR_INVALID:
        invalid(&fixed);
        break;
    case ERR_NOT_FOUND:
        err_set(&fixed, ERR_NOT_FOUND, "Secret not found");
        break;
    case ERR_EXISTS:
    case ERR_LIMIT:
        err_set(&fixed, ERR_CONFLICT, "Secret cannot be modified in its current state");
        break;
    case ERR_BUSY:
        fixed = *err; /* nothing of the request is in it */
        break;
    default:
        reply_failed(reply, err);
        return;
    }
    reply_err(reply, &fixed);
}

static json_t *wire_secret(const struct secret_info *info)
{
    json_t *object = json_object(), *metadata = NULL;
    char created[TIME_RFC3339_SIZE], updated[TIME_RFC3339_SIZE];
    struct err err;

    if (info->metadata != NULL)
        metadata = json_parse_object(info->metadata, strlen(info->metadata), &err);
    time_rfc3339_ms(info->created_unix_ms, created);
    time_rfc3339_ms(info->updated_unix_ms, updated);
    json_put_str(object, "secretID", info->id);
    json_put_str(object, "name", info->name);
    json_put_i64(object, "currentVersion", info->version);
    json_put(object, "metadata", metadata != NULL ? metadata : json_object());
    json_put_str(object, "createdAt", created);
    json_put_str(object, "updatedAt", updated);
    return object;
}

/* One call's answer: the secret, or nothing. */
static void op_done(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);

    if (op->rc < 0) {
        reply_error(op->reply, &op->err);
    } else if (op->list != NULL) {
        reply_json(op->reply, op->status, wire_secret(&op->list[0]));
    } else {
        reply_empty(op->reply, op->status);
    }
    op_free(op);
}

static struct secret_op *op_new(struct request *req, int status)
{
    struct secret_op *op = mem_zalloc(sizeof(*op));

    op->api = request_api(req);
    op->who = *request_identity(req);
    op->key = mem_strdup(request_param(req, "secretID"));
    op->status = status;
    return op;
}

static int op_submit(struct request *req, struct secret_op **op, void (*run)(struct work *work),
                     void (*done)(struct work *work), struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, done, err) < 0)
        return -1;
    (*op)->reply = request_defer(req);
    *op = NULL;
    return 0;
}

/* Room for one result. It counts only when it was filled. */
static struct secret_info *op_result(struct secret_op *op)
{
    op->list = mem_zalloc(sizeof(*op->list));
    op->count = 1;
    return op->list;
}

static const json_t *body_metadata(const struct secret_op *op)
{
    const json_t *metadata = json_object_get(op->body, "metadata");

    return json_is_object(metadata) ? metadata : NULL;
}

/* The body, with "value", with "name" when NAMED, perhaps "metadata"; else the one message. */
static int parse_body(struct request *req, struct secret_op *op, bool named, struct err *err)
{
    const char *name = NULL, *value = NULL;
    json_t *metadata = NULL;

    op->body = request_json(req, err);
    if (op->body == NULL || json_get_str(op->body, "value", &value, err) < 0 ||
        json_get_str_map(op->body, "metadata", &metadata, err) < 0 || value == NULL ||
        (named && (json_get_str(op->body, "name", &name, err) < 0 || name == NULL)))
        return invalid(err);
    return 0;
}

static const char *body_text(const struct secret_op *op, const char *key)
{
    return json_string_value(json_object_get(op->body, key));
}

static void create_run(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);

    op->rc =
        lifecycle_secret_create(op->api->lifecycle, op->who.namespace_, body_text(op, "name"),
                                body_text(op, "value"), body_metadata(op), op_result(op), &op->err);
}

int secret_create(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct secret_op *op = op_new(req, 201);

    return parse_body(req, op, true, err) < 0 ? -1 : op_submit(req, &op, create_run, op_done, err);
}

static void update_run(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);

    op->rc =
        lifecycle_secret_update(op->api->lifecycle, op->who.namespace_, op->key,
                                body_text(op, "value"), body_metadata(op), op_result(op), &op->err);
}

int secret_update(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct secret_op *op = op_new(req, 200);

    return parse_body(req, op, false, err) < 0 ? -1 : op_submit(req, &op, update_run, op_done, err);
}

static void get_run(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);

    op->rc = lifecycle_secret_get(op->api->lifecycle, op->who.namespace_, op->key, op_result(op),
                                  &op->err);
}

int secret_get(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct secret_op *op = op_new(req, 200);

    return op_submit(req, &op, get_run, op_done, err);
}

static void delete_run(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);

    op->rc = lifecycle_secret_delete(op->api->lifecycle, op->who.namespace_, op->key, &op->err);
}

int secret_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct secret_op *op = op_new(req, 204);

    return op_submit(req, &op, delete_run, op_done, err);
}

/* --- list: the token is base64url of the last id --------------------------------------------- */

static void list_run(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);

    op->rc = lifecycle_secret_list(op->api->lifecycle, op->who.namespace_, op->after, op->limit + 1,
                                   &op->list, &op->count, &op->err);
}

static void list_done(struct work *work)
{
    struct secret_op *op = container_of(work, struct secret_op, work);
    char token[BASE64_SIZE(SECRET_ID_SIZE)];
    json_t *items;

    if (op->rc < 0) {
        reply_error(op->reply, &op->err);
        op_free(op);
        return;
    }
    items = json_array();
    for (size_t i = 0; i < op->count && i < op->limit; i++)
        json_array_append_new(items, wire_secret(&op->list[i]));
    if (op->count > op->limit) {
        base64_encode(BASE64_URL_RAW, op->list[op->limit - 1].id, SECRET_ID_SIZE - 1, token);
        reply_header(op->reply, "x-next-token", token);
    }
    reply_json(op->reply, 200, items);
    op_free(op);
}

static int parse_token(const char *token, char out[SECRET_ID_SIZE], struct err *err)
{
    uint8_t id[2 * SECRET_ID_SIZE];
    size_t len = strlen(token), id_len;

    if (len >= BASE64_SIZE(SECRET_ID_SIZE) || base64_decode(token, len, id, &id_len) < 0 ||
        id_len != SECRET_ID_SIZE - 1)
        return invalid(err);
    id[id_len] = '\0';
    if (!secret_id_valid((const char *)id))
        return invalid(err);
    memcpy(out, id, SECRET_ID_SIZE);
    return 0;
}

int secrets_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct secret_op *op = op_new(req, 200);
    const char *limit = request_query(req, "limit"), *token = request_query(req, "nextToken");
    uint64_t value = LIST_LIMIT_MAX;

    if (limit != NULL &&
        str_to_u64(limit, strlen(limit), 1, LIST_LIMIT_MAX, "limit", &value, err) < 0)
        return invalid(err);
    op->limit = (size_t)value;
    if (token != NULL && token[0] != '\0' && parse_token(token, op->after, err) < 0)
        return -1;
    return op_submit(req, &op, list_run, list_done, err);
}
