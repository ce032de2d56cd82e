#include "server/engine/local/first.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/sig.h"
#include "server/base/str.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/launcher_proto.h"
#include "server/engine/local/record.h"
#include "server/engine/local/rootfs.h"
#include "server/engine/local/rootfs_base.h"
#include "server/engine/local/rootfs_layers.h"
#include "server/engine/local/volume_mount.h"
#include "server/model/limits.h"

#define ENVD_NICE (-20) /* it answers when thousands of processes want to run */
#define FD_LISTEN 3     /* envd's descriptors, named in its arguments */
#define FD_CONFIG 4
#define FD_GROUPS 5                          /* and the following: files of its control groups */
#define FD_SAFE 64                           /* above all of them */
#define GROUPS_SIZE (CGROUP_GRANTS_MAX * 32) /* their kinds and numbers as text */
#define GRANT_DISK_PREFIX "disk-"            /* envd/groups.h */
#define SHM_PART 2                           /* /dev/shm gets this part of the sandbox's memory */
#define OPEN_FILES 65536                     /* RLIMIT_NOFILE, when the host allows as much */

/* Docker's default set, and ptrace: root inside may debug what it sees, and sees only itself. */
static const int kept_capabilities[] = {
    CAP_AUDIT_WRITE, CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FOWNER,           CAP_FSETID,
    CAP_KILL,        CAP_MKNOD,   CAP_NET_RAW,      CAP_NET_BIND_SERVICE, CAP_SETFCAP,
    CAP_SETGID,      CAP_SETPCAP, CAP_SETUID,       CAP_SYS_CHROOT,       CAP_SYS_PTRACE,
};

__attribute__((noreturn)) static void report_and_end(int control, const struct err *err)
{
    struct first_report report = {.err = *err};

    packet_send(control, &report, sizeof(report), NULL, 0, 0);
    _exit(1);
}

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/*
 * Close all but what this process works with. Above all the launcher's ends of other spares'
 * connections: as long as any process holds one, that spare does not see the launcher end.
 */
static void close_others(const struct first_plan *plan)
{
    int keep[CGROUP_HIERARCHIES + CGROUP_GRANTS_MAX + 12], count = 0, from = 3;

    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++)
        keep[count++] = plan->cgroup.fds[i];
    for (size_t i = 0; i < plan->grants.count; i++)
        keep[count++] = plan->grants.items[i].fd;
    keep[count++] = plan->ctx->storage.top;
    keep[count++] = plan->ctx->storage.host;
    keep[count++] = plan->ctx->storage.sandboxes;
    keep[count++] = plan->ctx->storage.snapshots;
    keep[count++] = plan->ctx->records_dir;
    keep[count++] = plan->userns;
    keep[count++] = plan->mounts;
    keep[count++] = plan->listener;
    keep[count++] = plan->envd;
    keep[count++] = plan->control;
    keep[count++] = plan->gate;
    qsort(keep, (size_t)count, sizeof(keep[0]), compare_fds);
    for (int i = 0; i < count; i++) {
        if (keep[i] > from)
            close_range((unsigned)from, (unsigned)keep[i] - 1, 0);
        if (keep[i] >= from)
            from = keep[i] + 1;
    }
    close_range((unsigned)from, ~0U, 0);
}

