/*
 * server/engine/local/id_range.h - which host ids this server's sandboxes use, for others to see.
 *
 * Two servers on one machine whose ranges overlap share what the kernel counts and checks by user
 * id. That is a fault of set-up which nothing else notices.
 */
#ifndef SANDPIT_ENGINE_LOCAL_ID_RANGE_H
#define SANDPIT_ENGINE_LOCAL_ID_RANGE_H

#include <stdint.h>

#include "server/base/err.h"

/*
 * Claim ranges FIRST..FIRST + COUNT - 1 (each 65,536 ids) for the life of this process: record
 * locks on the file PATH, a byte a range. Call once for each PATH in a process. Returns the
 * descriptor, which must stay open, or -1: ERR_EXISTS with the pid of who has some of them, else
 * what kept the file from being locked.
 */
int id_range_claim(const char *path, uint32_t first, uint32_t count, struct err *err);

#endif
