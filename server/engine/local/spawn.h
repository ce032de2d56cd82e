/*
 * server/engine/local/spawn.h - build one spare sandbox, and undo a sandbox of any age.
 *
 * Both run in short-lived children of the launcher, so that its loop never waits.
 */
#ifndef SANDPIT_ENGINE_LOCAL_SPAWN_H
#define SANDPIT_ENGINE_LOCAL_SPAWN_H

#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"
#include "server/engine/local/context.h"
#include "server/engine/local/record.h"
#include "server/model/sandbox.h"

/* A spare that waits for its order (first.h). */
struct spare {
    uint32_t slot;
    pid_t pid;
    uint64_t start_ticks;
    int pidfd;
    int control; /* the launcher's end */
};

/* "spare-<slot>". */
void spawn_folder(uint32_t slot, char out[SANDBOX_ID_SIZE]);

/* Build a spare in SLOT. On failure nothing of it is left. Blocking, some 15 ms. */
int spawn_spare(const struct context *ctx, uint32_t slot, struct spare *out, struct err *err);

/*
 * End all processes of RECORD's slot, frozen or not, and remove its control groups. PIDFD is its
 * first process or -1. May have been done before. Blocking.
 */
int spawn_end(const struct context *ctx, const char *folder, const struct record *record, int pidfd,
              struct err *err);

/*
 * End and remove what has FOLDER (an id or a spare's) and RECORD: processes, link, control groups,
 * record, files; a spare's that were put aside, too. Each step may have been done before. Blocking.
 */
int spawn_destroy(const struct context *ctx, const char *folder, const struct record *record,
                  int pidfd, struct err *err);

#endif
