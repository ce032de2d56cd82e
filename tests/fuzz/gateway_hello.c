/* First bytes of a connection: a name that is found is a host name, and none without the whole. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/gateway/hello.h"
#include "server/model/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hello hello, shorter;

    if (hello_parse(data, size, &hello) != HELLO_DONE)
        return 0;
    if (hello.name[0] != '\0' &&
        (!net_host_valid(hello.name, strlen(hello.name), false) || hello.encrypted))
        abort();
    /* what is whole stays the same with more behind it, and is not whole with less */
    if (size > 0 && hello_parse(data, size - 1, &shorter) == HELLO_DONE &&
        strcmp(shorter.name, hello.name) != 0)
        abort();
    return 0;
}
