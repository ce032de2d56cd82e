#include "server/engine/local/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/first.h"
#include "server/engine/local/launcher_proto.h"
#include "server/engine/local/logpipe.h"
#include "server/engine/local/netns.h"
#include "server/engine/local/netrules.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/rootfs_layers.h"
#include "server/engine/local/userns.h"
#include "server/model/limits.h"

#define END_WAIT_MS 10000 /* for a killed first process and all its children */

void spawn_folder(uint32_t slot, char out[SANDBOX_ID_SIZE])
{
    snprintf(out, SANDBOX_ID_SIZE, SPARE_PREFIX "%u", slot);
}

/* What a build holds until it is done. */
struct build {
    struct first_plan plan;
    int control; /* our end */
    int gate;    /* our end */
    int pidfd;
    pid_t pid;
};

static void build_clear(struct build *build)
{
    cgroup_close(&build->plan.cgroup);
    cgroup_grants_clear(&build->plan.grants);
    fd_close(&build->plan.userns);
    fd_close(&build->plan.mounts);
    fd_close(&build->plan.listener);
    fd_close(&build->plan.envd);
    fd_close(&build->plan.control);
    fd_close(&build->plan.gate);
    fd_close(&build->control);
    fd_close(&build->gate);
    fd_close(&build->pidfd);
}

static int make_folder(const struct context *ctx, struct build *build, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/%s", ctx->sandboxes_path, build->plan.folder);

    if (storage_tree_make(&ctx->storage, ctx->storage.sandboxes, build->plan.folder, err) < 0 ||
        storage_tree_limit(&ctx->storage, ctx->storage.sandboxes, build->plan.folder,
                           DISK_BYTES(SANDBOX_DISK_DEFAULT_MB), err) < 0)
        return -1;
    return layers_prepare(path, ctx->idmap ? 0 : slot_root_id(ctx, build->plan.slot), err);
}

static int make_channels(struct build *build, struct err *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "cannot create a socket pair");
    build->control = pair[0];
    build->plan.control = pair[1];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe");
    build->plan.gate = pair[0];
    build->gate = pair[1];
    return 0;
}

static int make_network(const struct context *ctx, struct build *build, struct err *err)
{
    struct err problem = {0};

    build->plan.listener = netns_new(slot_root_id(ctx, build->plan.slot), ENVD_PORT, err);
    if (build->plan.listener < 0)
        return -1;
    if (ctx->router_netns >= 0 && egress_attach(ctx, build->plan.slot, &problem) < 0)
        log_err(LOG_WARN, "a sandbox has no network link", NULL, &problem);
    return 0;
}

/* Clone the first process; it mounts while this one waits for the control groups. */
static int start_first(const struct context *ctx, struct build *build, struct err *err)
{
    bool into = ctx->cgroups->ops->clone_into;
    _cleanup_close_ int guest = into ? cgroup_open_guest(&build->plan.cgroup, err) : -1;

    if (into && guest < 0)
        return -1;
    build->pid =
        sys_clone(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC, guest, &build->pidfd);
    if (build->pid < 0)
        return err_sys(err, errno, "cannot start the sandbox's first process");
    if (build->pid == 0) {
        /* Our ends must close with the builder and the launcher, not live on in here. */
        fd_close(&build->control);
        fd_close(&build->gate);
        first_run(&build->plan);
    }
    fd_close(&build->plan.control);
    if (!into && cgroup_attach_guest(&build->plan.cgroup, &build->plan.grants, build->pid, err) < 0)
        return -1;
    if (write(build->gate, "1", 1) != 1)
        return err_sys(err, errno, "the sandbox's first process ended early");
    return 0;
}

static int wait_ready(struct build *build, struct err *err)
{
    struct first_report report = {0};
    int count;
    ssize_t n = packet_receive(build->control, &report, sizeof(report), NULL, 0, &count, 0);

    if (n != (ssize_t)sizeof(report))
        return err_set(err, ERR_INTERNAL, "the sandbox's first process ended early");
    if (report.err.code == ERR_NONE)
        return 0;
    *err = report.err;
    return -1;
}

static int run_build(const struct context *ctx, struct build *build, struct err *err)
{
    char group[CGROUP_NAME_SIZE];

    slot_group(build->plan.slot, group);
    build->plan.envd = open(ctx->config->envd_path, O_RDONLY | O_CLOEXEC);
    if (build->plan.envd < 0)
        return err_sys(err, errno, "cannot open envd at %s", ctx->config->envd_path);
    build->plan.mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (build->plan.mounts < 0)
        return err_sys(err, errno, "cannot open the mount namespace");
    if (make_folder(ctx, build, err) < 0 || make_channels(build, err) < 0)
        return -1;
    if (cgroup_create(ctx->cgroups, group, &build->plan.cgroup, err) < 0 ||
        ctx->cgroups->ops->divide(&build->plan.cgroup, &build->plan.grants, err) < 0 ||
        logpipe_make(ctx, build->plan.slot, &build->plan.grants, err) < 0)
        return -1;
    build->plan.userns = userns_new(slot_root_id(ctx, build->plan.slot), err);
    if (build->plan.userns < 0)
        return -1;
    if (make_network(ctx, build, err) < 0 || start_first(ctx, build, err) < 0)
        return -1;
    return wait_ready(build, err);
}

