/*
 * server/engine/local/sample.h - how much CPU time and memory sandboxes use.
 *
 * Files of control groups are readable by everybody, so the unprivileged server reads them itself,
 * below folders that the launcher opened: no request for each sandbox, no descriptor kept for it.
 * One thread at a time.
 * Source: Linux Documentation/admin-guide/cgroup-v1/{cpuacct,memory}.rst and cgroup-v2.rst.
 */
#ifndef SANDPIT_ENGINE_LOCAL_SAMPLE_H
#define SANDPIT_ENGINE_LOCAL_SAMPLE_H

#include <stdint.h>

#include "server/engine/engine.h"

/* Folders that have the groups: FDS[0] for memory, FDS[1] for CPU time. Fills OUT for SLOT. */
void sample_read(const int fds[2], uint32_t slot, struct engine_sample *out);
/* The number after KEY and a blank at the start of a line of TEXT. False: none. Pure. */
bool sample_field(const char *text, const char *key, uint64_t *out);

#endif
