/*
 * server/engine/local/rootfs_layers.h - the overlays that make up a sandbox's files.
 *
 * Lower layers are shared and read-only; the upper ones are in the sandbox's tree (storage.h). All
 * are mounted with owners shifted into the sandbox's user namespace, so that on disk its ids are 0
 * to 65535 whichever slot it has: another slot can go on with its tree, or with a copy.
 * Host root, in a mount namespace of one's own; the stage is the working folder.
 */
#ifndef SANDPIT_ENGINE_LOCAL_ROOTFS_LAYERS_H
#define SANDPIT_ENGINE_LOCAL_ROOTFS_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/engine/local/rootfs.h"

/* Make the folders of the empty tree FOLDER; OWNER_ID is its root's: 0 where owners are shifted. */
int layers_prepare(const char *folder, uint32_t owner_id, struct err *err);
/* Before the second and every later mount: overlay's scratch folders empty, and no sign that the
 * last mount was `volatile` (work/incompat). */
int layers_renew(const char *folder, struct err *err);

/* Attach the lower layers in the stage. */
int layers_stage(const struct rootfs_plan *plan, struct err *err);
/* Both overlays, at the new folder AT, with PLAN's folder attached at the new folder UPPER. */
int layers_mount(const struct rootfs_plan *plan, const char *upper, const char *at,
                 struct err *err);
/* mount(2) with an error. */
int layers_attach(const char *source, const char *target, const char *type, unsigned long flags,
                  const char *options, struct err *err);

/* Whether overlay over idmapped mounts works. FOLDER is any folder of the storage. */
bool layers_idmap_works(const char *folder, uint32_t root_id, struct err *err);
/* The same without shifted owners. */
bool layers_overlay_works(const char *folder, struct err *err);
/* Remove FOLDER, where it was tried, from PARENT. */
void layers_probe_remove(const char *parent, const char *folder);

#endif
