/*
 * tests/fuzz/proxy_chunked.c - chunked bodies: the same end and content in one piece as in many.
 *
 * The first byte is the size of the pieces.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/proxy/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    bool bad, done;
    size_t used, content;
    uint64_t sum;
};

static struct result run(const char *data, size_t size, size_t piece, bool strip)
{
    struct result result = {0};
    struct body body;
    struct err err = {0};

    body_init(&body, BODY_CHUNKED, 0);
    body.strip = strip;
    while (result.used < size && !body.done && !result.bad) {
        size_t n = size - result.used < piece ? size - result.used : piece;
        _cleanup_free_ char *copy = mem_zalloc(n);
        size_t used, send;

        memcpy(copy, data + result.used, n);
        result.bad = body_take(&body, copy, n, &used, &send, &err) < 0;
        if (result.bad)
            break;
        assert(used <= n && send <= used && (used == n || body.done));
        for (size_t i = 0; i < send; i++)
            result.sum = result.sum * 31 + (unsigned char)copy[i];
        result.used += used;
        result.content += send;
    }
    result.done = body.done;
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    size_t piece;

    if (size < 2)
        return 0;
    piece = (size_t)data[0] + 1;
    for (int strip = 0; strip < 2; strip++) {
        struct result whole = run(text, size - 1, size, strip != 0);
        struct result pieces = run(text, size - 1, piece, strip != 0);

        assert(whole.bad == pieces.bad && whole.done == pieces.done);
        if (!whole.bad)
            assert(whole.used == pieces.used && whole.content == pieces.content &&
                   whole.sum == pieces.sum);
    }
    return 0;
}
