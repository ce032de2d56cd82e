/*
 * server/engine/local/context.h - what the launcher found out at its start and its children
 * inherit by fork. Immutable afterwards, but for the members that name who changes them.
 */
#ifndef SANDPIT_ENGINE_LOCAL_CONTEXT_H
#define SANDPIT_ENGINE_LOCAL_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "server/base/err.h"
#include "server/engine/local/cgroup.h"
#include "server/engine/local/local.h"
#include "server/engine/local/seccomp.h"
#include "server/engine/local/storage.h"
#include "server/engine/local/sys.h"

#define SLOT_NONE UINT32_MAX

struct context {
    const struct local_config *config; /* copied strings */
    struct storage storage;
    char *sandboxes_path; /* its sandboxes: mode 0700, so that no user of the host can
                                          run a set-user-ID file that a sandbox made */
    char *records_path;   /* <run>/sandboxes */
    char *stage_path;     /* <run>/stage: an empty folder to mount on */
    char *base_layer;     /* <state>/layers/base-<digest> */
    char instance[9];     /* tells this state folder's control groups from others */
    char boot_id[BOOT_ID_SIZE];
    int legacy_dir; /* <state>/sandboxes: of versions without storage.h, host ids in it; or -1 */
    int records_dir;
    int logs_dir;   /* <run>/logs: logpipe.h */
    char *volumes_path; /* volume_store.h */
    int volumes_dir;
    int host_netns; /* the launcher's own network namespace */
    bool idmap;
    struct cgroups *cgroups;
    struct seccomp_program *seccomp;
    int router_netns; /* egress.c: the shared router's, -1 while there is none */
};

#define DISK_BYTES(mb) ((uint64_t)(mb) << 20)

/* Host id of root in SLOT. */
static inline uint32_t slot_root_id(const struct context *ctx, uint32_t slot)
{
    return ctx->config->id_base + slot * 65536u;
}

/* The name of SLOT's control group. */
static inline void slot_group(uint32_t slot, char out[CGROUP_NAME_SIZE])
{
    snprintf(out, CGROUP_NAME_SIZE, "slot-%u", slot);
}

#endif