int spawn_spare(const struct context *ctx, uint32_t slot, struct spare *out, struct err *err)
{
    _cleanup_(build_clear) struct build build = {
        .plan = {.ctx = ctx,
                 .slot = slot,
                 .cgroup = CGROUP_NONE,
                 .userns = -1,
                 .mounts = -1,
                 .listener = -1,
                 .envd = -1,
                 .control = -1,
                 .gate = -1},
        .control = -1,
        .gate = -1,
        .pidfd = -1,
    };
    struct record record = {.slot = slot};
    struct err ignored = {0};
    uint64_t start_ticks = 0;
    int rc;

    spawn_folder(slot, build.plan.folder);
    rc = run_build(ctx, &build, err);
    if (rc == 0)
        rc = sys_start_ticks(build.pid, &start_ticks, err);
    if (rc < 0) {
        err_wrap(err, "building slot %u", slot);
        if (spawn_destroy(ctx, build.plan.folder, &record, build.pidfd, &ignored) < 0)
            log_err(LOG_WARN, "a failed sandbox was not removed", NULL, &ignored);
        return -1;
    }
    *out = (struct spare){
        .slot = slot,
        .pid = build.pid,
        .start_ticks = start_ticks,
        .pidfd = steal_fd(&build.pidfd),
        .control = steal_fd(&build.control),
    };
    return 0;
}

/* SIGKILL to the first process takes its whole pid namespace with it. */
static int end_in_group(const struct context *ctx, const char *group, int pidfd, struct err *err)
{
    struct err ignored = {0};

    if (pidfd >= 0) {
        sys_pidfd_kill(pidfd, SIGKILL);
        /* Version 1's frozen processes do not die. Version 2's do. */
        ctx->cgroups->ops->freeze(ctx->cgroups, group, false, &ignored);
        if (!sys_pidfd_ended(pidfd, END_WAIT_MS))
            return err_set(err, ERR_TIMEOUT, "the sandbox's processes do not end");
    }
    ctx->cgroups->ops->kill(ctx->cgroups, group); /* what a crash left without a first process */
    return 0;
}

/* A spare's own tree, and the copy that would have taken its place. */
static int remove_spare(const struct context *ctx, const char *folder, struct err *err)
{
    char copy[SANDBOX_ID_SIZE + sizeof(SPARE_COPY_SUFFIX)];

    snprintf(copy, sizeof(copy), "%s" SPARE_COPY_SUFFIX, folder);
    if (storage_tree_remove(&ctx->storage, ctx->storage.sandboxes, copy, err) < 0)
        return -1;
    return storage_tree_remove(&ctx->storage, ctx->storage.sandboxes, folder, err);
}

int spawn_end(const struct context *ctx, const char *folder, const struct record *record, int pidfd,
              struct err *err)
{
    _cleanup_close_ int opened = -1;
    char group[CGROUP_NAME_SIZE];

    if (pidfd < 0 && record->pid > 0)
        pidfd = opened = sys_pidfd_open(record->pid);
    if (record->slot == SLOT_NONE) {
        if (pidfd >= 0)
            sys_pidfd_kill(pidfd, SIGKILL);
        return 0;
    }
    slot_group(record->slot, group);
    if (end_in_group(ctx, group, pidfd, err) < 0)
        return -1;
    netrules_forget(ctx, folder, record);
    if (cgroup_remove(ctx->cgroups, group, err) < 0)
        return -1;
    logpipe_remove(ctx, record->slot);
    return 0;
}

int spawn_destroy(const struct context *ctx, const char *folder, const struct record *record,
                  int pidfd, struct err *err)
{
    char spare[SANDBOX_ID_SIZE];

    if (spawn_end(ctx, folder, record, pidfd, err) < 0)
        return -1;
    /*
     * The network link goes with its namespace, a moment later: to remove it here would wait 20 ms
     * for the kernel. The slot's next user removes what it finds (egress_attach).
     * The tree goes last: while it is there, the sandbox is known.
     */
    if (record_remove(ctx, folder, err) < 0)
        return -1;
    if (record->slot != SLOT_NONE) {
        spawn_folder(record->slot, spare);
        if (remove_spare(ctx, spare, err) < 0)
            return -1;
    }
    if (record->legacy)
        return remove_tree(ctx->legacy_dir, folder, err);
    return storage_tree_remove(&ctx->storage, ctx->storage.sandboxes, folder, err);
}
