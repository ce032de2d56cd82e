#include "server/model/team.h"

#include <string.h>

/* Random, once; never to be changed: clients keep team ids. */
static const uint8_t team_space[UUID_BYTES] = {0x5b, 0x1c, 0x90, 0x7e, 0x2d, 0x4a, 0x4f, 0x86,
                                               0x9e, 0x31, 0xd0, 0x6b, 0xf7, 0x58, 0xa2, 0x14};

void team_id(const char *namespace_, char out[UUID_SIZE])
{
    uuid5(team_space, namespace_, strlen(namespace_), out);
}
