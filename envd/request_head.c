#include "envd/request_head.h"

#include <string.h>

#include "server/base/http_head.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define QUERY_NAME_MAX 256
#define LEADING_BYTES_MAX 2 /* of an empty line before the request, which the scanner skips */

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "malformed request: %s", what);
}

/* The NUL-terminated TARGET, cut in place into path and query. */
static int split_target(char *target, struct request_head *head, struct err *err)
{
    char *query;

    if (strchr(target, '#') != NULL)
        return bad(err, "character in the target");
    if (strncmp(target, "http://", 7) == 0) { /* absolute-form */
        target += 7 + strcspn(target + 7, "/?");
        if (*target != '/')
            return bad(err, "target without a path");
    }
    if (*target != '/' && !(str_eq(target, "*") && str_eq(head->method, "OPTIONS")))
        return bad(err, "target");
    query = strchr(target, '?');
    if (query != NULL)
        *query++ = '\0';
    head->path = target;
    head->query = query != NULL ? query : "";
    return 0;
}

/* The slice S of DATA as a string in TEXT, DATA's copy: what follows a slice is never needed. */
static char *string_at(char *text, const char *data, const char *s, size_t len)
{
    char *copy = text + (s - data);

    copy[len] = '\0';
    return copy;
}

static void lower(char *s)
{
    for (; *s != '\0'; s++) {
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
    }
}

static int fill(const char *data, const struct http_head *scan, struct request_head *head,
                struct err *err)
{
    size_t headers_size = scan->header_count * sizeof(struct request_header); /* bounded */
    struct request_header *headers = mem_calloc(headers_size + scan->size + 1, 1);
    char *text = (char *)headers + headers_size;

    memcpy(text, data, scan->size);
    head->memory = headers;
    head->headers = headers;
    head->method = string_at(text, data, scan->method, scan->method_len);
    head->minor = scan->minor_version;
    head->header_count = scan->header_count;
    for (size_t i = 0; i < scan->header_count; i++) {
        const struct http_header *from = &scan->headers[i];
        char *name = string_at(text, data, from->name, from->name_len);

        lower(name);
        headers[i].name = name;
        headers[i].value = string_at(text, data, from->value, from->value_len);
    }
    head->content_length = (int64_t)scan->content_length;
    head->chunked = scan->framing == HTTP_BODY_CHUNKED;
    head->keep_alive = scan->keep_alive;
    head->expect_continue =
        scan->minor_version == 1 && scan->expect != NULL &&
        mem_is_nocase(scan->expect->value, scan->expect->value_len, "100-continue");
    return split_target(string_at(text, data, scan->target, scan->target_len), head, err);
}

ssize_t request_head_parse(const char *data, size_t len, struct request_head *head, struct err *err)
{
    struct request_head parsed = {0};
    struct http_head scan;
    int rc = http_head_scan(data, len, &scan, err);

    if (rc < 0)
        return -1;
    if ((rc > 0 ? len : scan.size) > REQUEST_HEAD_MAX_BYTES + LEADING_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "the request head is larger than %d bytes",
                       REQUEST_HEAD_MAX_BYTES);
    if (rc > 0)
        return 0;
    if (fill(data, &scan, &parsed, err) < 0) {
        request_head_clear(&parsed);
        return -1;
    }
    *head = parsed;
    return (ssize_t)scan.size;
}

const char *request_head_get(const struct request_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (str_eq(head->headers[i].name, name))
            return head->headers[i].value;
    }
    return NULL;
}

void request_head_clear(struct request_head *head)
{
    free(head->memory);
    memset(head, 0, sizeof(*head));
}

void request_head_forget(struct request_head *head)
{
    free(head->memory);
    head->memory = NULL;
    head->headers = NULL;
    head->header_count = 0;
    head->method = head->path = head->query = "";
}

static int decode(const char *s, size_t len, struct buf *out, struct err *err)
{
    buf_reset(out);
    if (url_decode(s, len, true, out) < 0)
        return err_set(err, ERR_INVALID, "the query is not well-formed or too long");
    return 0;
}

int http_query_bytes(const char *query, const char *name, struct buf *out, struct err *err)
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

int http_query_get(const char *query, const char *name, struct buf *out, struct err *err)
{
    int rc = http_query_bytes(query, name, out, err);

    if (rc > 0 && memchr(buf_str(out), '\0', out->len) != NULL)
        return err_set(err, ERR_INVALID, "the query is not well-formed or too long");
    return rc;
}
