#include "envd/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/base/date.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define EXPOSED                                                                                    \
    "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Location, Cache-Control, "                \
    "X-Content-Type-Options, Sandpit-Offsets"

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {206, "Partial Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {409, "Conflict"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < array_size(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "";
}

/* The line of an answer header: where it begins, and its length with CR and LF. NULL: none. */
static char *find_header(struct exchange *ex, const char *name, size_t *len)
{
    size_t name_len = strlen(name);
    char *line = ex->answer_headers.data;

    for (; line != NULL && *line != '\0'; line += *len) {
        *len = strcspn(line, "\n") + 1;
        if (*len > name_len && line[name_len] == ':' && mem_is_nocase(line, name_len, name))
            return line;
    }
    return NULL;
}

static bool has_header(struct exchange *ex, const char *name)
{
    size_t len;

    return find_header(ex, name, &len) != NULL;
}

int http_add_header(struct exchange *ex, const char *name, const char *value)
{
    if (strpbrk(value, "\r\n") != NULL)
        return -1;
    return buf_printf(&ex->answer_headers, "%s: %s\r\n", name, value);
}

int http_set_header(struct exchange *ex, const char *name, const char *value)
{
    struct buf *headers = &ex->answer_headers;
    size_t len;
    char *line;

    if (strpbrk(value, "\r\n") != NULL)
        return -1;
    while ((line = find_header(ex, name, &len)) != NULL) {
        memmove(line, line + len, headers->len - (size_t)(line - headers->data) - len + 1);
        headers->len -= len;
    }
    return http_add_header(ex, name, value);
}

void http_close_after(struct exchange *ex)
{
    ex->head.keep_alive = false;
}

bool http_begun(const struct exchange *ex)
{
    return ex->begun;
}

static void add_date(struct buf *out)
{
    char text[DATE_HTTP_SIZE];

    date_http(time_unix_ms() / 1000, text);
    buf_printf(out, "Date: %s\r\n", text);
}

/* envd-api section 7.2: on every answer. */
static void add_cors(struct exchange *ex, struct buf *out)
{
    if (!has_header(ex, "Vary"))
        buf_add_str(out, "Vary: Origin\r\n");
    if (http_header(ex, "origin") == NULL)
        return;
    if (!has_header(ex, "Access-Control-Allow-Origin"))
        buf_add_str(out, "Access-Control-Allow-Origin: *\r\n");
    if (!has_header(ex, "Access-Control-Allow-Methods")) /* not a preflight */
        buf_add_str(out, "Access-Control-Expose-Headers: " EXPOSED "\r\n");
}

static void add_framing(struct exchange *ex, int status, int64_t length, struct buf *out)
{
    ex->left = length;
    if (length < 0 && ex->head.minor == 1) {
        ex->chunked = true;
        buf_add_str(out, "Transfer-Encoding: chunked\r\n");
    } else if (length < 0) {
        ex->head.keep_alive = false; /* HTTP/1.0: the body ends with the connection */
    } else if (status != 204 && status != 304) {
        buf_printf(out, "Content-Length: %lld\r\n", (long long)length);
    }
    if (!ex->head.keep_alive || (!http_body_done(&ex->framing) && !ex->continued))
        buf_add_str(out, "Connection: close\r\n");
    else if (ex->head.minor == 0)
        buf_add_str(out, "Connection: keep-alive\r\n");
}

void answer_head(struct exchange *ex, int status, const char *content_type, int64_t length)
{
    struct buf *out = &ex->conn->out;

    conn_out_borrow(ex->conn);
    ex->begun = true;
    ex->status = status;
    buf_printf(out, "HTTP/1.1 %d %s\r\n", status, reason(status));
    add_date(out);
    add_cors(ex, out);
    if (content_type != NULL)
        buf_printf(out, "Content-Type: %s\r\n", content_type);
    buf_add(out, ex->answer_headers.data, ex->answer_headers.len);
    add_framing(ex, status, length, out);
    buf_add_str(out, "\r\n");
}

/* ---- Loop handlers ---- */

void http_reply(struct exchange *ex, int status, const char *content_type, const void *data,
                size_t len)
{
    struct conn *conn = ex->conn;

    if (conn == NULL || ex->begun)
        return;
    answer_head(ex, status, content_type, (int64_t)len);
    buf_add(&conn->out, data, len);
    ex->ended = true;
    conn_answered(conn);
}

