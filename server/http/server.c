/*
 * server/http/server.c - an h2o context per loop, and the way from a request to its handler.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/http_private.h"

#define ALLOW_MAX_BYTES 128
#define CORS_HEADERS_MAX 1024
#define CORS_MAX_AGE_S "7200" /* the most that any browser keeps it */
/* conn.c keeps the real timeouts; h2o's is a second line and follows the wall clock. */
#define H2O_TIMEOUT_EXTRA_MS 60000
/* It also runs, and cannot be stopped, while upload.c reads: the longest upload. */
#define H2O_TIMEOUT_UPLOAD_MS (24 * 3600 * 1000)

struct dispatch_handler {
    h2o_handler_t super;
    struct http_server *server;
};

/* In h2o's pool for a request: tells us when that request ends, answered or not. */
struct request_hook {
    struct reply *reply;
    struct conn *conn;
};

static void on_request_end(void *data)
{
    struct request_hook *hook = data;

    hook->reply->req = NULL;
    conn_request_ended(hook->conn);
    reply_release(hook->reply);
}

static void add_hook(h2o_req_t *req, struct reply *reply, struct conn *conn)
{
    struct request_hook *hook = h2o_mem_alloc_shared(&req->pool, sizeof(*hook), on_request_end);

    hook->reply = reply;
    hook->conn = conn;
    reply->refs++;
}

/* The head as it came: h2o keeps it at the front of the input until the request is answered. */
static int scan_head(struct request *req, struct err *err)
{
    const h2o_buffer_t *input = conn_sock(req->conn)->input;

    if (http_head_scan(input->bytes, input->size, &req->head, err) != 0)
        return err->code != ERR_NONE ? -1 : err_set(err, ERR_INVALID, "the request is malformed");
    return 0;
}

static h2o_iovec_t pool_copy(struct request *req, const char *s, size_t len)
{
    return h2o_strdup(req->pool, s, len);
}

/* Split the target into path and query; the authority of an absolute form is dropped. */
static void split_target(struct request *req)
{
    const char *target = req->head.target;
    const char *end = target + req->head.target_len;
    const char *mark;
    size_t path_len;

    if (*target != '/') {
        const char *scheme = memmem(target, req->head.target_len, "://", 3);
        const char *slash =
            scheme == NULL ? NULL : memchr(scheme + 3, '/', (size_t)(end - scheme - 3));

        target = slash != NULL ? slash : target;
    }
    mark = memchr(target, '?', (size_t)(end - target));
    path_len = (size_t)((mark == NULL ? end : mark) - target);
    req->path = pool_copy(req, target, path_len).base;
    req->query = mark == NULL ? "" : pool_copy(req, mark + 1, (size_t)(end - mark - 1)).base;
    req->method = pool_copy(req, req->head.method, req->head.method_len).base;
}

/* What this thread says from now on is about REPLY's request. */
static void log_as(const struct reply *reply)
{
    struct log_context context;

    _Static_assert(sizeof(context.request_id) == sizeof(reply->id) &&
                       sizeof(context.trace_id) == sizeof(reply->trace),
                   "a request's ids fit");
    memcpy(context.request_id, reply->id, sizeof(context.request_id));
    memcpy(context.trace_id, reply->trace, sizeof(context.trace_id));
    log_context_set(&context);
}

static int check_request(struct request *req, struct err *err)
{
    size_t max = req->server->config->body_max_bytes;
    const struct http_header *id, *trace;

    if (scan_head(req, err) < 0) {
        req->reply->close = true; /* what follows on this connection cannot be trusted */
        return -1;
    }
    req->reply->close = !req->head.keep_alive;
    split_target(req);
    req->reply->head_only = str_eq(req->method, "HEAD");
    reply_set_target(req->reply, req->method, strlen(req->method), req->path, strlen(req->path));
    id = http_head_find(&req->head, "x-request-id");
    if (id != NULL)
        reply_set_id(req->reply, id->value, id->value_len);
    trace = http_head_find(&req->head, "traceparent");
    if (trace != NULL)
        reply_set_trace(req->reply, trace->value, trace->value_len);
    log_as(req->reply);
    if (conn_check_addressee(req->conn, &req->head, err) < 0) {
        req->reply->forced_status = 421;
        req->reply->close = true;
        return -1;
    }
    if (req->h2o != NULL && req->h2o->entity.base != NULL && req->h2o->entity.len > max) {
        req->reply->forced_status = 413;
        return err_set(err, ERR_INVALID, "the request body is larger than %zu bytes", max);
    }
    return 0;
}

static int find_route(struct request *req, struct err *err)
{
    const struct http_config *config = req->server->config;
    _cleanup_buf_ struct buf allow;

    buf_init(&allow, ALLOW_MAX_BYTES);
    switch (router_match(config->routes, config->route_count, req->method, strlen(req->method),
                         req->path, strlen(req->path), &req->match, &allow)) {
    case ROUTE_NO_PATH:
        return err_set(err, ERR_NOT_FOUND, "no such path: %s", req->path);
    case ROUTE_NO_METHOD:
        reply_header(req->reply, "allow", buf_str(&allow));
        req->reply->forced_status = 405;
        return err_set(err, ERR_INVALID, "%s is not allowed on %s; allowed: %s", req->method,
                       req->path, buf_str(&allow));
    case ROUTE_FOUND:
        break;
    }
    req->reply->route = req->match.route;
    reply_set_target(req->reply, req->method, strlen(req->method), req->match.route->path,
                     strlen(req->match.route->path));
    return 0;
}

