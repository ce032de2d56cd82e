#include "server/engine/local/rootfs.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/engine/local/rootfs_layers.h"

#define TTY_GID 5                        /* Debian's group "tty" */
#define SHM_OPTIONS "mode=1777,size=50%" /* until rootfs_shm_size */

static int make_node(const char *path, unsigned maj, unsigned min, uint32_t root_id,
                     struct err *err)
{
    if (mknod(path, S_IFCHR | 0666, makedev(maj, min)) < 0)
        return err_sys(err, errno, "cannot create the device %s", path);
    if (lchown(path, root_id, root_id) < 0 || chmod(path, 0666) < 0)
        return err_sys(err, errno, "cannot give away the device %s", path);
    return 0;
}

static int fill_dev(uint32_t root_id, struct err *err)
{
    static const struct {
        const char *path;
        unsigned maj, min;
    } nodes[] = {
        {"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
        {"pts/ptmx", "dev/ptmx"},
    };

    for (size_t i = 0; i < array_size(nodes); i++) {
        if (make_node(nodes[i].path, nodes[i].maj, nodes[i].min, root_id, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < array_size(links); i++) {
        if (symlink(links[i][0], links[i][1]) < 0 || lchown(links[i][1], root_id, root_id) < 0)
            return err_sys(err, errno, "cannot create %s", links[i][1]);
    }
    if (mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 0755) < 0)
        return err_sys(err, errno, "cannot create folders in /dev");
    return 0;
}

static int mount_dev(uint32_t root_id, struct err *err)
{
    char options[128];

    snprintf(options, sizeof(options), "mode=755,size=65536,nr_inodes=64,uid=%u,gid=%u", root_id,
             root_id);
    if (layers_attach("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, options, err) < 0 ||
        fill_dev(root_id, err) < 0)
        return -1;
    snprintf(options, sizeof(options), "newinstance,ptmxmode=0666,mode=0620,gid=%u",
             root_id + TTY_GID);
    if (layers_attach("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options, err) < 0)
        return -1;
    snprintf(options, sizeof(options), "%s,uid=%u,gid=%u", SHM_OPTIONS, root_id, root_id);
    return layers_attach("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, options, err);
}

int rootfs_shm_size(uint64_t bytes, struct err *err)
{
    char options[32];

    snprintf(options, sizeof(options), "size=%" PRIu64, bytes);
    return layers_attach("none", "/dev/shm", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, options, err);
}

/* Hide each of PATHS that exists: a folder under the empty one, a file under /dev/null. */
static int hide(const char *const *paths, struct err *err)
{
    for (; *paths != NULL; paths++) {
        struct stat st;
        if (lstat(*paths, &st) < 0)
            continue;
        if (layers_attach(S_ISDIR(st.st_mode) ? "../empty" : "dev/null", *paths, NULL, MS_BIND,
                          NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int mount_proc(struct err *err)
{
    static const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    static const char *const hidden[] = {
        "proc/acpi",       "proc/asound",     "proc/interrupts",  "proc/kcore",
        "proc/keys",       "proc/key-users",  "proc/kallsyms",    "proc/kmsg",
        "proc/kpagecount", "proc/kpageflags", "proc/kpagecgroup", "proc/latency_stats",
        "proc/iomem",      "proc/ioports",    "proc/sched_debug", "proc/scsi",
        "proc/slabinfo",   "proc/timer_list", "proc/timer_stats", "proc/vmallocinfo",
        "proc/modules",    "proc/config.gz",  "proc/mtrr",        NULL,
    };
    static const char *const read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys",
                                            "proc/sysrq-trigger"};

    if (layers_attach("proc", "proc", "proc", flags, NULL, err) < 0 || hide(hidden, err) < 0)
        return -1;
    for (size_t i = 0; i < array_size(read_only); i++) {
        const char *path = read_only[i];
        if (access(path, F_OK) < 0)
            continue;
        if (layers_attach(path, path, NULL, MS_BIND, NULL, err) < 0 ||
            layers_attach(path, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL, err) <
                0)
            return -1;
    }
    return 0;
}

static int mount_sys(struct err *err)
{
    static const char *const hidden[] = {
        "sys/block",
        "sys/bus",
        "sys/dev",
        "sys/firmware",
        "sys/fs",
        "sys/hypervisor",
        "sys/kernel/debug",
        "sys/kernel/security",
        "sys/kernel/slab",
        "sys/kernel/iommu_groups",
        "sys/module",
        "sys/power",
        "sys/class/dmi",
        "sys/class/block",
        "sys/devices/virtual/dmi",
        "sys/devices/virtual/powercap",
        "sys/devices/pci0000:00",
        NULL,
    };

    if (layers_attach("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL,
                      err) < 0)
        return -1;
    return hide(hidden, err);
}

/* Without shifted owners the folders that users must write to are given to them one by one. */
static int own_folders(uint32_t root_id, struct err *err)
{
    static const struct {
        const char *path;
        uint32_t id;
    } folders[] = {{"root", 0}, {"tmp", 0}, {"var/tmp", 0}, {"run", 0}, {"home/user", 1000}};

    for (size_t i = 0; i < array_size(folders); i++) {
        uint32_t id = root_id + folders[i].id;
        if (lchown(folders[i].path, id, id) < 0)
            return err_sys(err, errno, "cannot give away %s", folders[i].path);
    }
    return 0;
}

/* Make the working folder the root, and let go of the host's mounts. */
static int pivot(struct err *err)
{
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_sys(err, errno, "cannot change the root");
    /* The old root is stacked on the new one now: "." names it. */
    if (umount2(".", MNT_DETACH) < 0)
        return err_sys(err, errno, "cannot let go of the host's mounts");
    if (chdir("/") < 0)
        return err_sys(err, errno, "cannot enter the new root");
    return 0;
}

int rootfs_build(const struct rootfs_plan *plan, struct err *err)
{
    umask(0022);
    if (layers_attach("none", "/", NULL, MS_REC | MS_PRIVATE, NULL, err) < 0 ||
        layers_attach("tmpfs", plan->stage, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755", err) < 0)
        return -1;
    if (chdir(plan->stage) < 0)
        return err_sys(err, errno, "cannot enter %s", plan->stage);
    if (layers_stage(plan, err) < 0 || layers_mount(plan, "upper", "new", err) < 0)
        return -1;
    if (mkdir("empty", 0555) < 0 || chdir("new") < 0)
        return err_sys(err, errno, "cannot enter the new root");
    if (mount_dev(plan->root_id, err) < 0 || mount_proc(err) < 0 || mount_sys(err) < 0)
        return -1;
    if (!plan->idmap && own_folders(plan->root_id, err) < 0)
        return -1;
    return pivot(err);
}

int rootfs_leave(int mounts, struct err *err)
{
    if (setns(mounts, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0)
        return err_sys(err, errno, "cannot go back to the host's mounts");
    return 0;
}
