/*
 * Requests on their way out: each names the host that was decided on, and gets the headers that the
 * rules set. Bodies pass as they are.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/gateway/flow.h"

static const char *status_words(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 405:
        return "Method Not Allowed";
    case 421:
        return "Misdirected Request";
    case 431:
        return "Request Header Fields Too Large";
    default:
        return "Bad Gateway";
    }
}

void http_answer(struct buf *out, int status, const char *text)
{
    buf_printf(out,
               "HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
               "content-length: %zu\r\nconnection: close\r\nx-sandpit: egress-gateway\r\n\r\n%s\n",
               status, status_words(status), strlen(text) + 1, text);
}

/* Answer instead of the destination; nothing more is read of the sandbox. */
static bool answer(struct flow *flow, int status, const char *text)
{
    http_answer(&flow->down.data, status, text);
    flow->refused = true;
    flow->in.eof = true;
    buf_reset(&flow->in.data);
    flow->down.eof = true;
    return true;
}

/* The Host of HEAD is the name that was decided on. */
static bool same_host(const struct flow *flow, const struct http_head *head)
{
    size_t len, name_len = strlen(flow->name);
    const char *value, *colon;

    if (head->host == NULL)
        return false;
    value = head->host->value;
    colon = memchr(value, ':', head->host->value_len);
    len = colon != NULL ? (size_t)(colon - value) : head->host->value_len;
    if (len > 0 && value[len - 1] == '.')
        len--;
    return len == name_len && strncasecmp(value, flow->name, len) == 0;
}

/* What frames a message is not a rule's business. */
static bool is_framing(const char *name)
{
    return strcasecmp(name, "content-length") == 0 || strcasecmp(name, "transfer-encoding") == 0 ||
           strcasecmp(name, "connection") == 0 || strcasecmp(name, "upgrade") == 0;
}

static bool is_set_by(json_t *headers, const struct http_header *header)
{
    const char *name;
    json_t *value;

    json_object_foreach(headers, name, value) {
        /* mem_is_nocase wants a lower-case word; names of rules may have any case */
        if (strlen(name) == header->name_len && !is_framing(name) &&
            strncasecmp(header->name, name, header->name_len) == 0)
            return true;
    }
    return false;
}

static void write_head(struct buf *out, const struct http_head *head, json_t *headers,
                       bool websocket)
{
    const char *name;
    json_t *value;

    buf_add(out, head->method, head->method_len);
    buf_add_char(out, ' ');
    buf_add(out, head->target, head->target_len);
    buf_printf(out, " HTTP/1.%d\r\n", head->minor_version);
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *header = &head->headers[i];
        if (is_set_by(headers, header) ||
            (!websocket && mem_is_nocase(header->name, header->name_len, "upgrade")))
            continue;
        buf_add(out, header->name, header->name_len);
        buf_add_str(out, ": ");
        buf_add(out, header->value, header->value_len);
        buf_add_str(out, "\r\n");
    }
    json_object_foreach(headers, name, value) {
        if (is_framing(name))
            continue;
        for (const char *p = name; *p != '\0'; p++)
            buf_add_char(out, *p >= 'A' && *p <= 'Z' ? (char)(*p | 0x20) : *p);
        buf_add_str(out, ": ");
        buf_add(out, json_string_value(value), json_string_length(value));
        buf_add_str(out, "\r\n");
    }
    buf_add_str(out, "\r\n");
}

/* A header whose value could not be filled; NULL: none. */
static const char *missing_value(json_t *headers)
{
    const char *name;
    json_t *value;

    json_object_foreach(headers, name, value) {
        if (!json_is_string(value))
            return name;
    }
    return NULL;
}

static bool refuse_missing(struct flow *flow, const char *name)
{
    char text[256];

    snprintf(text, sizeof(text),
             "sandpit: the rule for %.100s sets the header %.64s from a secret that does not exist "
             "or does not fit",
             flow->name, name);
    return answer(flow, 502, text);
}

