/*
 * server/api/keys.c - teams, API keys, access tokens: GET /teams, /api-keys, /access-tokens and
 * POST, DELETE /admin/teams/{teamID}/api-keys.
 *
 * A key made here has the scopes read and write as far as its maker has them, never more, and ends
 * no later. It works when the answer is sent, and is refused when that of a DELETE is: the key set
 * is read again before. Source: platform-api.md section 9.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/limits.h"
#include "server/model/team.h"

#define CLI_KEY_NAME "CLI login/configure" /* what E2B calls the keys of GET /teams */

/* One call into the store on a worker, and its answer. */
struct key_op {
    struct work work;
    struct reply *reply;
    struct api *api;
    struct identity who; /* its namespace is the one that is acted in */
    enum key_kind kind;
    char id[UUID_SIZE];       /* whose: PATCH and DELETE */
    char name[KEY_NAME_SIZE]; /* POST and PATCH */
    struct key key;           /* the one that was made */
    char text[KEY_TEXT_SIZE]; /* of it */
    json_t *answer;           /* NULL: 204 */
    int status;
    int rc;
    struct err err;
};

static void op_free(struct key_op *op)
{
    if (op == NULL)
        return;
    reply_unref(op->reply);
    json_decref(op->answer);
    secret_wipe(op->text, sizeof(op->text));
    free(op);
}

static void cleanup_op(struct key_op **op)
{
    op_free(*op);
}

static struct key_op *op_new(struct request *req, enum key_kind kind)
{
    struct key_op *op = mem_zalloc(sizeof(*op));

    op->api = request_api(req);
    op->who = *request_identity(req);
    op->kind = kind;
    return op;
}

static void op_done(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);

    if (op->rc < 0)
        reply_err(op->reply, &op->err);
    else if (op->answer == NULL)
        reply_empty(op->reply, op->status);
    else
        reply_json(op->reply, op->status, steal_ptr(&op->answer));
    op_free(op);
}

static int op_submit(struct request *req, struct key_op **op, void (*run)(struct work *work),
                     struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, op_done, err) < 0)
        return -1;
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

/* The id of a key or token in the path. */
static int take_id(struct request *req, const char *param, struct key_op *op, struct err *err)
{
    const char *id = request_param(req, param);

    if (!uuid_is(id))
        return err_set(err, ERR_INVALID, "%s is no UUID", param);
    for (size_t i = 0; i < UUID_SIZE; i++)
        op->id[i] = id[i] >= 'A' && id[i] <= 'F' ? (char)(id[i] | 0x20) : id[i];
    return 0;
}

/* "name" of the body. */
static int take_name(struct request *req, struct key_op *op, struct err *err)
{
    _cleanup_json_ json_t *body = request_json(req, err);
    const char *name = NULL;

    if (body == NULL)
        return error_parse(err);
    if (json_get_str(body, "name", &name, err) < 0)
        return error_schema(err);
    if (name == NULL)
        return err_set(err, ERR_INVALID, "validation error: field 'name' is required");
    if (key_label_check(name, err) < 0)
        return error_schema(err);
    memcpy(op->name, name, strlen(name) + 1); /* the check bounds it */
    return 0;
}

/* Act in the team of the path, as an operator. */
static int take_team(struct request *req, struct key_op *op, struct err *err)
{
    op->who.scopes = SCOPE_ALL;
    return auth_team(op->api->auth, request_param(req, "teamID"), op->who.namespace_, err);
}

static json_t *mask_json(const struct key *key)
{
    json_t *mask = json_object();

    json_put_str(mask, "prefix", key->kind == KEY_TOKEN ? ACCESS_TOKEN_PREFIX : KEY_PREFIX);
    json_put_i64(mask, "valueLength", KEY_HEX_CHARS);
    json_put_str(mask, "maskedValuePrefix", key->mask_head);
    json_put_str(mask, "maskedValueSuffix", key->mask_tail);
    return mask;
}

/* The id is that of the key or token it was made with: there are no users, so no address. */
static json_t *maker_json(const struct key *key)
{
    json_t *maker;

    if (key->created_by[0] == '\0')
        return json_null();
    maker = json_object();
    json_put_str(maker, "id", key->created_by);
    json_put_str(maker, "email", NULL);
    return maker;
}

