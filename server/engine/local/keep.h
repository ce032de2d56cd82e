/*
 * server/engine/local/keep.h - what outlives a sandbox's processes: its files, and copies of them.
 *
 * All run in short-lived children of the launcher. Blocking: some wait for the disk.
 */
#ifndef SANDPIT_ENGINE_LOCAL_KEEP_H
#define SANDPIT_ENGINE_LOCAL_KEEP_H

#include <stdint.h>

#include "server/base/err.h"
#include "server/engine/local/context.h"
#include "server/engine/local/record.h"

/* Stop all in the running sandbox ID; then write its files to disk. A failure lets it go on. */
int keep_freeze(const struct context *ctx, const char *id, const struct record *record,
                struct err *err);
int keep_thaw(const struct context *ctx, const char *id, const struct record *record,
              struct err *err);
/* End all processes of ID and write its files to disk. PIDFD is its first process or -1. */
int keep_stop(const struct context *ctx, const char *id, const struct record *record, int pidfd,
              struct err *err);

/* engine.h snapshot. RUNNING: it has processes, which stand still for as long as it takes. */
int keep_snapshot(const struct context *ctx, const char *id, const struct record *record,
                  bool running, const char *snapshot_id, uint64_t *size_bytes, struct err *err);
int keep_snapshot_delete(const struct context *ctx, const char *snapshot_id, struct err *err);
/* FN for each complete snapshot. */
void keep_snapshots(const struct context *ctx,
                    void (*fn)(void *ctx, const char *snapshot_id, uint64_t size_bytes),
                    void *fn_ctx);

#endif
