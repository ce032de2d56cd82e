#include "envd/http_head.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define QUERY_NAME_MAX 256
#define LEADING_CRLF_MAX 2 /* RFC 9112 section 2.2: a client may send some before a request */

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        if (!is_token_char((unsigned char)*s))
            return false;
    }
    return true;
}

static void lower(char *s)
{
    for (; *s != '\0'; s++) {
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
    }
}

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "malformed request: %s", what);
}

/* "GET /path?query HTTP/1.1" in LINE, cut in place. */
static int parse_request_line(char *line, struct http_head *head, struct err *err)
{
    char *target = strchr(line, ' ');
    char *version, *query;

    if (target == NULL)
        return bad(err, "no target");
    *target++ = '\0';
    version = strchr(target, ' ');
    if (version == NULL || !is_token(line))
        return bad(err, "request line");
    *version++ = '\0';
    if (strlen(version) != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.')
        return bad(err, "version");
    if (!str_eq(version, "HTTP/1.1") && !str_eq(version, "HTTP/1.0"))
        return err_set(err, ERR_UNSUPPORTED, "this HTTP version is not supported");
    for (const char *c = target; *c != '\0'; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '#')
            return bad(err, "character in the target");
    }
    if (strncmp(target, "http://", 7) == 0) { /* absolute-form */
        target += 7 + strcspn(target + 7, "/?");
        if (*target != '/')
            return bad(err, "target without a path");
    }
    if (*target != '/' && !(str_eq(target, "*") && str_eq(line, "OPTIONS")))
        return bad(err, "target");
    query = strchr(target, '?');
    if (query != NULL)
        *query++ = '\0';
    head->method = line;
    head->path = target;
    head->query = query != NULL ? query : "";
    head->minor = version[7] - '0';
    return 0;
}

