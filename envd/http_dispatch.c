#include <string.h>

#include "envd/auth.h"
#include "envd/exchange.h"
#include "envd/rpc_call.h"
#include "envd/upgrade.h"
#include "server/base/mem.h"
#include "server/base/str.h"

const char *http_method(const struct exchange *ex)
{
    return ex->head.method;
}

const char *http_path(const struct exchange *ex)
{
    return ex->head.path;
}

const char *http_query(const struct exchange *ex)
{
    return ex->head.query;
}

const char *http_header(const struct exchange *ex, const char *name)
{
    return request_head_get(&ex->head, name);
}

bool http_header_next(const struct exchange *ex, size_t *at, const char **name, const char **value)
{
    if (*at >= ex->head.header_count)
        return false;
    *name = ex->head.headers[*at].name;
    *value = ex->head.headers[*at].value;
    ++*at;
    return true;
}

int64_t http_body_length(const struct exchange *ex)
{
    return ex->head.chunked ? -1 : ex->head.content_length;
}

int http_query_param(const struct exchange *ex, const char *name, struct buf *out, struct err *err)
{
    return http_query_get(ex->head.query, name, out, err);
}

const struct settings *http_settings(const struct exchange *ex)
{
    return ex->settings;
}

bool http_jwt_valid(const struct exchange *ex)
{
    return ex->jwt_valid;
}

const char *http_body(const struct exchange *ex, size_t *len)
{
    *len = ex->body.len;
    return buf_str(&ex->body);
}

/* envd-api section 7.2: answered before anyone is asked who they are. */
static bool preflight(struct exchange *ex)
{
    static const char *const methods[] = {"HEAD", "GET", "POST", "PUT", "PATCH", "DELETE"};
    const char *asked = http_header(ex, "access-control-request-method");
    const char *headers = http_header(ex, "access-control-request-headers");

    if (!str_eq(http_method(ex), "OPTIONS") || asked == NULL)
        return false;
    http_set_header(ex, "Vary",
                    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
    http_set_header(ex, "Access-Control-Allow-Origin", "*");
    for (size_t i = 0; i < array_size(methods); i++) {
        if (str_eq(asked, methods[i]))
            http_set_header(ex, "Access-Control-Allow-Methods", asked);
    }
    if (headers != NULL)
        http_set_header(ex, "Access-Control-Allow-Headers", headers);
    http_set_header(ex, "Access-Control-Max-Age", "7200");
    http_reply_empty(ex, 204);
    return true;
}

/* Token, JWT and the name of the user. -1: answered. */
static int authenticate(struct exchange *ex, enum route_auth need)
{
    struct auth_headers headers = {
        .authorization = http_header(ex, "authorization"),
        .access_token = http_header(ex, "x-access-token"),
    };
    struct auth auth = {0};
    struct err err = {0};
    struct user *user;

    if (auth_check(ex->settings, need, &headers, &auth, &err) < 0) {
        http_reply_error(ex, 401, "%s", err.msg);
        return -1;
    }
    ex->jwt_valid = auth.jwt_valid;
    if (!auth.has_user)
        return 0;
    user = mem_zalloc(sizeof(*user));
    if (user_find(auth.user, user) == 0) {
        ex->user = user;
        return 0;
    }
    free(user);
    ex->bad_user = mem_strdup(auth.user);
    return 0;
}

static void refuse_user(struct exchange *ex)
{
    struct err err = {0};

    err_set(&err, ERR_UNAUTHENTICATED, "invalid username: '%.256s'", ex->bad_user);
    rpc_refuse(ex, &err);
}

static void no_route(struct exchange *ex, int status, const char *allow)
{
    static const char text[] = "404 page not found\n";

    if (status == 405) {
        http_set_header(ex, "Allow", allow);
        http_reply_empty(ex, 405);
        return;
    }
    http_set_header(ex, "X-Content-Type-Options", "nosniff");
    http_reply(ex, 404, "text/plain; charset=utf-8", text, sizeof(text) - 1);
}

static void not_built(struct exchange *ex)
{
    struct err err = {0};

    err_set(&err, ERR_UNSUPPORTED, "%s %s is not supported by this envd", ex->route->method,
            ex->route->path);
    if (ex->route->path[1] >= 'a' && strchr(ex->route->path, '.') != NULL)
        rpc_refuse(ex, &err);
    else
        http_reply_err(ex, &err);
}

static void start_route(struct exchange *ex)
{
    const struct route *route = ex->route;

    if (route->rpc != NULL)
        rpc_begin(ex, route->rpc);
    else if (ex->bad_user != NULL)
        refuse_user(ex);
    else if (route->blocking != NULL)
        conn_start_blocking(ex);
    else if (route->loop == handle_upgrade && !upgrade_begin(ex))
        return;
    else if (route->loop != NULL)
        conn_start_body(ex, route->body_max_bytes);
    else
        not_built(ex);
}

void exchange_dispatch(struct exchange *ex)
{
    char allow[ROUTE_ALLOW_SIZE];
    int status;

    if (preflight(ex))
        return;
    ex->route = route_find(http_method(ex), http_path(ex), &status, allow);
    if (authenticate(ex, ex->route != NULL ? ex->route->auth : ROUTE_GUARDED) < 0)
        return;
    if (ex->route != NULL)
        start_route(ex);
    else if (ex->bad_user != NULL)
        refuse_user(ex);
    else
        no_route(ex, status, allow);
}

void exchange_body_done(struct exchange *ex)
{
    struct err err = {0};

    if (ex->route->rpc != NULL) {
        rpc_body_done(ex);
        return;
    }
    exchange_ref(ex);
    if (ex->route->loop(ex, &err) < 0)
        http_reply_err(ex, &err);
    exchange_unref(ex);
}

void exchange_too_large(struct exchange *ex)
{
    if (ex->route->rpc != NULL)
        rpc_body_too_large(ex);
    else
        http_reply_error(ex, 413, "the request body is larger than %zu bytes", ex->body.max);
}
