/*
 * server/base/http_head.c - the strict request-head scanner; see http_head.h.
 */
#include "server/base/http_head.h"

#include <string.h>

#include "server/base/str.h"

#define MORE 1 /* the input ended inside a line */

struct cursor {
    const char *at;
    const char *end;
};

/* Fields that framing, routing or the connection depends on. */
struct noted {
    const struct http_header *host;
    const struct http_header *content_length;
    const struct http_header *transfer_encoding;
    const struct http_header *upgrade;
    bool close;
    bool keep_alive;
    bool connection_upgrade;
};

bool http_is_token_char(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Visible, blank or obs-text: what a field value may hold. */
static bool is_value_char(char c)
{
    unsigned char u = (unsigned char)c;

    return c == '\t' || (u >= 0x20 && u != 0x7f);
}

/* The length of the token at the cursor; the caller looks at what follows. */
static size_t token_len(const struct cursor *cur)
{
    size_t len = 0;

    while (cur->at + len < cur->end && http_is_token_char(cur->at[len]))
        len++;
    return len;
}

/* Past CR LF. */
static int take_crlf(struct cursor *cur, struct err *err)
{
    if (cur->at == cur->end)
        return MORE;
    if (*cur->at == '\n')
        return err_set(err, ERR_INVALID, "the request head has a line that ends without CR");
    if (*cur->at != '\r')
        return err_set(err, ERR_INVALID, "the request head has an invalid character");
    if (cur->at + 1 == cur->end)
        return MORE;
    if (cur->at[1] != '\n')
        return err_set(err, ERR_INVALID, "the request head has a CR without LF");
    cur->at += 2;
    return 0;
}

static int scan_method(struct cursor *cur, struct http_head *out, struct err *err)
{
    out->method = cur->at;
    out->method_len = token_len(cur);
    cur->at += out->method_len;
    if (cur->at == cur->end)
        return MORE;
    if (out->method_len == 0 || *cur->at != ' ')
        return err_set(err, ERR_INVALID, "the request method is malformed");
    cur->at++;
    return 0;
}

static int scan_target(struct cursor *cur, struct http_head *out, struct err *err)
{
    out->target = cur->at;
    while (cur->at < cur->end && (unsigned char)*cur->at > 0x20 && *cur->at != 0x7f)
        cur->at++;
    out->target_len = (size_t)(cur->at - out->target);
    if (cur->at == cur->end)
        return MORE;
    if (out->target_len == 0 || *cur->at != ' ')
        return err_set(err, ERR_INVALID, "the request target is malformed");
    cur->at++;
    return 0;
}

/* "HTTP/2.0" and the like are another version; anything else is no HTTP. */
static int wrong_version(const struct cursor *cur, struct err *err)
{
    size_t left = (size_t)(cur->end - cur->at);
    bool other =
        left > 5 && memcmp(cur->at, "HTTP/", 5) == 0 && cur->at[5] >= '0' && cur->at[5] <= '9';

    return err_set(err, other ? ERR_UNSUPPORTED : ERR_INVALID,
                   "the request line does not name HTTP/1.1 or HTTP/1.0");
}

static int scan_version(struct cursor *cur, struct http_head *out, struct err *err)
{
    static const char prefix[] = "HTTP/1.";
    size_t left = (size_t)(cur->end - cur->at);
    size_t want = sizeof(prefix) - 1;

    if (memcmp(cur->at, prefix, left < want ? left : want) != 0)
        return wrong_version(cur, err);
    if (left <= want)
        return MORE;
    cur->at += want;
    if (*cur->at != '0' && *cur->at != '1')
        return wrong_version(cur, err);
    out->minor_version = *cur->at++ - '0';
    return take_crlf(cur, err);
}

static int scan_request_line(struct cursor *cur, struct http_head *out, struct err *err)
{
    int rc = 0;

    if (*cur->at == '\r' || *cur->at == '\n')
        rc = take_crlf(cur, err); /* RFC 9112 section 2.2: one empty line before a request */
    if (rc == 0)
        rc = scan_method(cur, out, err);
    if (rc == 0)
        rc = scan_target(cur, out, err);
    if (rc == 0)
        rc = scan_version(cur, out, err);
    return rc;
}

static int scan_name(struct cursor *cur, struct http_header *header, struct err *err)
{
    if (is_blank(*cur->at))
        return err_set(err, ERR_INVALID, "a header field continues on a second line (obs-fold)");
    header->name = cur->at;
    header->name_len = token_len(cur);
    cur->at += header->name_len;
    if (cur->at == cur->end)
        return MORE;
    if (header->name_len > 0 && is_blank(*cur->at))
        return err_set(err, ERR_INVALID, "a header field has a blank before its colon");
    if (header->name_len == 0 || *cur->at != ':')
        return err_set(err, ERR_INVALID, "a header field has an invalid name");
    cur->at++;
    return 0;
}

static int scan_value(struct cursor *cur, struct http_header *header, struct err *err)
{
    const char *end;

    while (cur->at < cur->end && is_blank(*cur->at))
        cur->at++;
    header->value = cur->at;
    while (cur->at < cur->end && is_value_char(*cur->at))
        cur->at++;
    end = cur->at;
    while (end > header->value && is_blank(end[-1]))
        end--;
    header->value_len = (size_t)(end - header->value);
    return take_crlf(cur, err);
}

static int set_once(const struct http_header **slot, const struct http_header *header,
                    const char *what, struct err *err)
{
    if (*slot != NULL)
        return err_set(err, ERR_INVALID, "the request has more than one %s header", what);
    *slot = header;
    return 0;
}

static int note_header(const struct http_header *header, struct http_head *out, struct noted *noted,
                       struct err *err)
{
    const char *name = header->name;
    size_t len = header->name_len;

    if (mem_is_nocase(name, len, "host"))
        return set_once(&noted->host, header, "Host", err);
    if (mem_is_nocase(name, len, "content-length"))
        return set_once(&noted->content_length, header, "Content-Length", err);
    if (mem_is_nocase(name, len, "transfer-encoding"))
        return set_once(&noted->transfer_encoding, header, "Transfer-Encoding", err);
    if (mem_is_nocase(name, len, "expect"))
        out->expect = header;
    if (mem_is_nocase(name, len, "upgrade"))
        noted->upgrade = header;
    if (mem_is_nocase(name, len, "connection")) {
        noted->close |= http_list_has(header->value, header->value_len, "close");
        noted->keep_alive |= http_list_has(header->value, header->value_len, "keep-alive");
        noted->connection_upgrade |= http_list_has(header->value, header->value_len, "upgrade");
    }
    return 0;
}

static int scan_headers(struct cursor *cur, struct http_head *out, struct noted *noted,
                        struct err *err)
{
    int rc;

    for (;;) {
        struct http_header *header = &out->headers[out->header_count];

        if (cur->at == cur->end)
            return MORE;
        if (*cur->at == '\r' || *cur->at == '\n')
            return take_crlf(cur, err);
        if (out->header_count == HTTP_HEADERS_MAX)
            return err_set(err, ERR_LIMIT, "the request has more than %d header fields",
                           HTTP_HEADERS_MAX);
        rc = scan_name(cur, header, err);
        if (rc == 0)
            rc = scan_value(cur, header, err);
        if (rc == 0)
            rc = note_header(header, out, noted, err);
        if (rc != 0)
            return rc;
        out->header_count++;
    }
}

static int check_chunked(const struct noted *noted, struct http_head *out, struct err *err)
{
    const struct http_header *field = noted->transfer_encoding;

    if (noted->content_length != NULL)
        return err_set(err, ERR_INVALID,
                       "the request has both Content-Length and Transfer-Encoding");
    if (out->minor_version == 0)
        return err_set(err, ERR_INVALID, "Transfer-Encoding needs HTTP/1.1");
    if (!mem_is_nocase(field->value, field->value_len, "chunked"))
        return err_set(err, ERR_INVALID, "the only Transfer-Encoding accepted is \"chunked\"");
    out->framing = HTTP_BODY_CHUNKED;
    return 0;
}

static int check_framing(const struct noted *noted, struct http_head *out, struct err *err)
{
    const struct http_header *field = noted->content_length;

    if (noted->transfer_encoding != NULL)
        return check_chunked(noted, out, err);
    if (field == NULL)
        return 0;
    if (str_to_u64(field->value, field->value_len, 0, INT64_MAX, "Content-Length",
                   &out->content_length, err) < 0)
        return -1;
    out->framing = HTTP_BODY_LENGTH;
    return 0;
}

int http_head_scan(const char *data, size_t len, struct http_head *out, struct err *err)
{
    struct cursor cur = {data, data + len};
    struct noted noted = {0};
    int rc;

    if (len == 0)
        return MORE;
    memset(out, 0, offsetof(struct http_head, headers));
    rc = scan_request_line(&cur, out, err);
    if (rc == 0)
        rc = scan_headers(&cur, out, &noted, err);
    if (rc != 0)
        return rc;
    if (noted.host == NULL && out->minor_version == 1)
        return err_set(err, ERR_INVALID, "the request has no Host header");
    if (check_framing(&noted, out, err) < 0)
        return -1;
    out->host = noted.host;
    out->keep_alive = !noted.close && (out->minor_version == 1 || noted.keep_alive);
    out->upgrade = noted.connection_upgrade && noted.upgrade != NULL;
    out->size = (size_t)(cur.at - data);
    return 0;
}

const struct http_header *http_head_find(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (mem_is_nocase(head->headers[i].name, head->headers[i].name_len, name))
            return &head->headers[i];
    }
    return NULL;
}

bool http_list_has(const char *value, size_t value_len, const char *word)
{
    const char *end = value + value_len;

    while (value < end) {
        const char *comma = memchr(value, ',', (size_t)(end - value));
        const char *stop = comma == NULL ? end : comma;
        const char *next = comma == NULL ? end : comma + 1;

        while (value < stop && is_blank(*value))
            value++;
        while (stop > value && is_blank(stop[-1]))
            stop--;
        if (mem_is_nocase(value, (size_t)(stop - value), word))
            return true;
        value = next;
    }
    return false;
}