static int parse_header(char *line, struct http_head *head, struct err *err)
{
    char *colon = strchr(line, ':');
    char *end;

    if (*line == ' ' || *line == '\t')
        return bad(err, "folded header");
    if (colon == NULL)
        return bad(err, "header without a colon");
    *colon++ = '\0';
    if (!is_token(line))
        return bad(err, "header name");
    if (head->header_count == HTTP_HEADERS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d request headers", HTTP_HEADERS_MAX);
    lower(line);
    colon += strspn(colon, " \t");
    end = colon + strlen(colon);
    while (end > colon && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    for (const char *c = colon; *c != '\0'; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return bad(err, "control character in a header");
    }
    head->headers[head->header_count].name = line;
    head->headers[head->header_count].value = colon;
    head->header_count++;
    return 0;
}

const char *http_head_get(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (str_eq(head->headers[i].name, name))
            return head->headers[i].value;
    }
    return NULL;
}

static size_t count(const struct http_head *head, const char *name)
{
    size_t found = 0;

    for (size_t i = 0; i < head->header_count; i++)
        found += str_eq(head->headers[i].name, name);
    return found;
}

/* WORD is an element of the comma-separated LIST. */
static bool list_has(const char *list, const char *word)
{
    while (*list != '\0') {
        size_t len;

        list += strspn(list, ", \t");
        len = strcspn(list, ", \t");
        if (mem_is_nocase(list, len, word))
            return true;
        list += len;
    }
    return false;
}

/* How long the body is, and what happens to the connection. */
static int parse_framing(struct http_head *head, struct err *err)
{
    const char *length = http_head_get(head, "content-length");
    const char *coding = http_head_get(head, "transfer-encoding");
    const char *connection = http_head_get(head, "connection");
    const char *expect = http_head_get(head, "expect");
    uint64_t value = 0;

    if (count(head, "host") != 1 && (head->minor == 1 || count(head, "host") > 1))
        return bad(err, "exactly one Host is needed");
    if (count(head, "content-length") > 1 || count(head, "transfer-encoding") > 1)
        return bad(err, "repeated framing header");
    if (length != NULL && coding != NULL)
        return bad(err, "Content-Length with Transfer-Encoding");
    if (coding != NULL && (head->minor == 0 || !mem_is_nocase(coding, strlen(coding), "chunked")))
        return err_set(err, ERR_UNSUPPORTED, "this transfer coding is not supported");
    if (length != NULL &&
        str_to_u64(length, strlen(length), 0, INT64_MAX, "Content-Length", &value, err) < 0)
        return -1;
    head->content_length = (int64_t)value;
    head->chunked = coding != NULL;
    head->keep_alive = head->minor == 1;
    if (connection != NULL && list_has(connection, "close"))
        head->keep_alive = false;
    else if (connection != NULL && head->minor == 0)
        head->keep_alive = list_has(connection, "keep-alive");
    head->expect_continue =
        head->minor == 1 && expect != NULL && mem_is_nocase(expect, strlen(expect), "100-continue");
    return 0;
}

/* TEXT ends with CR LF CR LF and has no NUL. Cuts it into lines. */
static int parse_text(char *text, struct http_head *head, struct err *err)
{
    bool first = true;

    while (*text != '\0') {
        char *end = strchr(text, '\n');

        if (end == text || end[-1] != '\r')
            return bad(err, "line feed without carriage return");
        end[-1] = '\0';
        if (memchr(text, '\r', (size_t)(end - text) - 1) != NULL)
            return bad(err, "carriage return inside a line");
        if (first && parse_request_line(text, head, err) < 0)
            return -1;
        if (!first && *text != '\0' && parse_header(text, head, err) < 0)
            return -1;
        first = false;
        text = end + 1;
    }
    return parse_framing(head, err);
}

ssize_t http_head_parse(const char *data, size_t len, struct http_head *head, struct err *err)
{
    struct http_head parsed = {0};
    size_t skip = 0, size;
    const char *end;

    while (skip < 2 * LEADING_CRLF_MAX && len - skip >= 2 && memcmp(data + skip, "\r\n", 2) == 0)
        skip += 2;
    end = memmem(data + skip, len - skip, "\r\n\r\n", 4);
    if (end == NULL && len <= HTTP_HEAD_MAX_BYTES)
        return 0;
    if (end == NULL || (size_t)(end - data) > HTTP_HEAD_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "the request head is larger than %d bytes",
                       HTTP_HEAD_MAX_BYTES);
    size = (size_t)(end - data) + 4;
    if (memchr(data, '\0', size) != NULL)
        return bad(err, "NUL in the head");
    parsed.text = mem_strndup(data + skip, size - skip);
    if (parse_text(parsed.text, &parsed, err) < 0) {
        http_head_clear(&parsed);
        return -1;
    }
    *head = parsed;
    return (ssize_t)size;
}

void http_head_clear(struct http_head *head)
{
    free(head->text);
    memset(head, 0, sizeof(*head));
}

static int decode(const char *s, size_t len, struct buf *out, struct err *err)
{
    buf_reset(out);
    if (url_decode(s, len, true, out) < 0 || memchr(buf_str(out), '\0', out->len) != NULL)
        return err_set(err, ERR_INVALID, "the query is not well-formed or too long");
    return 0;
}

int http_query_get(const char *query, const char *name, struct buf *out, struct err *err)
{
    _cleanup_buf_ struct buf key;

    buf_init(&key, QUERY_NAME_MAX);
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        const char *equals = memchr(query, '=', len);
        size_t key_len = equals != NULL ? (size_t)(equals - query) : len;

        /* A name that cannot be decoded is not the one looked for. */
        buf_reset(&key);
        if (url_decode(query, key_len, true, &key) == 0 && mem_is(buf_str(&key), key.len, name)) {
            size_t skip = key_len + (equals != NULL);

            return decode(query + skip, len - skip, out, err) < 0 ? -1 : 1;
        }
        query += len + (query[len] == '&');
    }
    return 0;
}
