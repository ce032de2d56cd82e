/* Head, query and body of a request: strict facts of what is accepted; bodies however cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/http_body.h"
#include "envd/request_head.h"
#include "server/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_head(const struct request_head *head)
{
    struct buf value;
    struct err err;
    size_t hosts = 0;

    if (head->path[0] != '/' && !str_eq(head->path, "*"))
        abort();
    if (head->chunked && request_head_get(head, "content-length") != NULL)
        abort();
    for (size_t i = 0; i < head->header_count; i++) {
        hosts += str_eq(head->headers[i].name, "host");
        if (strpbrk(head->headers[i].name, " \t\r\n:ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL ||
            strpbrk(head->headers[i].value, "\r\n") != NULL)
            abort();
    }
    if (hosts > 1 || (hosts == 0 && head->minor == 1))
        abort();
    buf_init(&value, 64);
    if (http_query_get(head->query, "path", &value, &err) > 0 &&
        strlen(buf_str(&value)) != value.len)
        abort();
    buf_clear(&value);
}

/* A sum of the content and how the body ends. */
static uint64_t body_sum(const struct request_head *head, const char *in, size_t len, size_t step)
{
    struct http_body body;
    uint64_t sum = 0;
    size_t at = 0;

    http_body_init(&body, head->chunked, head->content_length);
    while (at < len) {
        size_t used = 0, data_len = 0, left = len - at;
        const char *data;
        enum http_body_step result =
            http_body_next(&body, in + at, left < step ? left : step, &used, &data, &data_len);

        at += used;
        if (result == HTTP_BODY_DATA) {
            for (size_t i = 0; i < data_len; i++)
                sum = sum * 31 + (unsigned char)data[i];
        } else if (result != HTTP_BODY_MORE) {
            return sum * 31 + (uint64_t)(result + 5) + at;
        }
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request_head head;
    struct err err;
    ssize_t used = request_head_parse((const char *)data, size, &head, &err);
    uint64_t sum;

    if (used <= 0)
        return 0;
    check_head(&head);
    sum = body_sum(&head, (const char *)data + used, size - (size_t)used, size);
    if (body_sum(&head, (const char *)data + used, size - (size_t)used, 1) != sum)
        abort();
    request_head_clear(&head);
    return 0;
}