/* Wait until the builder has put this process in its control groups. */
static int wait_gate(int gate, struct err *err)
{
    char byte;
    ssize_t n;

    do {
        n = read(gate, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n != 1)
        return err_set(err, ERR_INTERNAL, "the builder of the sandbox ended early");
    return 0;
}

/* What envd tells about the disk: figures of FOLDER's tree, instead of those it has. */
static void grant_gauge(struct first_plan *plan, const char *folder)
{
    struct storage_gauge gauge = STORAGE_GAUGE_NONE;

    cgroup_grants_drop(&plan->grants, GRANT_DISK_PREFIX);
    if (storage_gauge_open(&plan->ctx->storage, plan->ctx->storage.sandboxes, folder, &gauge) < 0)
        return;
    cgroup_grants_add(&plan->grants, GRANT_DISK_PREFIX "used", gauge.used);
    cgroup_grants_add(&plan->grants, GRANT_DISK_PREFIX "used", gauge.reserved);
    cgroup_grants_add(&plan->grants, GRANT_DISK_PREFIX "limit", gauge.limit);
}

static struct rootfs_plan rootfs_of(const struct first_plan *plan, const char *folder)
{
    const struct context *ctx = plan->ctx;

    return (struct rootfs_plan){
        .layer = ctx->base_layer,
        .folder = folder,
        .stage = ctx->stage_path,
        .root_id = slot_root_id(ctx, plan->slot),
        .userns = plan->userns,
        .idmap = ctx->idmap,
    };
}

static int build(struct first_plan *plan, struct err *err)
{
    const struct context *ctx = plan->ctx;
    _cleanup_free_ char *folder = mem_asprintf("%s/%s", ctx->sandboxes_path, plan->folder);
    struct rootfs_plan rootfs = rootfs_of(plan, folder);

    if (sethostname(BASE_HOSTNAME, strlen(BASE_HOSTNAME)) < 0)
        return err_sys(err, errno, "cannot set the sandbox's host name");
    grant_gauge(plan, plan->folder); /* while the host's /sys is there */
    return rootfs_build(&rootfs, err) < 0 ? -1 : wait_gate(plan->gate, err);
}

/* The next order. Ends the process when the launcher has gone. */
static void wait_order(int control, struct first_order *order, int *config)
{
    int fds[1], count = 0;
    ssize_t n = packet_receive(control, order, sizeof(*order), fds, 1, &count, 0);

    if (n != (ssize_t)sizeof(*order) || count != 1)
        _exit(0);
    *config = fds[0];
}

/* Another tree than the spare's own: a copy of a snapshot, or what an earlier run left. */
static int change_tree(struct first_plan *plan, const struct first_order *order, struct err *err)
{
    const struct context *ctx = plan->ctx;
    const struct storage *storage = &ctx->storage;
    char folder[SANDBOX_ID_SIZE + sizeof(SPARE_COPY_SUFFIX)];

    snprintf(folder, sizeof(folder), "%s", order->id);
    if (rootfs_leave(plan->mounts, err) < 0)
        return -1;
    if (!order->kept) {
        snprintf(folder, sizeof(folder), "%s" SPARE_COPY_SUFFIX, plan->folder);
        if (storage_tree_copy(storage, storage->snapshots, order->snapshot_id, storage->sandboxes,
                              folder, false, err) < 0)
            return -1;
    }
    _cleanup_free_ char *path = mem_asprintf("%s/%s", ctx->sandboxes_path, folder);
    struct rootfs_plan rootfs = rootfs_of(plan, path);
    if (layers_renew(path, err) < 0 || storage_tree_limit(storage, storage->sandboxes, folder,
                                                          DISK_BYTES(order->disk_mb), err) < 0)
        return -1;
    grant_gauge(plan, folder);
    if (rootfs_build(&rootfs, err) < 0)
        return -1;
    /* Its folder is what is to be named; the spare's own tree goes when its mounts have gone. */
    str_copy(plan->aside, sizeof(plan->aside), plan->folder, strlen(plan->folder));
    str_copy(plan->folder, sizeof(plan->folder), folder, strlen(folder));
    return 0;
}

static int take_tree(struct first_plan *plan, const struct first_order *order, struct err *err)
{
    const struct storage *storage = &plan->ctx->storage;
    struct err ignored = {0};

    if (order->kept || order->snapshot_id[0] != '\0') {
        if (change_tree(plan, order, err) < 0)
            return err_wrap(err, "files of %s", order->id);
    } else if (order->disk_mb != SANDBOX_DISK_DEFAULT_MB &&
               storage_tree_limit(storage, storage->sandboxes, plan->folder,
                                  DISK_BYTES(order->disk_mb), err) < 0) {
        return -1;
    }
    /* What lies there is memory: filled up, it must leave some. */
    if (rootfs_shm_size(cgroup_guest_bytes(&order->limits) / SHM_PART, err) < 0)
        return -1;
    if (volume_mounts_receive(plan->control, order->mounts, slot_root_id(plan->ctx, plan->slot),
                              plan->userns, err) < 0)
        return -1;
    if (plan->aside[0] != '\0') /* a failure shows again when the slot is given back */
        storage_tree_remove(storage, storage->sandboxes, plan->aside, &ignored);
    if (!order->kept && renameat2(storage->sandboxes, plan->folder, storage->sandboxes, order->id,
                                  RENAME_NOREPLACE) < 0)
        return err_sys(err, errno, "cannot name the folder of %s", order->id);
    return 0;
}

/* What the sandbox is called and may use. After it, a crash leaves a sandbox that can be found. */
static int take_identity(struct first_plan *plan, const struct first_order *order, struct err *err)
{
    const struct context *ctx = plan->ctx;
    struct record record = {
        .pid = order->pid,
        .start_ticks = order->start_ticks,
        .slot = plan->slot,
        .internet = order->internet,
    };
    struct err network = {0};

    if (ctx->cgroups->ops->limit(&plan->cgroup, &order->limits, err) < 0)
        return err_wrap(err, "limits of %s", order->id);
    if (take_tree(plan, order, err) < 0)
        return -1;
    /* Not before: mounted with nsdelegate, nobody sets limits of his own namespace's root. */
    if (unshare(CLONE_NEWCGROUP) < 0)
        return err_sys(err, errno, "cannot create a cgroup namespace");
    /* No link: the machine has no egress, and the launcher has said so at its start. */
    if (order->internet && egress_inside_up(plan->slot, &network) < 0 &&
        network.code != ERR_NOT_FOUND) {
        *err = network;
        return err_wrap(err, "network of %s", order->id);
    }
    return record_write(ctx, order->id, &record, err);
}

static bool is_kept(int capability)
{
    for (size_t i = 0; i < array_size(kept_capabilities); i++) {
        if (kept_capabilities[i] == capability)
            return true;
    }
    return false;
}

static int drop_capabilities(struct err *err)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        if (!is_kept(cap) && prctl(PR_CAPBSET_DROP, cap) < 0)
            return err_sys(err, errno, "cannot drop capability %d", cap);
    }
    return 0;
}

