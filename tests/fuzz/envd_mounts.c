/* envd/mounts.h: mountinfo of any content gives at most as many ids as asked for. */
#include <stdint.h>
#include <stdlib.h>

#include "envd/mounts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t ids[8];

    if (mounts_parse((const char *)data, size, ids, 8) > 8)
        abort();
    return 0;
}
