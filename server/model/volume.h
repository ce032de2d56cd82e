/*
 * server/model/volume.h - what a volume is, and the rules for its name and for paths in it.
 *
 * Pure. A struct volume is plain data, copied by value.
 * Source: platform-api.md sections 5 (volumeMounts) and 7.
 */
#ifndef SANDPIT_MODEL_VOLUME_H
#define SANDPIT_MODEL_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/model/sandbox.h"

#define VOLUME_NAME_SIZE 129        /* [a-zA-Z0-9_-]{1,128} and a NUL */
#define VOLUME_MOUNTS_MAX 16        /* in one sandbox */
#define VOLUME_MOUNT_PATH_SIZE 1024 /* where in a sandbox, with the NUL */
#define VOLUME_PATH_SIZE 4096       /* of a file in a volume, with the NUL */
#define VOLUME_FILE_NAME_MAX 255    /* bytes of one part of a path */
#define VOLUME_ID_MAX 65535         /* largest uid and gid of a file */

/* Intent comes first: CREATING and DELETING are written before the engine acts. */
enum volume_state { VOLUME_CREATING, VOLUME_READY, VOLUME_DELETING, VOLUME_STATE_COUNT };

struct volume {
    char id[UUID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char name[VOLUME_NAME_SIZE]; /* one of a kind in its namespace */
    enum volume_state state;
    uint64_t size_mb; /* limit of what it may hold; 0: none */
    int64_t created_unix_ms;
};

const char *volume_state_name(enum volume_state state);
int volume_state_parse(const char *name, enum volume_state *out);

/* [a-zA-Z0-9_-]{1,128}. ERR_INVALID "Invalid volume name". */
int volume_name_check(const char *name, size_t len, struct err *err);
/* A UUID, any case, into OUT in lower case. ERR_INVALID "Invalid volume ID". */
int volume_id_parse(const char *text, char out[UUID_SIZE], struct err *err);

/*
 * Where in a sandbox a volume may be: absolute and clean (no "//", ".", "..", no slash at the end),
 * UTF-8 without control characters, shorter than VOLUME_MOUNT_PATH_SIZE, and neither `/` nor what
 * the sandbox itself needs (/proc, /sys, /dev, /usr and its links, /etc …) or anything below
 * /proc, /sys and /dev. ERR_INVALID with words that follow "volume mount #0: ".
 */
int volume_mount_path_check(const char *path, struct err *err);

/*
 * PATH (as a client wrote it, absolute or not) as a clean path relative to the volume's top, "" for
 * the top itself, into OUT of VOLUME_PATH_SIZE bytes. ERR_INVALID for "..", a part or a path too
 * long.
 */
int volume_path_clean(const char *path, char out[VOLUME_PATH_SIZE], struct err *err);

/* One mount of struct sandbox's volume_mounts, JSON text: [{"name","path","volumeID"}, …]. */
struct volume_mount {
    char volume_id[UUID_SIZE];
    char name[VOLUME_NAME_SIZE];
    char path[VOLUME_MOUNT_PATH_SIZE];
};
/* TEXT (NULL: none) as *COUNT of *OUT, to free(). ERR_INTERNAL for a text that is not that form. */
int volume_mounts_parse(const char *text, struct volume_mount **out, size_t *count,
                        struct err *err);
/* The reverse, to free(); NULL for none. */
char *volume_mounts_text(const struct volume_mount *mounts, size_t count);
/* Whether TEXT (NULL: none) has VOLUME_ID. */
bool volume_mounts_have(const char *text, const char *volume_id);

#endif
