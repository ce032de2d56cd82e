/*
 * server/engine/local/rootfs.h - the files a sandbox sees.
 *
 * `/` and `/usr` are overlays whose lower layers are shared, idmapped and read-only; what a sandbox
 * writes is below its own folder of the state. Runs in the sandbox's first process, still
 * host root, in its own new mount namespace, before any other process is there.
 */
#ifndef SANDPIT_ENGINE_LOCAL_ROOTFS_H
#define SANDPIT_ENGINE_LOCAL_ROOTFS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"

struct rootfs_plan {
    const char *layer;  /* folder of the template: "root" is below `/`, "usr" below /usr */
    const char *folder; /* the sandbox's own tree: "root", "root.work", "usr", "usr.work" */
    const char *stage;  /* an existing empty folder to mount on meanwhile */
    uint32_t root_id;   /* host id of the sandbox's root */
    int userns;         /* owners are shifted into it */
    bool idmap;         /* false: the kernel cannot; owners show as nobody */
};

/*
 * Mount everything and make it the root of this mount namespace, with nothing of the host's
 * mounts left in it. The working folder is `/` then.
 */
int rootfs_build(const struct rootfs_plan *plan, struct err *err);
/* To build it again, with another folder: into a new copy of the mount namespace MOUNTS. */
int rootfs_leave(int mounts, struct err *err);

/* Later, still with host root's rights: how much memory files in /dev/shm may take. */
int rootfs_shm_size(uint64_t bytes, struct err *err);

#endif
