/*
 * server/engine/local/logpipe.h - the pipe through which a sandbox's envd tells what it does.
 *
 * <run>/logs/slot-<n> is a FIFO, made anew for each sandbox. envd has it open for reading and
 * writing, so it never blocks and never finds it broken: with nobody there it fills up (64 KiB) and
 * further lines are lost. It outlives server and launcher as the sandbox does; whoever comes next
 * opens it by name. Launcher and its children only.
 */
#ifndef SANDPIT_ENGINE_LOCAL_LOGPIPE_H
#define SANDPIT_ENGINE_LOCAL_LOGPIPE_H

#include "server/engine/local/cgroup.h"
#include "server/engine/local/context.h"

/* Make the pipe of SLOT and open it for envd, as one more of GRANTS, kind "log". */
int logpipe_make(const struct context *ctx, uint32_t slot, struct cgroup_grants *grants,
                 struct err *err);
/* Its end to read from, non-blocking; -1 with *ERR: ERR_NOT_FOUND there is none. */
int logpipe_open(const struct context *ctx, uint32_t slot, struct err *err);
void logpipe_remove(const struct context *ctx, uint32_t slot);

#endif
