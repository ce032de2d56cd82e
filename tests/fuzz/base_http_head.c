/* A request head: slices lie inside the input, and no prefix of a good head is refused. */
#include <stdint.h>
#include <stdlib.h>

#include "server/base/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want_inside(const char *slice, size_t len, const char *from, const char *to)
{
    if (slice < from || slice > to || len > (size_t)(to - slice))
        abort();
}

static void check_complete(const struct http_head *head, const char *text)
{
    const char *end = text + head->size;

    want_inside(head->method, head->method_len, text, end);
    want_inside(head->target, head->target_len, text, end);
    if (head->method_len == 0 || head->target_len == 0 || head->header_count > HTTP_HEADERS_MAX)
        abort();
    for (size_t i = 0; i < head->header_count; i++) {
        want_inside(head->headers[i].name, head->headers[i].name_len, text, end);
        want_inside(head->headers[i].value, head->headers[i].value_len, text, end);
        if (head->headers[i].name_len == 0)
            abort();
    }
    if (head->host == NULL && head->minor_version == 1)
        abort();
    if (head->framing == HTTP_BODY_LENGTH && http_head_find(head, "transfer-encoding") != NULL)
        abort();
    if (head->framing == HTTP_BODY_CHUNKED && http_head_find(head, "content-length") != NULL)
        abort();
    if (end[-1] != '\n' || end[-2] != '\r' || end[-3] != '\n' || end[-4] != '\r')
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct http_head head;
    struct err err = {0};
    int rc = http_head_scan(text, size, &head, &err);

    if (rc == 0) {
        size_t head_size = head.size;

        if (head_size < 4 || head_size > size)
            abort();
        check_complete(&head, text);
        for (size_t cut = 0; cut < head_size && head_size < 512; cut++) {
            if (http_head_scan(text, cut, &head, &err) != 1)
                abort();
        }
    }
    if ((rc == -1) != (err.code != ERR_NONE))
        abort();
    return 0;
}
