/* What another envd hands over: decoded record by record, as the rehearsal does it. */
#include <stddef.h>
#include <stdint.h>

#include "envd/handover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct handover_in in;
    struct err err = {0};
    int rc;

    handover_in_memory(data, size, &in);
    do {
        _cleanup_record_ Handover__Record *record = NULL;

        rc = handover_next(&in, &record, &err);
    } while (rc > 0);
    return 0;
}
