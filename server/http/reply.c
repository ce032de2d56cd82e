/*
 * server/http/reply.c - replies: references, headers, the one end of each; see http.h.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/http/http_private.h"

struct reply *reply_new(struct http_server *server, h2o_req_t *req, struct capture *capture)
{
    struct reply *reply = mem_zalloc(sizeof(*reply));

    _Static_assert(sizeof(reply->id) >= UUID_SIZE, "an id holds a UUID");
    reply->refs = 1;
    reply->server = server;
    reply->req = req;
    reply->capture = capture;
    reply->started_mono_us = time_mono_us();
    hash_random_uuid(reply->id);
    trace_new(reply->trace);
    server->active++;
    if (server->config->cors) {
        reply_header(reply, "access-control-allow-origin", "*");
        reply_header(reply, "access-control-expose-headers", "*");
    }
    return reply;
}

static void free_headers(struct reply_header *headers)
{
    while (headers != NULL) {
        struct reply_header *header = headers;

        headers = header->next;
        free(header->name);
        free(header->value);
        free(header);
    }
}

void reply_release(struct reply *reply)
{
    if (--reply->refs > 0)
        return;
    reply->server->active--;
    if (reply->upload != NULL)
        upload_unref(reply->upload);
    free_headers(reply->headers);
    free(reply);
}

void reply_unref(struct reply *reply)
{
    if (reply == NULL)
        return;
    if (!reply->done) {
        struct err err = {0};

        /* A handler forgot its answer: the client must not wait for ever. */
        err_set(&err, ERR_INTERNAL, "the request ended without an answer");
        reply_err(reply, &err);
    }
    reply->deferred = false;
    reply_release(reply);
}

/* X-Request-Id is taken over when it is [A-Za-z0-9._-]{1,36}; else ours stays. */
void reply_set_id(struct reply *reply, const char *id, size_t len)
{
    if (len == 0 || len > 36)
        return;
    for (size_t i = 0; i < len; i++) {
        char c = id[i];

        if (!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') &&
            c != '.' && c != '_' && c != '-')
            return;
    }
    memcpy(reply->id, id, len);
    reply->id[len] = '\0';
}

void reply_set_trace(struct reply *reply, const char *text, size_t len)
{
    trace_parse(text, len, reply->trace); /* else the new one stays */
}

static void copy_cut(char *out, size_t size, const char *s, size_t len)
{
    if (len >= size)
        len = size - 1;
    memcpy(out, s, len);
    out[len] = '\0';
}

void reply_set_target(struct reply *reply, const char *method, size_t method_len, const char *path,
                      size_t path_len)
{
    copy_cut(reply->method, sizeof(reply->method), method, method_len);
    copy_cut(reply->path, sizeof(reply->path), path, path_len);
}

