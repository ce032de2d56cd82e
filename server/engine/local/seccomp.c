#include "server/engine/local/seccomp.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"

/* Newer than the C library's headers; the same number on every architecture. */
#define NR_LISTMOUNT 458
#define NR_STATMOUNT 457
#define NR_OPEN_TREE_ATTR 467
#define NR_LAST_REVIEWED 469 /* file_setattr, Linux 6.17 */

#define GUARD_LEN 3 /* instructions put before libseccomp's */

struct seccomp_program {
    unsigned short len;
    struct sock_filter filter[];
};

/* Refused whatever the arguments. -1: no such call on this architecture. */
static const struct {
    int nr;
    int errnum;
} denied[] = {
    /* mounts and roots */
    {SCMP_SYS(mount), EPERM},
    {SCMP_SYS(umount), EPERM},
    {SCMP_SYS(umount2), EPERM},
    {SCMP_SYS(pivot_root), EPERM},
    {SCMP_SYS(open_tree), EPERM},
    {SCMP_SYS(move_mount), EPERM},
    {SCMP_SYS(fsopen), EPERM},
    {SCMP_SYS(fsconfig), EPERM},
    {SCMP_SYS(fsmount), EPERM},
    {SCMP_SYS(fspick), EPERM},
    {SCMP_SYS(mount_setattr), EPERM},
    {NR_OPEN_TREE_ATTR, EPERM},
    {NR_STATMOUNT, EPERM},
    {NR_LISTMOUNT, EPERM},
    {SCMP_SYS(swapon), EPERM},
    {SCMP_SYS(swapoff), EPERM},
    {SCMP_SYS(quotactl), EPERM},
    {SCMP_SYS(quotactl_fd), EPERM},
    {SCMP_SYS(sysfs), EPERM},
    {SCMP_SYS(nfsservctl), EPERM},
    /* namespaces; clone3's flags are behind a pointer, so the C library must fall back to clone */
    {SCMP_SYS(setns), EPERM},
    {SCMP_SYS(clone3), ENOSYS},
    /* the kernel itself */
    {SCMP_SYS(reboot), EPERM},
    {SCMP_SYS(kexec_load), EPERM},
    {SCMP_SYS(kexec_file_load), EPERM},
    {SCMP_SYS(init_module), EPERM},
    {SCMP_SYS(finit_module), EPERM},
    {SCMP_SYS(delete_module), EPERM},
    {SCMP_SYS(create_module), EPERM},
    {SCMP_SYS(query_module), EPERM},
    {SCMP_SYS(get_kernel_syms), EPERM},
    {SCMP_SYS(syslog), EPERM},
    {SCMP_SYS(acct), EPERM},
    {SCMP_SYS(settimeofday), EPERM},
    {SCMP_SYS(clock_settime), EPERM},
    {SCMP_SYS(stime), EPERM},
    {SCMP_SYS(iopl), EPERM},
    {SCMP_SYS(ioperm), EPERM},
    {SCMP_SYS(vhangup), EPERM},
    {SCMP_SYS(lookup_dcookie), EPERM},
    {SCMP_SYS(_sysctl), ENOSYS},
    {SCMP_SYS(uselib), ENOSYS},
    {SCMP_SYS(ustat), ENOSYS},
    {SCMP_SYS(vm86), ENOSYS},
    {SCMP_SYS(vm86old), ENOSYS},
    {SCMP_SYS(modify_ldt), ENOSYS},
    {SCMP_SYS(move_pages), EPERM},
    {SCMP_SYS(migrate_pages), EPERM},
    /* much code, little use: where kernel holes have been */
    {SCMP_SYS(bpf), EPERM},
    {SCMP_SYS(perf_event_open), EPERM},
    {SCMP_SYS(userfaultfd), EPERM},
    {SCMP_SYS(fanotify_init), EPERM},
    {SCMP_SYS(io_uring_setup), ENOSYS},
    {SCMP_SYS(io_uring_enter), ENOSYS},
    {SCMP_SYS(io_uring_register), ENOSYS},
    /* keys are not namespaced well; file handles pass by every path check */
    {SCMP_SYS(add_key), ENOSYS},
    {SCMP_SYS(request_key), ENOSYS},
    {SCMP_SYS(keyctl), ENOSYS},
    {SCMP_SYS(name_to_handle_at), EPERM},
    {SCMP_SYS(open_by_handle_at), EPERM},
};

static const uint64_t new_namespaces[] = {
    CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
    CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET,
};

static const unsigned families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

/*
 * TIOCSTI types for the user of a terminal, TIOCLINUX pastes; terminals may be shared. A subvolume
 * that anybody may make on a btrfs, such as a volume, would not count for the limit of the one it
 * is in, and would be in no snapshot of it.
 */
