/*
 * server/loop/bind.h - the listening sockets of one address, a set per loop. Not for other folders.
 */
#ifndef SANDPIT_LOOP_BIND_H
#define SANDPIT_LOOP_BIND_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

/*
 * Bind and listen on ADDRESS, COUNT times with SO_REUSEPORT. FDS has room for COUNT * ADDRESS_MAX;
 * those of loop i are FDS[i * *PER_LOOP ...]. *PORT is the port in use. Blocking start-up code.
 * ERR_INVALID, ERR_BUSY (in use) or what errno says; nothing stays open then.
 */
int bind_all(const char *address, size_t count, int *fds, size_t *per_loop, uint16_t *port,
             struct err *err);

#endif