bool reply_client_gone(const struct reply *reply)
{
    h2o_socket_t *sock;
    struct pollfd pfd;

    if (reply->capture != NULL)
        return false;
    if (reply->req == NULL)
        return true;
    /* h2o does not read while a request is under way, so it would not notice. */
    sock = reply->req->conn->callbacks->get_socket(reply->req->conn);
    pfd = (struct pollfd){.fd = h2o_socket_get_fd(sock), .events = POLLRDHUP};
    return poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void reply_header(struct reply *reply, const char *name, const char *value)
{
    struct reply_header *header;

    if (reply->done || strpbrk(value, "\r\n") != NULL)
        return;
    header = mem_zalloc(sizeof(*header));
    header->name = mem_strdup(name);
    header->value = mem_strdup(value);
    header->next = reply->headers;
    reply->headers = header;
}

static void add_header(h2o_req_t *req, const char *name, const char *value)
{
    h2o_iovec_t name_copy = h2o_strdup(&req->pool, name, SIZE_MAX);
    h2o_iovec_t value_copy = h2o_strdup(&req->pool, value, SIZE_MAX);

    h2o_add_header_by_str(&req->pool, &req->res.headers, name_copy.base, name_copy.len, 1, NULL,
                          value_copy.base, value_copy.len);
}

static void account(struct reply *reply, int status)
{
    int64_t duration_us = time_mono_us() - reply->started_mono_us;
    bool gone = reply->req == NULL && reply->capture == NULL;

    stats_count(reply->server->stats, reply->route, status, duration_us);
    log_info("request", "server", reply->server->config->name, "method", reply->method, "path",
             reply->path, "status", log_num(status), "duration_ms", log_num(duration_us / 1000),
             "request_id", reply->id, "trace_id", reply->trace, "client_gone",
             gone ? "true" : NULL);
}

static void keep(struct reply *reply, int status, const char *content_type, const void *data,
                 size_t len)
{
    struct capture *capture = reply->capture;

    capture->status = status;
    if (content_type != NULL)
        capture->content_type = content_type;
    capture->headers = steal_ptr(&reply->headers);
    memcpy(capture->id, reply->id, sizeof(capture->id));
    buf_reset(&capture->body);
    buf_add(&capture->body, data, len);
}

/* All before the body; BODILESS: no length either (RFC 9110 section 8.6). */
static void set_head(struct reply *reply, int status, const char *content_type, uint64_t len,
                     bool bodiless)
{
    h2o_req_t *req = reply->req;

    req->res.status = status;
    req->res.reason = status_reason(status);
    req->res.content_length = bodiless ? SIZE_MAX : len;
    if (reply->close || reply->server->draining)
        req->http1_is_persistent = 0;
    if (content_type != NULL && !bodiless)
        add_header(req, "content-type", content_type);
    add_header(req, "x-request-id", reply->id);
    add_header(req, "x-e2b-trace-id", reply->trace); /* E2B's SDKs print it with errors */
    for (struct reply_header *header = reply->headers; header != NULL; header = header->next)
        add_header(req, header->name, header->value);
    conn_answering(conn_of(req));
}

static void send_by_h2o(struct reply *reply, int status, const char *content_type, const void *data,
                        size_t len)
{
    static h2o_generator_t generator = {NULL, NULL};
    h2o_req_t *req = reply->req;
    bool bodiless = status == 204 || status == 304;
    h2o_iovec_t body = h2o_strdup(&req->pool, data, len);

    set_head(reply, status, content_type, len, bodiless);
    reply->server->sending = reply;
    h2o_start_response(req, &generator);
    reply->server->sending = NULL;
    h2o_send(req, &body, bodiless || reply->head_only || len == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

/* The only place where a reply ends. */
static void finish(struct reply *reply, int status, const char *content_type, const void *data,
                   size_t len)
{
    if (reply->done) {
        log_error("a request was answered twice", "path", reply->path, "request_id", reply->id);
        return;
    }
    reply->done = true;
    if (reply->forced_status != 0)
        status = reply->forced_status;
    if (reply->capture != NULL) {
        keep(reply, status, content_type, data, len);
        if (reply->upload == NULL)
            return; /* its user logs it */
        account(reply, status);
        upload_answered(reply->upload);
        return;
    }
    account(reply, status);
    if (reply->req != NULL)
        send_by_h2o(reply, status, content_type, data, len);
}

void reply_file(struct reply *reply, int status, const char *content_type, int fd, uint64_t len)
{
    if (reply->done || reply->capture != NULL || reply->req == NULL) {
        fd_close(&fd);
        reply_empty(reply, status); /* logs it; nobody is there to take the file */
        return;
    }
    reply->done = true;
    account(reply, status);
    set_head(reply, status, content_type, len, false);
    reply->server->sending = reply;
    stream_start(reply, fd, len);
    reply->server->sending = NULL;
}

void reply_empty(struct reply *reply, int status)
{
    finish(reply, status, NULL, "", 0);
}

void reply_bytes(struct reply *reply, int status, const char *content_type, const void *data,
                 size_t len)
{
    finish(reply, status, content_type, data, len);
}

void reply_json(struct reply *reply, int status, json_t *json)
{
    _cleanup_json_ json_t *owned = json;
    _cleanup_free_ char *text = NULL;

    /* E2B's SDKs compare "code" with the status, so one that we force must be there too. */
    if (reply->forced_status != 0 && json_is_object(json) &&
        json_is_integer(json_object_get(json, "code")))
        json_put_i64(json, "code", reply->forced_status);
    text = json_text(json);
    finish(reply, status, "application/json", text, strlen(text));
}

/* Without write_error. The API's own table, with E2B's exceptions, is server/api/error_table.c. */
static int plain_status(enum err_code code)
{
    static const int statuses[] = {
        [ERR_NONE] = 500,        [ERR_INVALID] = 400,   [ERR_UNAUTHENTICATED] = 401,
        [ERR_FORBIDDEN] = 403,   [ERR_NOT_FOUND] = 404, [ERR_EXISTS] = 409,
        [ERR_CONFLICT] = 409,    [ERR_LIMIT] = 429,     [ERR_INTERNAL] = 500,
        [ERR_UNSUPPORTED] = 501, [ERR_BUSY] = 503,      [ERR_TIMEOUT] = 504,
        [ERR_NO_SPACE] = 507,    [ERR_UNKNOWN] = 422,
    };
    _Static_assert(array_size(statuses) == ERR_CODE_COUNT, "a status for each code");

    return statuses[code];
}

static void write_plain(struct reply *reply, const struct err *err)
{
    char text[ERR_MSG_SIZE + 1];
    int len = snprintf(text, sizeof(text), "%s\n", err->msg);

    reply_bytes(reply, plain_status(err->code), "text/plain; charset=utf-8", text, (size_t)len);
}

static void write_error(struct reply *reply, const struct err *err)
{
    if (reply->server->config->write_error != NULL)
        reply->server->config->write_error(reply, err);
    else
        write_plain(reply, err);
}

static void log_reply_err(const struct reply *reply, const struct err *err)
{
    bool ours = err->code == ERR_INTERNAL || err->code == ERR_NONE;

    log_write(ours ? LOG_ERROR : LOG_DEBUG, "request failed", "error", err_code_name(err->code),
              "message", err->msg, "detail", err->detail[0] != '\0' ? err->detail : NULL,
              "request_id", reply->id, (char *)0);
}

void reply_err(struct reply *reply, const struct err *err)
{
    log_reply_err(reply, err);
    write_error(reply, err);
}

void reply_err_status(struct reply *reply, int status, const struct err *err)
{
    reply->forced_status = status;
    reply_err(reply, err);
}

void capture_err(struct http_server *server, struct capture *capture, int status,
                 const struct err *err)
{
    struct reply *reply;

    *capture = (struct capture){.status = status, .content_type = "text/plain"};
    buf_init(&capture->body, ERROR_BODY_MAX_BYTES);
    reply = reply_new(server, NULL, capture);
    reply_err_status(reply, status, err);
    reply_release(reply);
}

void capture_clear(struct capture *capture)
{
    free_headers(capture->headers);
    capture->headers = NULL;
    buf_clear(&capture->body);
}

void capture_account(struct http_server *server, const struct capture *capture,
                     const struct err *err)
{
    stats_count(server->stats, NULL, capture->status, 0);
    log_info("request refused", "server", server->config->name, "status", log_num(capture->status),
             "message", err->msg, "request_id", capture->id);
}

const char *reply_target(const struct reply *reply)
{
    return reply->path;
}

const char *status_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < array_size(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}
