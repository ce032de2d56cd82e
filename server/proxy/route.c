/*
 * server/proxy/route.c - what to do with a request: the decisions of routing.md section 3, in their
 * order.
 */
#include <stdio.h>
#include <string.h>

#include "mapper/host.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/proxy/forward.h"

#define MASK_PORT "${PORT}"
#define MASKED_HOST_SIZE (NET_MASK_HOST_SIZE + 8)
#define ROUTE_FIELD_SIZE 256 /* E2b-Sandbox-Id and -Port; a longer one is no valid one */

/* A field's value as a string in OUT; NULL when the field is absent. Too long: cut, so invalid. */
static const char *field_text(const struct http_head *head, const char *name,
                              char out[ROUTE_FIELD_SIZE])
{
    const struct http_header *field = http_head_find(head, name);
    size_t len;

    if (field == NULL)
        return NULL;
    len = field->value_len < ROUTE_FIELD_SIZE ? field->value_len : ROUTE_FIELD_SIZE - 1;
    memcpy(out, field->value, len);
    out[len] = '\0';
    return out;
}

/* The number that a port out of range was written as, for the answer. */
static uint64_t written_port(struct slice host, const char *port_field)
{
    const char *text = port_field != NULL ? port_field : host.data;
    size_t len = port_field != NULL ? strlen(port_field) : host.len;
    struct err ignored;
    uint64_t port = 0;
    size_t digits = 0;

    while (digits < len && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    if (str_to_u64(text, digits, 0, UINT64_MAX, "port", &port, &ignored) < 0)
        return 0;
    return port;
}

static void note_request(struct forward *fwd, const struct http_head *head)
{
    static const enum body_kind kinds[] = {
        [HTTP_BODY_NONE] = BODY_NONE,
        [HTTP_BODY_LENGTH] = BODY_LENGTH,
        [HTTP_BODY_CHUNKED] = BODY_CHUNKED,
    };

    fwd->head_size = head->size;
    fwd->http_1_0 = head->minor_version == 0;
    fwd->head_request = mem_is(head->method, head->method_len, "HEAD");
    fwd->keep = head->keep_alive && !fwd->http_1_0;
    body_init(&fwd->up.body, kinds[head->framing], head->content_length);
    fwd->body_start = fwd->up.body;
    fwd->to.html = respond_wants_html(head);
    fwd->to.head_request = fwd->head_request;
}

static void note_target(struct forward *fwd, const struct host_target *target, struct slice host)
{
    size_t len = host.len < RESPOND_HOST_SIZE ? host.len : RESPOND_HOST_SIZE - 1;

    memcpy(fwd->id, target->id, sizeof(fwd->id));
    memcpy(fwd->to.id, target->id, sizeof(target->id));
    fwd->port = target->port;
    fwd->to.port = target->port;
    memcpy(fwd->to.host, host.data, len);
    fwd->to.host[len] = '\0';
}

/* Ports other than envd's of a private sandbox want the token. */
static enum step check_traffic(struct forward *fwd, const struct http_head *head,
                               const struct lifecycle_route *route)
{
    const struct http_header *token;

    if (!route->private_traffic || fwd->port == ENVD_PORT)
        return STEP_NEXT;
    token = http_head_find(head, "e2b-traffic-access-token");
    if (token == NULL || token->value_len == 0)
        return forward_answer(fwd, RESPOND_TOKEN_MISSING);
    if (!hash_equal_str(token->value, token->value_len, route->traffic_token))
        return forward_answer(fwd, RESPOND_TOKEN_WRONG);
    return STEP_NEXT;
}

/* The token for envd, naming the user that the client's Basic header names. */
static int make_token(struct forward *fwd, const struct http_head *head,
                      const struct lifecycle_route *route, const char **jwt, struct err *err)
{
    const struct http_header *basic = http_head_find(head, "authorization");
    char user[TOKEN_USER_MAX_BYTES];
    bool named = basic != NULL && token_basic_user(basic->value, basic->value_len, user) == 0;

    *jwt = token_get(&fwd->proxy->tokens, route->jwt_key, fwd->id, named ? user : NULL,
                     time_unix_ms() / 1000, err);
    return *jwt != NULL ? 0 : -1;
}

/* The sandbox's maskRequestHost with the port in place of "${PORT}"; NULL: it has none. */
static const char *masked_host(const struct forward *fwd, const struct lifecycle_route *route,
                               char out[MASKED_HOST_SIZE])
{
    const char *mask = route->ingress.mask_host;
    const char *mark = strstr(mask, MASK_PORT);

    if (mask[0] == '\0' || fwd->port == ENVD_PORT)
        return NULL;
    if (mark == NULL)
        snprintf(out, MASKED_HOST_SIZE, "%s", mask);
    else
        snprintf(out, MASKED_HOST_SIZE, "%.*s%u%s", (int)(mark - mask), mask, fwd->port,
                 mark + strlen(MASK_PORT));
    return out;
}

/* Write the head for upstream, and let go of the one that came. */
static enum step rewrite(struct forward *fwd, const struct http_head *head,
                         const struct head_target *target, const struct lifecycle_route *route,
                         struct err *err)
{
    char masked[MASKED_HOST_SIZE];
    struct head_change change = {
        .close = fwd->port != ENVD_PORT,
        .host = masked_host(fwd, route, masked),
    };
    const struct http_header *upgrade = http_head_find(head, "upgrade");

    if (fwd->port == ENVD_PORT && make_token(fwd, head, route, &change.jwt, err) < 0) {
        log_err(LOG_ERROR, "no token for envd", fwd->id, err);
        return forward_answer_text(fwd, 500, "Unexpected error when routing request");
    }
    if (head_write_request(head, target, &change, &fwd->up.head, err) < 0)
        return forward_answer_text(fwd, 431, err->msg);
    if (head->upgrade && !fwd->http_1_0)
        fwd->upgrade = mem_strndup(upgrade->value, upgrade->value_len);
    fwd->run = route->started_unix_ms;
    fwd->https = fwd->port != ENVD_PORT && net_ingress_https(&route->ingress, fwd->port);
    h2o_buffer_consume(&fwd->client->input, fwd->head_size);
    fwd->head_size = fwd->head_scanned = 0; /* from now on of the response */
    return STEP_NEXT;
}

static enum step to_sandbox(struct forward *fwd, const struct http_head *head,
                            const struct head_target *target, struct err *err)
{
    struct lifecycle_route route;
    enum step step;

    if (fwd->port == ENVD_PORT) {
        fwd->to.path = head_internal_path(target->path);
        if (fwd->to.path != NULL)
            return forward_answer(fwd, RESPOND_INTERNAL_PATH);
    }
    if (lifecycle_route(fwd->proxy->config.lifecycle, fwd->id, &route, err) < 0)
        return forward_answer(fwd, RESPOND_NOT_FOUND);
    step = route.running ? check_traffic(fwd, head, &route) : wake_begin(fwd, head, &route);
    if (step == STEP_NEXT && fwd->port == 0)
        step = forward_answer(fwd, RESPOND_PORT_CLOSED);
    if (step == STEP_NEXT)
        step = rewrite(fwd, head, target, &route, err);
    secret_wipe(&route, sizeof(route));
    return step;
}

enum step route_run(struct forward *fwd, struct err *err)
{
    const struct http_head *head = &fwd->proxy->head;
    char id_text[ROUTE_FIELD_SIZE], port_text[ROUTE_FIELD_SIZE];
    const char *id_field = field_text(head, "e2b-sandbox-id", id_text);
    const char *port_field = field_text(head, "e2b-sandbox-port", port_text);
    struct host_target target = {0};
    struct head_target where;

    if (!fwd->woken)
        stats_add_request();
    note_request(fwd, head);
    if (head_target(head, &where, err) < 0) {
        fwd->keep = false; /* no request that we could follow: what comes next is anybody's guess */
        return forward_answer_text(fwd, 400, err->msg);
    }
    if (where.host.data == NULL)
        return forward_answer_text(fwd, 400, "Invalid host");
    if (host_parse(where.host.data, where.host.len, fwd->proxy->domain, id_field, port_field,
                   &target, err) < 0 &&
        err->code != ERR_NOT_FOUND)
        return forward_answer_text(fwd, 400, err->msg);
    if (target.kind == HOST_API)
        return fwd->proxy->config.on_api != NULL ? STEP_HANDOVER
                                                 : forward_answer_text(fwd, 400, "Invalid host");
    note_target(fwd, &target, where.host);
    if (target.port == 0) {
        struct host_target by_header;
        bool shared = host_parse(where.host.data, where.host.len, fwd->proxy->domain, NULL, NULL,
                                 &by_header, err) < 0 &&
                      err->code == ERR_INVALID;
        fwd->to.port = written_port(where.host, shared ? port_field : NULL);
    }
    return to_sandbox(fwd, head, &where, err);
}
