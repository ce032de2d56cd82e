/* The envelope reader: the same envelopes however the bytes are cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "envd/connect/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A sum over all envelopes, and how far it came before an error. */
static uint64_t run(const char *data, size_t size, size_t step)
{
    struct envelope_reader reader;
    uint64_t sum = 0;
    struct err err;

    envelope_reader_init(&reader, 4096);
    for (size_t at = 0; at < size;) {
        size_t left = size - at, used = 0;
        int rc = envelope_reader_feed(&reader, data + at, left < step ? left : step, &used, &err);

        if (rc < 0) {
            sum = sum * 31 + 7;
            break;
        }
        at += used;
        if (rc == 0)
            continue;
        sum = sum * 31 + reader.head[0] + reader.payload.len;
        for (size_t i = 0; i < reader.payload.len; i++)
            sum = sum * 31 + (unsigned char)reader.payload.data[i];
        envelope_reader_next(&reader);
    }
    envelope_reader_clear(&reader);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole = run((const char *)data, size, size + 1);

    if (run((const char *)data, size, 1) != whole || run((const char *)data, size, 7) != whole)
        abort();
    return 0;
}