/* TeamAPIKey; with TEXT, CreatedTeamAPIKey. */
static json_t *key_json(struct api *api, const struct key *key, const char *text)
{
    int64_t used = auth_last_used(api->auth, key);
    char stamp[TIME_RFC3339_SIZE];
    json_t *json = json_object();

    json_put_str(json, "id", key->id);
    json_put_str(json, "name", key->name[0] != '\0' ? key->name : key->client);
    json_put(json, "mask", mask_json(key));
    time_rfc3339_ms(key->created_unix_ms, stamp);
    json_put_str(json, "createdAt", stamp);
    json_put(json, "createdBy", maker_json(key));
    time_rfc3339_ms(used, stamp);
    json_put_str(json, "lastUsed", used > 0 ? stamp : NULL);
    if (text != NULL)
        json_put_str(json, "key", text);
    return json;
}

/* CreatedAccessToken. */
static json_t *token_json(const struct key *key, const char *text)
{
    char stamp[TIME_RFC3339_SIZE], token[KEY_TEXT_SIZE + sizeof(ACCESS_TOKEN_PREFIX)];
    json_t *json = json_object();

    memcpy(token, ACCESS_TOKEN_PREFIX, strlen(ACCESS_TOKEN_PREFIX));
    memcpy(token + strlen(ACCESS_TOKEN_PREFIX), text + strlen(KEY_PREFIX), KEY_HEX_CHARS + 1);
    json_put_str(json, "id", key->id);
    json_put_str(json, "name", key->name);
    json_put_str(json, "token", token);
    json_put(json, "mask", mask_json(key));
    time_rfc3339_ms(key->created_unix_ms, stamp);
    json_put_str(json, "createdAt", stamp);
    secret_wipe(token, sizeof(token));
    return json;
}

/* Is KEY one that OP's caller may see? Ended ones are no more. */
static bool is_theirs(const struct key_op *op, const struct key *key, int64_t now_unix_ms)
{
    return key->kind == op->kind && key_usable(key, now_unix_ms) &&
           str_eq(key->namespace_, op->who.namespace_);
}

static int check_count(struct key_op *op, struct err *err)
{
    _cleanup_free_ struct key *keys = NULL;
    size_t count = 0, theirs = 0;
    int64_t now = time_unix_ms();

    if (store_key_list(op->api->store, &keys, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        theirs += is_theirs(op, &keys[i], now);
    if (theirs >= KEYS_PER_NAMESPACE_MAX)
        return err_set(err, ERR_LIMIT, "this team has %d keys, which is the most: delete some",
                       KEYS_PER_NAMESPACE_MAX);
    return 0;
}

/* Make OP->key, good from now on. Worker. */
static int make(struct key_op *op, uint32_t scopes, struct err *err)
{
    struct key *key = &op->key;

    key->kind = op->kind;
    key->scopes = op->who.scopes & scopes;
    key->expires_unix_ms = op->who.expires_unix_ms;
    if (key->scopes == 0)
        return err_set(err, ERR_FORBIDDEN, "this API key has no scope that it could pass on");
    if (check_count(op, err) < 0)
        return -1;
    memcpy(key->namespace_, op->who.namespace_, sizeof(key->namespace_));
    memcpy(key->client, op->who.client, sizeof(key->client));
    memcpy(key->created_by, op->who.key_id, sizeof(key->created_by));
    memcpy(key->name, op->name, sizeof(key->name));
    key_make(key, op->text);
    if (store_key_add(op->api->store, key, err) < 0)
        return -1;
    log_info("key created", "key_id", key->id, "namespace", key->namespace_, "by", op->who.key_id);
    return auth_refresh(op->api->auth, err);
}

/* The key OP->id of the caller's. */
static int find(struct key_op *op, struct key *out, struct err *err)
{
    _cleanup_free_ struct key *keys = NULL;
    int64_t now = time_unix_ms();
    size_t count = 0;

    if (store_key_list(op->api->store, &keys, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (!str_eq(keys[i].id, op->id) || !is_theirs(op, &keys[i], now))
            continue;
        *out = keys[i];
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "%s not found",
                   op->kind == KEY_TOKEN ? "Access token" : "API key");
}

/* --- GET /teams ------------------------------------------------------------------------------- */

static void teams_run(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);
    char id[UUID_SIZE];
    json_t *team;

    op->rc = make(op, SCOPE_READ | SCOPE_WRITE, &op->err);
    if (op->rc < 0)
        return;
    team = json_object();
    team_id(op->who.namespace_, id);
    json_put_str(team, "teamID", id);
    json_put_str(team, "name", op->who.namespace_);
    json_put_str(team, "apiKey", op->text);
    json_put_bool(team, "isDefault", true);
    op->answer = json_array();
    json_array_append_new(op->answer, team);
    op->status = 200;
}

int teams_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    memcpy(op->name, CLI_KEY_NAME, sizeof(CLI_KEY_NAME));
    return op_submit(req, &op, teams_run, err);
}

/* --- /api-keys -------------------------------------------------------------------------------- */

static void list_run(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);
    _cleanup_free_ struct key *keys = NULL;
    int64_t now = time_unix_ms();
    size_t count = 0;

    op->rc = store_key_list(op->api->store, &keys, &count, &op->err);
    if (op->rc < 0)
        return;
    op->status = 200;
    op->answer = json_array();
    for (size_t i = 0; i < count; i++) {
        if (is_theirs(op, &keys[i], now))
            json_array_append_new(op->answer, key_json(op->api, &keys[i], NULL));
    }
}

