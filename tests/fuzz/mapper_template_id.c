/* A reference that parses must print as something that parses to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mapper/template_id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct template_id id, again, candidates[2];
    char text[TEMPLATE_ID_SIZE];
    struct err err = {0};

    if (template_id_parse((const char *)data, size, &id, &err) < 0)
        return 0;
    if (template_id_candidates(&id, "team", candidates) == 0)
        abort();
    if (template_id_format(&id, text, &err) < 0)
        return 0;
    if (template_id_parse(text, strlen(text), &again, &err) < 0 ||
        strcmp(id.namespace_, again.namespace_) != 0 || strcmp(id.name, again.name) != 0 ||
        strcmp(id.tag, again.tag) != 0)
        abort();
    return 0;
}
