/* Host header, domain, id and port header: four fields cut at newlines. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mapper/host.h"
#include "server/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *copy = mem_strndup((const char *)data, size);
    char *field[4] = {copy, NULL, NULL, NULL};
    struct host_target out = {.port = 7};
    struct err err = {0};
    size_t host_len = size;

    for (size_t i = 0, n = 1; i < size && n < 4; i++) {
        if (copy[i] != '\n')
            continue;
        copy[i] = '\0';
        if (n == 1)
            host_len = i;
        field[n++] = copy + i + 1;
    }
    if (host_parse((const char *)data, host_len, field[1], field[2], field[3], &out, &err) == 0) {
        if (out.kind == HOST_SANDBOX && (out.port == 0 || out.id[0] == '\0'))
            abort();
        if (strnlen(out.id, sizeof(out.id)) == sizeof(out.id))
            abort();
    } else if (err.code == ERR_INVALID && out.port != 7) {
        abort(); /* a refusal changes nothing */
    }
    return 0;
}
