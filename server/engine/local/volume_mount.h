/*
 * server/engine/local/volume_mount.h - volumes in a sandbox.
 *
 * The server tells before it creates or starts a sandbox which volumes go where (LAUNCHER_MOUNTS).
 * At the order the launcher copies each volume's mount, detached, and sends it to the first
 * process, which shifts its owners into the sandbox's user namespace and attaches it: nobody then
 * needs the host's path. The mount lives in the sandbox's mount namespace, so it stays whatever
 * happens to server and launcher.
 */
#ifndef SANDPIT_ENGINE_LOCAL_VOLUME_MOUNT_H
#define SANDPIT_ENGINE_LOCAL_VOLUME_MOUNT_H

#include <stdint.h>

#include "server/base/err.h"
#include "server/engine/volume.h"

/*
 * Server → launcher, an array of up to VOLUME_MOUNTS_MAX in a file; launcher → first process, one a
 * packet, with the detached mount.
 */
struct volume_order {
    char volume_id[UUID_SIZE];
    char path[VOLUME_MOUNT_PATH_SIZE];
};

/* ORDER comes from the server: names in whole, path as volume_mount_path_check wants it. */
int volume_order_check(const struct volume_order *order, struct err *err);

/*
 * In the first process, the sandbox's root entered, still with the host's rights: take COUNT mounts
 * from CONTROL and attach them. Folders on the way are made and belong to ROOT_ID. A link on the
 * way is refused.
 */
int volume_mounts_receive(int control, uint32_t count, uint32_t root_id, int userns,
                          struct err *err);

#endif
