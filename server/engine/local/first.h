/*
 * server/engine/local/first.h - a sandbox's first process, from its clone to envd.
 *
 * It builds the sandbox around itself with the host's root rights, then waits as a *spare* until
 * the launcher sends an order (or closes the connection: then it ends). The order gives it an id,
 * limits and envd's configuration; it drops every right and becomes envd. Waiting with no other
 * process in the sandbox, it has nobody to be attacked by.
 */
#ifndef SANDPIT_ENGINE_LOCAL_FIRST_H
#define SANDPIT_ENGINE_LOCAL_FIRST_H

#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"
#include "server/engine/local/cgroup.h"
#include "server/engine/local/context.h"
#include "server/model/sandbox.h"

/* Launcher → first process, with one descriptor: envd's configuration. */
struct first_order {
    char id[SANDBOX_ID_SIZE];
    struct cgroup_limits limits;
    char snapshot_id[SANDBOX_ID_SIZE]; /* its tree begins as a copy of it; or "" */
    bool kept;                         /* ID has a tree, of an earlier run */
    uint32_t disk_mb;
    pid_t pid; /* its own, as the host sees it */
    uint64_t start_ticks;
    bool internet;
    uint32_t mounts; /* volumes, each in a packet after this one (volume_mount.h) */
};

/* First process → launcher: code ERR_NONE is "ready", anything else the reason why it ends. After
 * an order the connection's end means that envd has been started. */
struct first_report {
    struct err err;
};

struct first_plan {
    const struct context *ctx;
    uint32_t slot;
    char folder[SANDBOX_ID_SIZE]; /* "spare-<slot>", until the order changes it */
    char aside[SANDBOX_ID_SIZE];  /* the spare's own, when the order brought another */
    struct cgroup cgroup;
    struct cgroup_grants grants;
    int userns;
    int mounts; /* the launcher's mount namespace */
    int listener;
    int envd;
    int control; /* the first process's end */
    int gate;    /* closed by the builder when the control groups hold this process */
};

/* The life of the process; never returns. */
void first_run(struct first_plan *plan) __attribute__((noreturn));

#endif
