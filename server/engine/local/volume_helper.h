/*
 * server/engine/local/volume_helper.h - the process that does one call on a volume.
 *
 * Forked by the launcher. It reads a call from SOCK; for the files of a volume it first gives up
 * all rights but those over files of any owner, and all of the file system but the volume.
 */
#ifndef SANDPIT_ENGINE_LOCAL_VOLUME_HELPER_H
#define SANDPIT_ENGINE_LOCAL_VOLUME_HELPER_H

#include "server/engine/local/context.h"

/* Never returns. */
void volume_helper_run(const struct context *ctx, int sock) __attribute__((noreturn));

#endif
