/*
 * What a client says of encodings and in a query: Accept-Encoding, and the parameters of a GET. The
 * whole input is both. A query's value never has more bytes than the query.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/connect/gzip.h"
#include "envd/request_head.h"
#include "server/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"message", "base64", "encoding", "connect", ""};
    _cleanup_free_ char *text = mem_strndup((const char *)data, size);
    size_t len = strlen(text);

    if (gzip_accepted(text) && strstr(text, "zip") == NULL && strstr(text, "ZIP") == NULL &&
        strchr(text, '*') == NULL && strpbrk(text, "ziZI") == NULL)
        abort();
    for (size_t i = 0; i < array_size(names); i++) {
        _cleanup_buf_ struct buf value, again;
        struct err err;
        int rc;

        buf_init(&value, len);
        buf_init(&again, len);
        rc = http_query_bytes(text, names[i], &value, &err);
        if (value.len > len)
            abort();
        if (http_query_get(text, names[i], &again, &err) == 1 &&
            (rc != 1 || memchr(buf_str(&again), '\0', again.len) != NULL))
            abort();
    }
    return 0;
}
