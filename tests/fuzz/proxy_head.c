/*
 * tests/fuzz/proxy_head.c - request and response heads through the proxy's rewriting.
 *
 * The first byte picks the kind. What comes out of a request must be a request again, to the same
 * path and with the same framing, with none of the fields that are the proxy's own to write.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "server/base/mem.h"
#include "server/proxy/head.h"
#include "server/proxy/respond.h"
#include "server/proxy/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_fields(const struct http_head *head, const char *name)
{
    size_t count = 0;

    for (size_t i = 0; i < head->header_count; i++)
        count += strlen(name) == head->headers[i].name_len &&
                 strncasecmp(head->headers[i].name, name, head->headers[i].name_len) == 0;
    return count;
}

static void check_rewritten(const struct http_head *before, const struct head_target *target,
                            const struct buf *out)
{
    static struct http_head after;
    struct err err = {0};

    /* the added fields may be the ones too many */
    if (http_head_scan(out->data, out->len, &after, &err) != 0) {
        assert(before->header_count + 3 > HTTP_HEADERS_MAX);
        return;
    }
    assert(after.size == out->len);
    assert(after.framing == before->framing && after.content_length == before->content_length);
    assert(after.target_len == target->path.len &&
           memcmp(after.target, target->path.data, after.target_len) == 0);
    assert(count_fields(&after, "x-forwarded-host") == 1);
    assert(count_fields(&after, "authorization") == 1);
    assert(count_fields(&after, "forwarded") == 0 && count_fields(&after, "x-forwarded-for") == 0);
}

static void request(const char *data, size_t size)
{
    static struct http_head head;
    _cleanup_buf_ struct buf out;
    struct head_change change = {.jwt = "a.b.c", .close = size % 2 != 0};
    struct head_target target;
    struct err err = {0};
    char user[TOKEN_USER_MAX_BYTES];
    int rc = http_head_scan(data, size, &head, &err);

    buf_init(&out, HEAD_OUT_MAX_BYTES);
    if (rc < 0)
        head_refused_status(err.code);
    if (rc != 0 || head_target(&head, &target, &err) < 0 || target.host.data == NULL)
        return;
    respond_wants_html(&head);
    head_internal_path(target.path);
    for (size_t i = 0; i < head.header_count; i++)
        token_basic_user(head.headers[i].value, head.headers[i].value_len, user);
    if (head_write_request(&head, &target, &change, &out, &err) == 0)
        check_rewritten(&head, &target, &out);
}

static void response(const char *data, size_t size, uint8_t flags)
{
    _cleanup_buf_ struct buf out;
    struct response_want want = {
        .head_request = (flags & 2) != 0, .http_1_0 = (flags & 4) != 0, .close = (flags & 8) != 0};
    struct response_head head, again;
    struct err err = {0};

    buf_init(&out, HEAD_OUT_MAX_BYTES);
    if (head_pass_response(data, size, &want, &out, &head, &err) != 0)
        return;
    assert(head.size <= size);
    _cleanup_buf_ struct buf second;
    buf_init(&second, HEAD_OUT_MAX_BYTES);
    if (head_pass_response(out.data, out.len, &want, &second, &again, &err) == 0)
        assert(again.size == out.len && again.status == head.status);
    else
        assert(head.size > HEAD_MAX_BYTES / 2 || out.len > HEAD_MAX_BYTES ||
               strstr(err.msg, "malformed") != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[0] % 2 == 0)
        request((const char *)data + 1, size - 1);
    else
        response((const char *)data + 1, size - 1, data[0]);
    return 0;
}
