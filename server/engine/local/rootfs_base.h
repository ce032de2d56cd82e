/*
 * server/engine/local/rootfs_base.h - the lower layer of the built-in template `base`.
 *
 * No download: /usr is the host's, and this makes what belongs around it, from texts of our own
 * (rootfs_base_text.c) and from those few files of the host's /etc that programs in /usr need.
 * The copy list names them; files that not everybody may read are never copied.
 */
#ifndef SANDPIT_ENGINE_LOCAL_ROOTFS_BASE_H
#define SANDPIT_ENGINE_LOCAL_ROOTFS_BASE_H

#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"

#define BASE_USER_ID 1000 /* "user", home /home/user */
#define BASE_HOSTNAME "e2b.local"

/*
 * Make sure LAYERS/base-<digest> is there and name it in *OUT (to free()). The digest is over our
 * texts and over names, sizes and times of what is copied, so a change of either makes a new one.
 * "root" below it goes under `/`, "usr" over the host's /usr: it hides what is not on the list.
 */
int rootfs_base_make(const char *layers, char **out, struct err *err);

/* A generated file, folder (text NULL, mode with S_IFDIR) or symlink (mode S_IFLNK, to TEXT). */
struct base_entry {
    const char *path; /* below the root, parents first */
    mode_t mode;
    uint32_t uid; /* and gid, as the sandbox sees them */
    const char *text;
};
extern const struct base_entry base_entries[];
extern const size_t base_entry_count;

#endif
