/* Header values with placeholders: every part lies within the value, and the end is reached. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/model/placeholder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *value = mem_strndup((const char *)data, size);
    size_t len = strlen(value), at = 0;
    struct placeholder part = {.kind = PLACEHOLDER_TEXT};
    struct err err = {0};

    while (placeholder_next(value, &at, &part, &err) == 0 && part.kind != PLACEHOLDER_END) {
        if (at > len || part.len == 0 || part.text < value || part.text + part.len > value + at)
            abort();
    }
    if (part.kind == PLACEHOLDER_END && at != len)
        abort();
    return 0;
}
