/*
 * server/base/uuid5.h - name-based UUIDs (RFC 9562 section 5.5).
 *
 * Pure. Any thread. SHA-1 serves as the standard's mixing function here, not as protection.
 */
#ifndef SANDPIT_BASE_UUID5_H
#define SANDPIT_BASE_UUID5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/hash.h"

#define UUID_BYTES 16

/* The UUID, version 5, of NAME (LEN bytes) in the space SPACE. */
void uuid5(const uint8_t space[UUID_BYTES], const void *name, size_t len, char out[UUID_SIZE]);
/* S is 8-4-4-4-12 hex digits of either case. */
bool uuid_is(const char *s);

#endif
