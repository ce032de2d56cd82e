/*
 * server/engine/local/volume_fs.h - what clients may do with the files of a volume.
 *
 * Works below one folder, TOP, and never outside it, whatever links and renames a sandbox makes
 * meanwhile: every path is opened with RESOLVE_BENEATH and used by its descriptor only. Blocks.
 * Runs in a helper that has nothing but the volume (volume_helper.c); the caller's umask is 0.
 */
#ifndef SANDPIT_ENGINE_LOCAL_VOLUME_FS_H
#define SANDPIT_ENGINE_LOCAL_VOLUME_FS_H

#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/engine/local/volume_proto.h"

#define VOLUME_OWNER 1000 /* who owns what is made without "uid", "gid": the user `user` of base */

/* A file that is being written and has no name yet. */
struct volume_write {
    int dir;  /* where it will be */
    int file; /* -1: none */
    char name[VOLUME_FILE_NAME_MAX + 1];
    struct volume_call call; /* the WRITE */
};
#define VOLUME_WRITE_NONE                                                                          \
    {                                                                                              \
        .dir = -1, .file = -1                                                                      \
    }

/* What a call gives. */
struct volume_result {
    struct buf records;
    uint32_t count;
    int file; /* READ: the caller's; WRITE: that of the volume_write; else -1 */
};

/* Do CALL (checked; a content verb) below TOP. 0, or -1 with *ERR for the client. */
int volume_fs_do(int top, const struct volume_call *call, struct volume_write *write,
                 struct volume_result *out, struct err *err);
/* Give WRITE's file its owner, mode and name, in place of what has that name. */
int volume_fs_commit(struct volume_write *write, struct volume_result *out, struct err *err);
void volume_write_clear(struct volume_write *write);

#endif
