/*
 * server/api/webhooks.c - where events are delivered to. Source: platform-api.md section 10.
 */
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/limits.h"
#include "server/model/team.h"
#include "server/observe/observe.h"

/* One call, and the webhook as it is asked for. */
struct webhook_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    json_t *body; /* owned; NULL for GET and DELETE */
    struct journal_webhook webhook;
    json_t *answer;
    int status;
    int (*run)(struct webhook_op *op, struct err *err);
    int rc;
    struct err err;
};

static void op_free(struct webhook_op *op)
{
    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    json_decref(op->body);
    json_decref(op->answer);
    journal_webhook_clear(&op->webhook);
    free(op);
}

static void cleanup_op(struct webhook_op **op)
{
    op_free(*op);
}

static void op_run(struct work *work)
{
    struct webhook_op *op = container_of(work, struct webhook_op, work);

    op->rc = op->run(op, &op->err);
}

static void op_done(struct work *work)
{
    struct webhook_op *op = container_of(work, struct webhook_op, work);

    if (op->rc == 0)
        reply_json(op->reply, op->status, steal_ptr(&op->answer));
    else
        reply_err(op->reply, &op->err);
    op_free(op);
}

/* Begin RUN for REQ, whose webhook's id is ID (NULL: it has none). *OP is taken. */
static int start(struct request *req, struct webhook_op **op,
                 int (*run)(struct webhook_op *op, struct err *err), int status, struct err *err)
{
    (*op)->run = run;
    (*op)->status = status;
    if (work_submit(request_workers(req), &(*op)->work, op_run, op_done, err) < 0)
        return -1;
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

static struct webhook_op *op_new(struct request *req)
{
    struct webhook_op *op = mem_zalloc(sizeof(*op));
    const char *id = request_param(req, "webhookID");

    op->api = request_api(req);
    op->who = *request_identity(req);
    memcpy(op->webhook.namespace_, op->who.namespace_, sizeof(op->webhook.namespace_));
    if (id != NULL && str_copy(op->webhook.id, sizeof(op->webhook.id), id, strlen(id)) < 0)
        op->webhook.id[0] = '\0'; /* no webhook has such an id */
    return op;
}

static json_t *wire_webhook(const struct journal_webhook *webhook)
{
    json_t *json = json_object(), *events = json_array();
    char team[UUID_SIZE], stamp[TIME_RFC3339_SIZE];

    team_id(webhook->namespace_, team);
    time_rfc3339_ms(webhook->created_unix_ms, stamp);
    json_put_str(json, "id", webhook->id);
    json_put_str(json, "teamId", team);
    json_put_str(json, "name", webhook->name);
    json_put_str(json, "createdAt", stamp);
    json_put_bool(json, "enabled", webhook->enabled);
    json_put_str(json, "url", webhook->url);
    for (unsigned i = 0; i < LIFECYCLE_EVENT_COUNT; i++) {
        if ((webhook->types >> i & 1) != 0)
            json_array_append_new(events, json_string(observe_event_name(i)));
    }
    json_put(json, "events", events);
    return json;
}

/* --- fields ---------------------------------------------------------------------------------- */

/* KEY of the body, a string of 1..MAX bytes, replaces *OUT. */
static int take_text(const json_t *body, const char *key, size_t max, char **out, struct err *err)
{
    const char *text = NULL;

    if (json_get_str(body, key, &text, err) < 0)
        return error_schema(err);
    if (text == NULL)
        return 0;
    if (text[0] == '\0' || strlen(text) > max) {
        err_set(err, ERR_INVALID, "field '%s' must have 1 to %zu bytes", key, max);
        return error_schema(err);
    }
    free(*out);
    *out = mem_strdup(text);
    return 0;
}

static int take_events(const json_t *body, uint32_t *types, struct err *err)
{
    json_t *events = NULL, *item;
    uint32_t found = 0;
    size_t i;

    if (json_get_array(body, "events", &events, err) < 0)
        return error_schema(err);
    if (events == NULL)
        return 0;
    json_array_foreach(events, i, item) {
        const char *name = json_string_value(item);
        int type = name != NULL ? observe_event_type(name) : -1;
        if (type < 0) {
            err_set(err, ERR_INVALID, "field 'events' has '%.64s', which is no type of event",
                    name != NULL ? name : "no string");
            return error_schema(err);
        }
        found |= 1u << type;
    }
    if (found == 0) {
        err_set(err, ERR_INVALID, "field 'events' must name at least one type of event");
        return error_schema(err);
    }
    *types = found;
    return 0;
}

/* What POST and PATCH have in common. */
static int take_fields(const struct webhook_op *op, struct journal_webhook *out, struct err *err)
{
    if (take_text(op->body, "name", WEBHOOK_NAME_MAX_BYTES, &out->name, err) < 0 ||
        take_text(op->body, "url", WEBHOOK_URL_MAX_BYTES, &out->url, err) < 0 ||
        take_events(op->body, &out->types, err) < 0)
        return -1;
    if (json_get_bool(op->body, "enabled", &out->enabled, err) < 0)
        return error_schema(err);
    return out->url != NULL ? observe_url_check(op->api->observe, out->url, err) : 0;
}

static int require(const json_t *body, struct err *err)
{
    static const char *const keys[] = {"name", "url", "events", "signatureSecret"};

    for (size_t i = 0; i < array_size(keys); i++) {
        if (!json_has(body, keys[i])) {
            err_set(err, ERR_INVALID, "field '%s' is required", keys[i]);
            return error_schema(err);
        }
    }
    return 0;
}

static int take_secret(const struct webhook_op *op, struct journal_webhook *out, struct err *err)
{
    const char *secret = NULL;

    if (json_get_str(op->body, "signatureSecret", &secret, err) < 0)
        return error_schema(err);
    if (secret == NULL || secret[0] == '\0' || strlen(secret) > WEBHOOK_SECRET_MAX_BYTES) {
        err_set(err, ERR_INVALID, "field 'signatureSecret' must have 1 to %d bytes",
                WEBHOOK_SECRET_MAX_BYTES);
        return error_schema(err);
    }
    out->secret = observe_seal(op->api->observe, secret, strlen(secret));
    return 0;
}

/* --- calls ----------------------------------------------------------------------------------- */

static int run_add(struct webhook_op *op, struct err *err)
{
    struct journal_webhook *webhook = &op->webhook;

    hash_random_uuid(webhook->id);
    webhook->created_unix_ms = time_unix_ms();
    if (journal_webhook_add(observe_journal(op->api->observe), webhook, WEBHOOKS_MAX, err) < 0)
        return -1;
    op->answer = wire_webhook(webhook);
    return 0;
}

int webhook_create(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct webhook_op *op = op_new(req);

    op->body = request_json(req, err);
    if (op->body == NULL)
        return error_parse(err);
    op->webhook.enabled = true;
    if (require(op->body, err) < 0 || take_fields(op, &op->webhook, err) < 0 ||
        take_secret(op, &op->webhook, err) < 0)
        return -1;
    return start(req, &op, run_add, 201, err);
}

static int run_get(struct webhook_op *op, struct err *err)
{
    struct journal_webhook found = {.name = NULL};

    if (journal_webhook_get(observe_journal(op->api->observe), op->who.namespace_, op->webhook.id,
                            &found, err) < 0)
        return -1;
    op->answer = wire_webhook(&found);
    journal_webhook_clear(&found);
    return 0;
}

int webhook_get(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct webhook_op *op = op_new(req);

    return start(req, &op, run_get, 200, err);
}

static int run_list(struct webhook_op *op, struct err *err)
{
    struct journal_webhook *found = NULL;
    size_t count = 0;

    if (journal_webhook_list(observe_journal(op->api->observe), op->who.namespace_, &found, &count,
                             err) < 0)
        return -1;
    op->answer = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(op->answer, wire_webhook(&found[i]));
    journal_webhooks_free(found, count);
    return 0;
}

int webhooks_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct webhook_op *op = op_new(req);

    return start(req, &op, run_list, 200, err);
}

static int run_change(struct webhook_op *op, struct err *err)
{
    struct journal *journal = observe_journal(op->api->observe);
    struct journal_webhook now = {.name = NULL};
    int rc = journal_webhook_get(journal, op->who.namespace_, op->webhook.id, &now, err);

    if (rc == 0)
        rc = take_fields(op, &now, err);
    if (rc == 0)
        rc = journal_webhook_change(journal, &now, err);
    if (rc == 0)
        op->answer = wire_webhook(&now);
    journal_webhook_clear(&now);
    return rc;
}

int webhook_change(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct webhook_op *op = op_new(req);

    op->body = request_json(req, err);
    if (op->body == NULL)
        return error_parse(err);
    return start(req, &op, run_change, 200, err);
}

static int run_delete(struct webhook_op *op, struct err *err)
{
    if (journal_webhook_delete(observe_journal(op->api->observe), op->who.namespace_,
                               op->webhook.id, err) < 0)
        return -1;
    op->answer = json_object();
    return 0;
}

int webhook_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct webhook_op *op = op_new(req);

    return start(req, &op, run_delete, 200, err);
}
