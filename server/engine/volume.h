/*
 * server/engine/volume.h - what lifecycle asks an engine about volumes and the files in them.
 *
 * Plain data. The functions are in engine.h (volume_*); all block and run on workers only.
 */
#ifndef SANDPIT_ENGINE_VOLUME_H
#define SANDPIT_ENGINE_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/base/fd.h"
#include "server/model/volume.h"

#define VOLUME_LIST_MAX 10000  /* entries of one listing */
#define VOLUME_DEPTH_MAX 64    /* of a listing */
#define VOLUME_SESSIONS_MAX 64 /* content operations at once, uploads in progress among them */

/* How create's ERR_INVALID about where a volume was to go begins; all others are our own faults. */
#define VOLUME_PATH_WORDS "volume path '"

enum volume_verb {
    VOLUME_STAT,     /* one entry; a symbolic link itself */
    VOLUME_SET,      /* uid, gid, mode; one entry */
    VOLUME_REMOVE,   /* with all that is below it */
    VOLUME_LIST,     /* entries, down to `depth` */
    VOLUME_MAKE_DIR, /* one entry; `force`: with its parents, and it may exist */
    VOLUME_READ,     /* one entry and a descriptor to read from */
    VOLUME_WRITE,    /* a descriptor to write to, until volume_commit */
    VOLUME_VERB_COUNT
};

struct volume_request {
    enum volume_verb verb;
    char path[VOLUME_PATH_SIZE]; /* volume_path_clean's */
    int32_t uid, gid, mode;      /* SET, MAKE_DIR, WRITE; -1: not given */
    uint32_t depth;              /* LIST: 1 or more */
    bool force;                  /* MAKE_DIR, WRITE: make missing parents */
};

enum volume_file_type {
    VOLUME_FILE_UNKNOWN,
    VOLUME_FILE_REGULAR,
    VOLUME_FILE_DIRECTORY,
    VOLUME_FILE_SYMLINK,
    VOLUME_FILE_TYPE_COUNT
};

struct volume_entry {
    char *path;   /* owned; relative to the volume's top, "" for the top itself */
    char *target; /* owned; of a symbolic link, else NULL */
    enum volume_file_type type;
    uint32_t mode; /* permission bits, 07777 */
    uint32_t uid, gid;
    int64_t size;
    int64_t atime_unix_ms, mtime_unix_ms, ctime_unix_ms;
};

/* What a request gives; volume_answer_clear frees, closes, and drops a write not committed. */
struct volume_answer {
    struct volume_entry *entries;
    size_t count;
    int file;    /* READ, WRITE; else -1 */
    int session; /* WRITE: the connection that commits or, closed, drops; else -1 */
};
#define VOLUME_ANSWER_NONE                                                                         \
    {                                                                                              \
        .file = -1, .session = -1                                                                  \
    }

static inline void volume_answer_clear(struct volume_answer *answer)
{
    for (size_t i = 0; i < answer->count; i++) {
        free(answer->entries[i].path);
        free(answer->entries[i].target);
    }
    free(answer->entries);
    fd_close(&answer->file);
    fd_close(&answer->session); /* what was not committed is dropped */
    *answer = (struct volume_answer)VOLUME_ANSWER_NONE;
}

/* A volume found by volume_list. Borrowed during the callback. */
typedef void (*engine_volume_fn)(void *ctx, const char *volume_id);

#endif