static const uint64_t refused_ioctls[] = {
    TIOCSTI,
    TIOCLINUX,
    BTRFS_IOC_SUBVOL_CREATE,
    BTRFS_IOC_SUBVOL_CREATE_V2,
    BTRFS_IOC_SNAP_CREATE,
    BTRFS_IOC_SNAP_CREATE_V2,
    BTRFS_IOC_SNAP_DESTROY,
    BTRFS_IOC_SNAP_DESTROY_V2,
    BTRFS_IOC_SUBVOL_SETFLAGS,
};

static int add_denied(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < array_size(denied); i++) {
        int rc;
        if (denied[i].nr < 0) /* libseccomp's mark for "not on this architecture" */
            continue;
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint16_t)denied[i].errnum), denied[i].nr, 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_namespaces(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < array_size(new_namespaces); i++) {
        uint64_t flag = new_namespaces[i];
        struct scmp_arg_cmp has = SCMP_A0_64(SCMP_CMP_MASKED_EQ, flag, flag);
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, has);
        if (rc == 0)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1, has);
        if (rc < 0)
            return rc;
    }
    /* CLONE_NEWTIME is among clone's signal bits: only unshare takes it. */
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1,
                            SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_NEWTIME, CLONE_NEWTIME));
}

/* Above all no AF_VSOCK: it reaches the hypervisor past every network namespace. */
static int add_sockets(scmp_filter_ctx ctx)
{
    uint32_t action = SCMP_ACT_ERRNO(EAFNOSUPPORT);

    for (unsigned family = 0; family < AF_MAX; family++) {
        bool allowed = false;
        for (size_t i = 0; i < array_size(families); i++)
            allowed |= families[i] == family;
        if (allowed)
            continue;
        int rc =
            seccomp_rule_add(ctx, action, SCMP_SYS(socket), 1, SCMP_A0_32(SCMP_CMP_EQ, family));
        if (rc < 0)
            return rc;
    }
    return seccomp_rule_add(ctx, action, SCMP_SYS(socket), 1, SCMP_A0_32(SCMP_CMP_GE, AF_MAX));
}

static int add_ioctls(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < array_size(refused_ioctls); i++) {
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                  SCMP_A1_64(SCMP_CMP_MASKED_EQ, 0xffffffffu, refused_ioctls[i]));
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Before libseccomp's program: numbers past the last one reviewed do not exist. */
static void put_guard(struct sock_filter *filter)
{
    filter[0] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    filter[1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NR_LAST_REVIEWED, 0, 1);
    filter[2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
}

/* The compiled CTX as an array. NULL with errno set. */
static struct seccomp_program *export_program(scmp_filter_ctx ctx)
{
    _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
    _cleanup_free_ struct seccomp_program *program = NULL;
    off_t bytes;

    if (fd < 0 || seccomp_export_bpf(ctx, fd) < 0 || (bytes = lseek(fd, 0, SEEK_END)) < 0)
        return NULL;
    size_t count = (size_t)bytes / sizeof(struct sock_filter);
    if (count == 0 || count + GUARD_LEN > BPF_MAXINSNS || lseek(fd, 0, SEEK_SET) < 0) {
        errno = E2BIG;
        return NULL;
    }
    program = mem_zalloc(sizeof(*program) + (count + GUARD_LEN) * sizeof(struct sock_filter));
    program->len = (unsigned short)(count + GUARD_LEN);
    put_guard(program->filter);
    if (fd_read_full(fd, program->filter + GUARD_LEN, (size_t)bytes) < 0)
        return NULL;
    return steal_ptr(&program);
}

static void cleanup_ctx(scmp_filter_ctx *ctx)
{
    if (*ctx != NULL)
        seccomp_release(*ctx);
}

int seccomp_compile(struct seccomp_program **out, struct err *err)
{
    _cleanup_(cleanup_ctx) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    uint32_t action = SECCOMP_RET_ERRNO;
    int rc;

    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "this kernel has no seccomp filters "
                       "(CONFIG_SECCOMP_FILTER=y is needed)");
    if (ctx == NULL)
        return err_set(err, ERR_INTERNAL, "cannot begin a seccomp filter");
    rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
    if (rc == 0)
        rc = add_denied(ctx);
    if (rc == 0)
        rc = add_namespaces(ctx);
    if (rc == 0)
        rc = add_sockets(ctx);
    if (rc == 0)
        rc = add_ioctls(ctx);
    if (rc < 0)
        return err_sys(err, -rc, "cannot build the seccomp filter");
    struct seccomp_program *program = export_program(ctx);
    if (program == NULL)
        return err_sys(err, errno, "cannot compile the seccomp filter");
    *out = program;
    return 0;
}

void seccomp_free(struct seccomp_program *program)
{
    free(program);
}

int seccomp_load_program(const struct seccomp_program *program)
{
    struct sock_fprog fprog = {
        .len = program->len,
        .filter = (struct sock_filter *)(uintptr_t)program->filter,
    };

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog);
}
