/*
 * server/engine/local/storage.h - where the files of sandboxes, snapshots and volumes lie.
 *
 * A *tree* is a folder of ours with a limit of its own and copies that cost nothing:
 *
 *   STORAGE_IMAGE  a btrfs subvolume in <state>/storage.img, a sparse file mounted by a loop device
 *   STORAGE_BTRFS  a btrfs subvolume in the state folder itself
 *   STORAGE_PLAIN  a folder: no limit is held, a copy is a copy
 *
 * The image is mounted at <state>/storage in the launcher's own mount namespace, which its children
 * and the sandboxes' first processes inherit. Blocking; launcher's start and its children only.
 */
#ifndef SANDPIT_ENGINE_LOCAL_STORAGE_H
#define SANDPIT_ENGINE_LOCAL_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/engine/local/local.h"

#define STORAGE_IMAGE_NAME "storage.img"
#define STORAGE_FSID_SIZE 37
#define STORAGE_HALF_PREFIX "half-" /* a copy in the making; not among the characters of ids */

enum storage_kind { STORAGE_PLAIN, STORAGE_BTRFS, STORAGE_IMAGE };

struct storage {
    enum storage_kind kind;
    bool quota;                   /* limits of trees are held */
    char *path;                   /* <state>/storage, or <state>/plain; mode 0700 */
    int top;                      /* PATH */
    int sandboxes;                /* PATH/sandboxes: a tree each, by id */
    int snapshots;                /* PATH/snapshots: the same */
    int host;                     /* the state folder, for its file system's room */
    uint64_t host_reserve_bytes;  /* kept free there */
    char fsid[STORAGE_FSID_SIZE]; /* btrfs: its name in /sys/fs/btrfs */
};
#define STORAGE_NONE                                                                               \
    {                                                                                              \
        .top = -1, .sandboxes = -1, .snapshots = -1, .host = -1                                    \
    }

/*
 * Open or make the storage of CONFIG, and mount it. Removes what a crash left half made. A machine
 * that can have no image gets plain folders, and one warning in the log.
 */
int storage_open(const struct local_config *config, struct storage *out, struct err *err);
/* What storage_open would use and why, without making anything. For doctor. */
struct storage_plan {
    enum storage_kind kind;
    uint64_t image_bytes; /* STORAGE_IMAGE: what it is or would be */
    char why_plain[256];  /* STORAGE_PLAIN, unless it was asked for: what is missing */
    char remedy[256];
};
void storage_plan(const struct local_config *config, struct storage_plan *out);
/* The rules for sizes, pure: what is kept free of a file system, and how big an image becomes. */
uint64_t storage_reserve(uint64_t total_bytes, uint64_t asked_mb);
uint64_t storage_image_size(uint64_t free_bytes, uint64_t reserve_bytes, uint64_t asked_mb);

/* ERR_NO_SPACE when so little is left that no new tree should be made. A few microseconds. */
int storage_room(const struct storage *storage, struct err *err);
/* What was written before is on the disk on return. */
int storage_sync(const struct storage *storage, struct err *err);

/* A new, empty tree NAME in DIR (`sandboxes`, `snapshots`, or another folder below `top`). */
int storage_tree_make(const struct storage *storage, int dir, const char *name, struct err *err);
/*
 * TO in TO_DIR becomes a copy of the tree FROM: as of one moment on btrfs, while on plain folders
 * nobody may be writing. READ_ONLY: a snapshot, on the disk on return. ERR_EXISTS, ERR_NOT_FOUND.
 */
int storage_tree_copy(const struct storage *storage, int from_dir, const char *from, int to_dir,
                      const char *to, bool read_only, struct err *err);
/* Remove NAME with all that is in it; none is no error. Quick on btrfs, whatever the size. */
int storage_tree_remove(const struct storage *storage, int dir, const char *name, struct err *err);
/* At most BYTES in NAME (0: no limit). Without `quota` nothing happens. */
int storage_tree_limit(const struct storage *storage, int dir, const char *name, uint64_t bytes,
                       struct err *err);
/* How much NAME holds, metadata included. Plain folders are walked. */
int storage_tree_used(const struct storage *storage, int dir, const char *name, uint64_t *bytes,
                      struct err *err);
/*
 * Open the kernel's live figures of tree NAME to read: what it holds (add both of `used`) and its
 * limit, as decimal text. Returns 0, or -1: there are none here.
 */
struct storage_gauge {
    int used;     /* as of the last commit */
    int reserved; /* what is being written */
    int limit;
};
#define STORAGE_GAUGE_NONE                                                                         \
    {                                                                                              \
        .used = -1, .reserved = -1, .limit = -1                                                    \
    }
int storage_gauge_open(const struct storage *storage, int dir, const char *name,
                       struct storage_gauge *out);
void storage_gauge_close(struct storage_gauge *gauge);

/* By which number tree NAME is known in the folder of figures; 0: by none. No I/O. */
uint64_t storage_tree_id(const struct storage *storage, int dir, const char *name);
/* That folder, which everybody may read, or -1. */
int storage_gauges_open(const struct storage *storage);
/* There: what tree ID holds, and its limit. False: it is not known. */
bool storage_gauges_read(int gauges, uint64_t id, uint64_t *used_bytes, uint64_t *limit_bytes);

#endif