int api_keys_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    return op_submit(req, &op, list_run, err);
}

static void create_run(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);

    op->rc = make(op, SCOPE_READ | SCOPE_WRITE, &op->err);
    op->status = 201;
    if (op->rc == 0)
        op->answer = key_json(op->api, &op->key, op->text);
}

int api_key_create(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    return take_name(req, op, err) < 0 ? -1 : op_submit(req, &op, create_run, err);
}

int admin_api_key_create(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    if (take_team(req, op, err) < 0 || take_name(req, op, err) < 0)
        return -1;
    return op_submit(req, &op, create_run, err);
}

static void rename_run(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);
    struct key key;

    op->status = 200;
    op->rc = find(op, &key, &op->err);
    if (op->rc == 0)
        op->rc = store_key_rename(op->api->store, key.id, op->name, &op->err);
}

int api_key_rename(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    if (take_id(req, "apiKeyID", op, err) < 0 || take_name(req, op, err) < 0)
        return -1;
    return op_submit(req, &op, rename_run, err);
}

static void delete_run(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);
    struct key key;

    op->status = 204;
    op->rc = find(op, &key, &op->err);
    if (op->rc == 0)
        op->rc = store_key_revoke(op->api->store, key.id, &op->err);
    if (op->rc == 0)
        op->rc = auth_refresh(op->api->auth, &op->err);
    if (op->rc == 0)
        log_info("key revoked", "key_id", key.id, "namespace", key.namespace_, "by",
                 op->who.key_id);
}

int api_key_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    return take_id(req, "apiKeyID", op, err) < 0 ? -1 : op_submit(req, &op, delete_run, err);
}

int admin_api_key_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_API);

    if (take_team(req, op, err) < 0 || take_id(req, "apiKeyID", op, err) < 0)
        return -1;
    return op_submit(req, &op, delete_run, err);
}

/* --- /access-tokens --------------------------------------------------------------------------- */

static void token_run(struct work *work)
{
    struct key_op *op = container_of(work, struct key_op, work);

    op->rc = make(op, SCOPE_READ | SCOPE_WRITE | SCOPE_KEYS, &op->err);
    op->status = 201;
    if (op->rc == 0)
        op->answer = token_json(&op->key, op->text);
}

int access_token_create(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_TOKEN);

    return take_name(req, op, err) < 0 ? -1 : op_submit(req, &op, token_run, err);
}

int access_token_delete(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct key_op *op = op_new(req, KEY_TOKEN);

    return take_id(req, "accessTokenID", op, err) < 0 ? -1 : op_submit(req, &op, delete_run, err);
}