static void set_limits(void)
{
    struct rlimit files, none = {0, 0};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max < OPEN_FILES ? files.rlim_max : OPEN_FILES;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_CORE, &none);
}

/* Become root of the sandbox's user namespace and nothing more. */
static int drop_rights(const struct first_plan *plan, struct err *err)
{
    struct err ignored = {0};

    file_poke(AT_FDCWD, "/proc/self/oom_score_adj", "0", &ignored); /* not the server's */
    /* Counts within the sandbox's group alone. What envd starts gives it up for good. */
    setpriority(PRIO_PROCESS, 0, ENVD_NICE);
    if (setns(plan->userns, CLONE_NEWUSER) < 0)
        return err_sys(err, errno, "cannot enter the sandbox's user namespace");
    if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return err_sys(err, errno, "cannot become the sandbox's root");
    /* A session keyring of its own; kernels without keyrings have none to share. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return err_sys(err, errno, "cannot leave the host's session keyring");
    if (drop_capabilities(err) < 0)
        return -1;
    if (seccomp_load_program(plan->ctx->seccomp) < 0)
        return err_sys(err, errno, "cannot load the seccomp filter");
    return 0;
}

/* Give descriptor *FD the number TO. CLOEXEC stays unless KEEP. */
static int place(int fd, int to, bool keep)
{
    return dup3(fd, to, keep ? 0 : O_CLOEXEC);
}

/*
 * The descriptors envd gets, and no other: what is in PLAN and *CONTROL moves to its final number,
 * or one above them until the exec.
 */
static int arrange(struct first_plan *plan, int config, int *control, struct err *err)
{
    int *const ours[] = {&plan->envd, control}, count = (int)plan->grants.count;
    int from[FD_SAFE], last = FD_GROUPS + count, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    from[0] = from[1] = from[2] = null;
    from[FD_LISTEN] = plan->listener;
    from[FD_CONFIG] = config;
    for (int i = 0; i < count; i++)
        from[FD_GROUPS + i] = plan->grants.items[i].fd;
    for (int i = 0; i < 2; i++)
        from[last + i] = *ours[i];
    for (int i = 0; i < last + 2; i++) { /* all above FD_SAFE first: none is overwritten */
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FD_SAFE);
        if (from[i] < 0)
            return err_sys(err, errno, "cannot arrange envd's descriptors");
    }
    for (int i = 0; i < last + 2; i++) {
        if (place(from[i], i, i < last) < 0)
            return err_sys(err, errno, "cannot arrange envd's descriptors");
    }
    for (int i = 0; i < 2; i++)
        *ours[i] = last + i;
    if (syscall(SYS_close_range, last + 2, ~0U, 0) < 0)
        return err_sys(err, errno, "cannot close the launcher's descriptors");
    return 0;
}

/* "kind=number,kind=number…" for the descriptors that arrange() has put there. */
static void name_groups(const struct first_plan *plan, char out[GROUPS_SIZE])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < plan->grants.count; i++)
        len += (size_t)snprintf(out + len, GROUPS_SIZE - len, "%s%s=%zu", i > 0 ? "," : "",
                                plan->grants.items[i].kind, FD_GROUPS + i);
}

static int become_envd(const struct first_plan *plan, struct err *err)
{
    char listen_text[8], config_text[8], groups[GROUPS_SIZE];
    char *const argv[] = {(char[]){"envd"},
                          (char[]){"--init"},
                          (char[]){"--listen-fd"},
                          listen_text,
                          (char[]){"--config-fd"},
                          config_text,
                          (char[]){"--group-fds"},
                          groups,
                          NULL};
    char *const envp[] = {
        (char[]){"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        (char[]){"HOME=/root"}, (char[]){"LANG=C.UTF-8"}, NULL};

    snprintf(listen_text, sizeof(listen_text), "%d", FD_LISTEN);
    snprintf(config_text, sizeof(config_text), "%d", FD_CONFIG);
    name_groups(plan, groups);
    syscall(SYS_execveat, plan->envd, "", argv, envp, AT_EMPTY_PATH);
    return err_sys(err, errno, "cannot start envd");
}

void first_run(struct first_plan *plan)
{
    struct first_report ready = {0};
    struct first_order order;
    struct err err = {0};
    int config = -1, control = plan->control;

    close_others(plan);
    sig_defaults();
    if (build(plan, &err) < 0)
        report_and_end(control, &err);
    prctl(PR_SET_NAME, "sandpit-spare"); /* until it is envd */
    if (packet_send(control, &ready, sizeof(ready), NULL, 0, 0) < 0)
        _exit(1);
    wait_order(control, &order, &config);
    if (take_identity(plan, &order, &err) < 0)
        report_and_end(control, &err);
    setsid();
    umask(0022);
    set_limits();
    if (drop_rights(plan, &err) < 0 || arrange(plan, config, &control, &err) < 0)
        report_and_end(control, &err);
    become_envd(plan, &err);
    report_and_end(control, &err);
}
