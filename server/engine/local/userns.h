/*
 * server/engine/local/userns.h - a sandbox's range of 65,536 host ids.
 *
 * Slot N owns the host uids and gids from id_base + N * 65536. Launcher's children only.
 * Source: user_namespaces(7), mount_setattr(2).
 */
#ifndef SANDPIT_ENGINE_LOCAL_USERNS_H
#define SANDPIT_ENGINE_LOCAL_USERNS_H

#include <stdint.h>

#include "server/base/err.h"

#define USERNS_IDS 65536u

/*
 * A new user namespace that maps ids 0..65535 to ROOT_ID..ROOT_ID+65535. It is owned by ROOT_ID,
 * so that inotify and other per-user counts of one sandbox are not those of all; no further user
 * namespace can be made in it. Returns its descriptor, or -1 with *ERR set (ERR_UNSUPPORTED
 * names the setting that forbids it).
 */
int userns_new(uint32_t root_id, struct err *err);

/*
 * A copy of the mount at PATH (not of mounts below it) with owners shifted into USERNS. Detached:
 * attach with move_mount. Returns its descriptor or -1; ERR_UNSUPPORTED when this kernel or file
 * system has no idmapped mounts.
 */
int userns_mount(const char *path, int userns, struct err *err);

#endif
