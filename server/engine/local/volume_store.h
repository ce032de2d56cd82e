/*
 * server/engine/local/volume_store.h - volumes as trees of the storage: make, remove, find, open.
 *
 * `<storage>/volumes/<id>`, with a limit where the storage holds limits; files have the plain ids
 * 0..65535 that sandboxes see. The folder above is 0700: no host user reaches a set-user-ID file in
 * a volume. Launcher and its helpers.
 */
#ifndef SANDPIT_ENGINE_LOCAL_VOLUME_STORE_H
#define SANDPIT_ENGINE_LOCAL_VOLUME_STORE_H

#include <stdint.h>

#include "server/base/err.h"
#include "server/engine/local/context.h"
#include "server/engine/local/volume_fs.h"

/* At the launcher's start, with its storage there: open or make the folder of all. */
int volume_store_open(struct context *ctx, struct err *err);
/* A new volume, or the one that is there. SIZE_MB 0: no limit. Helper. */
int volume_store_create(const struct context *ctx, const char *id, uint64_t size_mb,
                        struct err *err);
/* With all in it; unknown ids succeed. Helper. */
int volume_store_delete(const struct context *ctx, const char *id, struct err *err);
/* Every volume's id, as the path of an entry. Helper. */
int volume_store_names(const struct context *ctx, struct volume_result *out, struct err *err);
/* The folder of volume ID (O_PATH unless FLAGS say otherwise), or -1: ERR_NOT_FOUND. */
int volume_store_folder(const struct context *ctx, const char *id, int flags, struct err *err);

#endif