/* What HEAD must not be; true: it has been answered. */
static bool refuse_head(struct flow *flow, const struct http_head *head, json_t *headers)
{
    const char *missing = missing_value(headers);
    char text[HELLO_NAME_SIZE + 80];

    if (!same_host(flow, head)) {
        snprintf(text, sizeof(text), "sandpit: this connection is for %.253s alone", flow->name);
        return answer(flow, 421, text);
    }
    if (head->target[0] != '/' && !mem_is(head->target, head->target_len, "*"))
        return answer(flow, 400, "sandpit: the request's target must be a path");
    /* TRACE would show what is set to the sandbox */
    if (headers != NULL && mem_is(head->method, head->method_len, "TRACE"))
        return answer(flow, 405, "sandpit: TRACE is not allowed where headers are set");
    return missing != NULL && refuse_missing(flow, missing);
}

/* The one protocol to change to; others (h2c) would hide requests from us. */
static bool is_websocket(const struct http_head *head)
{
    const struct http_header *upgrade = http_head_find(head, "upgrade");

    return head->upgrade && upgrade != NULL && head->framing == HTTP_BODY_NONE &&
           mem_is_nocase(upgrade->value, upgrade->value_len, "websocket");
}

static bool one_head(struct flow *flow)
{
    json_t *headers = policy_headers(flow->tenant->policy, flow->name);
    struct buf *in = &flow->in.data, *up = &flow->up.data;
    struct http_head head;
    struct err err = {0};
    int rc = http_head_scan(buf_str(in), in->len, &head, &err);
    bool upgrade;

    if (rc < 0 || (rc > 0 && in->len >= FLOW_BUFFER_BYTES)) {
        char text[ERR_MSG_SIZE + 16];
        snprintf(text, sizeof(text), "sandpit: %s", rc < 0 ? err.msg : "the head is too large");
        return answer(flow, rc > 0 || err.code == ERR_LIMIT ? 431 : 400, text);
    }
    if (rc > 0 || up->len >= flow_room(flow))
        return false;
    if (flow->failure[0] != '\0')
        return answer(flow, 502, flow->failure);
    if (refuse_head(flow, &head, headers))
        return true;
    upgrade = is_websocket(&head);
    write_head(up, &head, headers, upgrade);
    flow->http_left = head.content_length;
    flow->chunks = (struct chunks){0};
    flow->http = upgrade                                                       ? HTTP_ANSWER
                 : head.framing == HTTP_BODY_CHUNKED                           ? HTTP_CHUNKS
                 : head.framing == HTTP_BODY_LENGTH && head.content_length > 0 ? HTTP_LENGTH
                                                                               : HTTP_HEAD;
    buf_consume(in, head.size);
    return true;
}

static bool copy(struct flow *flow, size_t len)
{
    buf_add(&flow->up.data, flow->in.data.data, len);
    buf_consume(&flow->in.data, len);
    return len > 0;
}

static size_t room(const struct flow *flow)
{
    size_t used = flow->up.data.len, have = flow->in.data.len;
    size_t left = used < flow_room(flow) ? flow_room(flow) - used : 0;

    return have < left ? have : left;
}

static bool one_chunk_part(struct flow *flow, size_t len)
{
    bool done;
    size_t used = chunks_scan(&flow->chunks, flow->in.data.data, len, &done);

    if (used == SIZE_MAX)
        return answer(flow, 400, "sandpit: the chunked body is malformed");
    if (done)
        flow->http = HTTP_HEAD;
    return copy(flow, used);
}

bool http_step(struct flow *flow)
{
    size_t len = room(flow);

    if (flow->refused)
        return false;
    switch (flow->http) {
    case HTTP_HEAD:
        return flow->in.data.len > 0 && one_head(flow);
    case HTTP_LENGTH:
        len = len < flow->http_left ? len : (size_t)flow->http_left;
        flow->http_left -= len;
        if (flow->http_left == 0)
            flow->http = HTTP_HEAD;
        return copy(flow, len);
    case HTTP_CHUNKS:
        return len > 0 && one_chunk_part(flow, len);
    case HTTP_ANSWER:
        return false;
    case HTTP_TUNNEL:
        return copy(flow, len);
    }
    return false;
}

void http_answered(struct flow *flow, const char *data, size_t len)
{
    static const char begin[] = "HTTP/1.1 1";

    if (flow->kind == KIND_PLAIN || flow->http != HTTP_ANSWER)
        return;
    if (len >= sizeof(begin) + 1 && memcmp(data, "HTTP/1.1 101", 12) == 0)
        flow->http = HTTP_TUNNEL;
    else if (len < sizeof(begin) - 1 || memcmp(data, begin, sizeof(begin) - 1) != 0)
        flow->http = HTTP_HEAD; /* refused: what comes next is a request again */
}