/* What a browser may be told again: a list of names of headers. */
static bool is_name_list(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_, ";
    size_t len = strlen(text);

    return len <= CORS_HEADERS_MAX && strspn(text, allowed) == len;
}

/* A browser asks before it sends what a form could not. False: another kind of request. */
static bool answer_preflight(struct request *req)
{
    const char *names = request_header(req, "access-control-request-headers");

    if (!req->server->config->cors || !str_eq(req->method, "OPTIONS") ||
        request_header(req, "origin") == NULL ||
        request_header(req, "access-control-request-method") == NULL)
        return false;
    reply_header(req->reply, "access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
    /* "*" does not mean Authorization, so the names are said again */
    if (names != NULL && is_name_list(names))
        reply_header(req->reply, "access-control-allow-headers", names);
    reply_header(req->reply, "access-control-max-age", CORS_MAX_AGE_S);
    reply_header(req->reply, "vary", "access-control-request-headers");
    reply_empty(req->reply, 204);
    return true;
}

static int run_handler(struct request *req, struct err *err)
{
    const struct http_config *config = req->server->config;
    const struct route *route = req->match.route;

    if (request_decode(req, err) < 0)
        return -1;
    if (route->scope != 0 && config->authorize != NULL &&
        config->authorize(config->ctx, req, route->scope, err) < 0)
        return -1;
    if (route->handler == NULL)
        return err_set(err, ERR_UNSUPPORTED, "%s %s is not supported yet by this server",
                       route->method, route->path);
    if (route->handler(req, err) < 0)
        return -1;
    if (!req->reply->done && !req->reply->deferred)
        return err_set(err, ERR_INTERNAL, "the request ended without an answer");
    return 0;
}

void request_run(struct request *req)
{
    struct err err = {0};

    if (check_request(req, &err) < 0)
        reply_err(req->reply, &err);
    else if (!answer_preflight(req) && (find_route(req, &err) < 0 || run_handler(req, &err) < 0))
        reply_err(req->reply, &err);
    secret_wipe(req->user, req->has_user ? sizeof(req->user) : 0);
    log_context_set(NULL);
    reply_release(req->reply);
}

static int on_req(h2o_handler_t *self, h2o_req_t *h2o)
{
    struct http_server *server = ((struct dispatch_handler *)self)->server;
    struct conn *conn = conn_of(h2o);
    struct request req = {.h2o = h2o, .pool = &h2o->pool, .conn = conn, .server = server};

    conn_request_began(conn);
    req.reply = reply_new(server, h2o, NULL);
    add_hook(h2o, req.reply, conn);
    request_run(&req);
    return 0;
}

static void configure(struct http_server *server)
{
    const struct http_config *config = server->config;
    h2o_hostconf_t *host;
    h2o_pathconf_t *path;
    struct dispatch_handler *handler;

    h2o_config_init(&server->globalconf);
    server->globalconf.server_name = h2o_iovec_init(H2O_STRLIT("sandpit"));
    server->globalconf.http1.upgrade_to_http2 = 0;
    server->globalconf.http1.req_timeout =
        config->idle_timeout_ms + config->request_timeout_ms +
        (config->upload_path != NULL ? H2O_TIMEOUT_UPLOAD_MS : H2O_TIMEOUT_EXTRA_MS);
    /* h2o refuses a chunked body of exactly this many bytes. */
    server->globalconf.max_request_entity_size = config->body_max_bytes + 1;
    host =
        h2o_config_register_host(&server->globalconf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    path = h2o_config_register_path(host, "/", 0);
    handler = (struct dispatch_handler *)h2o_create_handler(path, sizeof(*handler));
    handler->super.on_req = on_req;
    handler->server = server;
    h2o_errors_register(server, path);
    h2o_errors_register(server, &host->fallback_path);
}

struct http_server *http_server_new(const struct http_config *config, struct loop *loop)
{
    struct http_server *server = mem_zalloc(sizeof(*server));

    server->config = config;
    server->loop = loop;
    server->stats = stats_of(config->name);
    h2o_linklist_init_anchor(&server->conns);
    configure(server);
    h2o_context_init(&server->h2o_ctx, loop_h2o(loop), &server->globalconf);
    server->accept_ctx.ctx = &server->h2o_ctx;
    server->accept_ctx.hosts = server->globalconf.hosts;
    return server;
}

void http_server_accept(struct http_server *server, struct st_h2o_socket_t *sock)
{
    conn_new(server, sock, false);
}

void http_server_accept_shared(struct http_server *server, struct st_h2o_socket_t *sock)
{
    conn_new(server, sock, true);
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    /*
     * No keep-alive for heads parsed from now on. h2o_context_request_shutdown would also start
     * HTTP/2's timer, which h2o_context_dispose then trips over.
     */
    server->h2o_ctx.shutdown_requested = 1;
    conn_close_all(server, false);
}

size_t http_server_active(const struct http_server *server)
{
    return server->active + conn_count_arriving(server);
}

void http_server_free(struct http_server *server)
{
    h2o_multithread_queue_t *queue;

    if (server == NULL)
        return;
    server->freeing = true;
    conn_close_all(server, true);
    h2o_evloop_run(loop_h2o(server->loop), 0);
    if (server->active > 0)
        log_error("requests are still under way", "server", server->config->name, "count",
                  log_num((long long)server->active));
    queue = server->h2o_ctx.queue;
    h2o_context_dispose(&server->h2o_ctx);
    free(queue); /* h2o 2.2.5 closes it and forgets its memory */
    h2o_config_dispose(&server->globalconf);
    free(server);
}