void http_reply_empty(struct exchange *ex, int status)
{
    http_reply(ex, status, NULL, "", 0);
}

void http_reply_json(struct exchange *ex, int status, json_t *json)
{
    _cleanup_free_ char *text = json_text(json);

    json_decref(json);
    http_reply(ex, status, "application/json; charset=utf-8", text, strlen(text));
}

/* {"code":STATUS,"message":MESSAGE} and a newline; to free(). */
static char *error_text(int status, const char *message)
{
    json_t *json = json_object();
    _cleanup_free_ char *text = NULL;

    json_put_i64(json, "code", status);
    json_put(json, "message", json_string_nocheck(message));
    text = json_text(json);
    json_decref(json);
    return mem_asprintf("%s\n", text);
}

/* Cut S where its UTF-8 stops being well-formed, as a message cut at its limit may be. */
static void cut_utf8(char *s)
{
    size_t len = strlen(s);

    while (len > 0 && !str_is_utf8(s, len))
        s[--len] = '\0';
}

void http_reply_error(struct exchange *ex, int status, const char *fmt, ...)
{
    char message[ERR_MSG_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    cut_utf8(message);
    _cleanup_free_ char *text = error_text(status, message);
    http_set_header(ex, "X-Content-Type-Options", "nosniff");
    http_reply(ex, status, "application/json; charset=utf-8", text, strlen(text));
}

void http_reply_err(struct exchange *ex, const struct err *err)
{
    int status = error_http_status(err->code);

    if (status >= 500 && err->code != ERR_UNSUPPORTED)
        log_err(LOG_WARN, "request failed", NULL, err);
    http_reply_error(ex, status, "%s", err->msg);
}

/* ---- Streams ---- */

void http_stream_begin(struct exchange *ex, int status, const char *content_type)
{
    if (ex->conn == NULL)
        return;
    answer_head(ex, status, content_type, -1);
    conn_flush_soon(ex->conn);
}

char *http_stream_room(struct exchange *ex, size_t len)
{
    struct conn *conn = ex->conn;

    if (conn == NULL)
        return NULL;
    conn_out_borrow(conn);
    if (ex->chunked)
        buf_printf(&conn->out, "%zx\r\n", len);
    return buf_reserve(&conn->out, len + 2);
}

void http_stream_commit(struct exchange *ex, size_t len)
{
    struct conn *conn = ex->conn;

    buf_commit(&conn->out, len);
    if (ex->chunked)
        buf_add(&conn->out, "\r\n", 2);
    conn_flush_soon(conn);
    conn_count(conn);
}

size_t http_stream_write(struct exchange *ex, const void *data, size_t len)
{
    char *to = len > 0 ? http_stream_room(ex, len) : NULL; /* an empty chunk ends the body */

    if (to != NULL) {
        memcpy(to, data, len);
        http_stream_commit(ex, len);
    }
    return ex->conn != NULL ? conn_backlog(ex->conn) : 0;
}

void http_stream_end(struct exchange *ex)
{
    struct conn *conn = ex->conn;

    if (conn == NULL)
        return;
    if (ex->chunked)
        buf_add_str(&conn->out, "0\r\n\r\n");
    ex->ended = true;
    conn_answered(conn);
}

/* ---- Blocking handlers ---- */

int http_send(struct exchange *ex, int status, const char *content_type, const void *data,
              size_t len, struct err *err)
{
    if (http_begin(ex, status, content_type, (int64_t)len, err) < 0 ||
        http_write(ex, data, len, err) < 0)
        return -1;
    return http_end(ex, err);
}

int http_send_json(struct exchange *ex, int status, json_t *json, struct err *err)
{
    _cleanup_free_ char *text = json_text(json);

    json_decref(json);
    return http_send(ex, status, "application/json; charset=utf-8", text, strlen(text), err);
}

int http_send_error(struct exchange *ex, int status, struct err *err, const char *fmt, ...)
{
    char message[ERR_MSG_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    cut_utf8(message);
    _cleanup_free_ char *text = error_text(status, message);
    http_set_header(ex, "X-Content-Type-Options", "nosniff");
    return http_send(ex, status, "application/json; charset=utf-8", text, strlen(text), err);
}
