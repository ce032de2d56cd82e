/*
 * server/http/request.c - what a handler may ask of its request; see http.h.
 */
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/http_private.h"

#define DECODED_MAX 65536 /* more than any head holds */

/* Percent-decoded S in h2o's pool, or NULL for a bad escape, a NUL or what is not UTF-8. */
static const char *decode(h2o_mem_pool_t *pool, const char *s, size_t len, bool plus)
{
    _cleanup_buf_ struct buf buf;
    const char *text;

    buf_init(&buf, DECODED_MAX);
    if (url_decode(s, len, plus, &buf) < 0)
        return NULL;
    text = buf_str(&buf);
    if (!str_is_utf8(text, buf.len))
        return NULL;
    return h2o_strdup(pool, text, buf.len).base;
}

/* One "name=value" of a query; *AT moves on. False at the end. */
static bool next_pair(const char **at, const char **name, size_t *name_len, const char **value,
                      size_t *value_len)
{
    size_t len;
    const char *equals;

    while (**at == '&')
        (*at)++;
    if (**at == '\0')
        return false;
    len = strcspn(*at, "&");
    equals = memchr(*at, '=', len);
    *name = *at;
    *name_len = equals == NULL ? len : (size_t)(equals - *at);
    *value = equals == NULL ? *at + len : equals + 1;
    *value_len = (size_t)(*at + len - *value);
    *at += len;
    return true;
}

static int check_query(struct request *req, struct err *err)
{
    const char *at = req->query;
    const char *name;
    const char *value;
    size_t name_len;
    size_t value_len;

    while (next_pair(&at, &name, &name_len, &value, &value_len)) {
        if (decode(req->pool, name, name_len, true) == NULL ||
            decode(req->pool, value, value_len, true) == NULL)
            return err_set(err, ERR_INVALID,
                           "the query string is not percent-encoded UTF-8 without NUL");
    }
    return 0;
}

int request_decode(struct request *req, struct err *err)
{
    for (size_t i = 0; i < req->match.param_count; i++) {
        const struct route_param *param = &req->match.params[i];

        req->params[i] = decode(req->pool, param->value, param->value_len, false);
        if (req->params[i] == NULL)
            return err_set(err, ERR_INVALID, "the path parameter %.*s is not valid",
                           (int)param->name_len, param->name);
    }
    return check_query(req, err);
}

const char *request_param(const struct request *req, const char *name)
{
    for (size_t i = 0; i < req->match.param_count; i++) {
        if (mem_is(req->match.params[i].name, req->match.params[i].name_len, name))
            return req->params[i];
    }
    return NULL;
}

const char *request_query_raw(const struct request *req, const char *name, size_t *len)
{
    const char *at = req->query;
    const char *pair_name;
    const char *value;
    size_t name_len;

    while (next_pair(&at, &pair_name, &name_len, &value, len)) {
        if (str_eq(decode(req->pool, pair_name, name_len, true), name))
            return value;
    }
    return NULL;
}

const char *request_query(const struct request *req, const char *name)
{
    size_t len;
    const char *value = request_query_raw(req, name, &len);

    return value == NULL ? NULL : decode(req->pool, value, len, true);
}

const char *request_query_next(const struct request *req, const char *name, size_t *at)
{
    const char *pos = req->query + *at, *pair_name, *value;
    size_t name_len, len;

    while (next_pair(&pos, &pair_name, &name_len, &value, &len)) {
        *at = (size_t)(pos - req->query);
        if (str_eq(decode(&req->h2o->pool, pair_name, name_len, true), name))
            return decode(&req->h2o->pool, value, len, true);
    }
    return NULL;
}

const char *request_header(const struct request *req, const char *name)
{
    const struct http_header *header = http_head_find(&req->head, name);

    if (header == NULL)
        return NULL;
    return h2o_strdup(req->pool, header->value, header->value_len).base;
}

const char *request_body(const struct request *req, size_t *len)
{
    bool some = req->h2o != NULL && req->h2o->entity.base != NULL;

    *len = some ? req->h2o->entity.len : 0;
    return *len == 0 ? "" : req->h2o->entity.base;
}

json_t *request_json(const struct request *req, struct err *err)
{
    size_t len;
    const char *body = request_body(req, &len);

    return json_parse_object(body, len, err);
}

const char *request_method(const struct request *req)
{
    return req->method;
}

const char *request_path(const struct request *req)
{
    return req->path;
}

const char *request_id(const struct request *req)
{
    return req->reply->id;
}

void *request_ctx(const struct request *req)
{
    return req->server->config->ctx;
}

struct work_pool *request_workers(const struct request *req)
{
    return req->server->config->workers;
}

void request_set_user(struct request *req, const void *user, size_t size)
{
    if (size > sizeof(req->user))
        abort(); /* a bug of the caller: its type does not fit REQUEST_USER_MAX */
    memcpy(req->user, user, size);
    req->has_user = true;
}

const void *request_user(const struct request *req)
{
    return req->has_user ? req->user : NULL;
}

struct reply *request_reply(struct request *req)
{
    return req->reply;
}

struct upload *request_upload(const struct request *req)
{
    return req->upload;
}

struct reply *request_defer(struct request *req)
{
    req->reply->refs++;
    req->reply->deferred = true;
    return req->reply;
}
