#include "server/engine/local/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/sys.h"
#include "server/engine/local/userns.h"

#define TTY_GID 5 /* Debian's group "tty" */
#define SHM_OPTIONS "mode=1777,size=50%" /* until rootfs_shm_size */

/* glibc's <sys/mount.h> and <linux/mount.h> agree on the constants, not on being both included. */
enum { ATTR_NODEV = MOUNT_ATTR_NODEV };

int rootfs_prepare(const char *folder, uint32_t root_id, struct err *err)
{
    static const struct {
        const char *name;
        bool owned; /* an upper layer: its top is what the sandbox sees as `/` or /usr */
    } parts[] = {{"root", true}, {"root.work", false}, {"usr", true}, {"usr.work", false}};
    _cleanup_close_ int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (dir < 0)
        return err_sys(err, errno, "cannot open %s", folder);
    for (size_t i = 0; i < array_size(parts); i++) {
        if (mkdirat(dir, parts[i].name, 0755) < 0)
            return err_sys(err, errno, "cannot create %s/%s", folder, parts[i].name);
        if (parts[i].owned && fchownat(dir, parts[i].name, root_id, root_id, 0) < 0)
            return err_sys(err, errno, "cannot give away %s/%s", folder, parts[i].name);
    }
    return 0;
}

static int do_mount(const char *source, const char *target, const char *type, unsigned long flags,
                    const char *options, struct err *err)
{
    if (mount(source, target, type, flags, options) == 0)
        return 0;
    return err_sys(err, errno, "cannot mount %s on %s", type != NULL ? type : source, target);
}

/* The template's or the host's tree at PATH, owners shifted, attached at the folder AT of stage. */
static int stage_lower(const struct rootfs_plan *plan, const char *path, const char *at,
                       struct err *err)
{
    _cleanup_close_ int tree = -1;

    if (mkdir(at, 0700) < 0)
        return err_sys(err, errno, "cannot create %s", at);
    if (!plan->idmap)
        return do_mount(path, at, NULL, MS_BIND, NULL, err);
    tree = userns_mount(path, plan->userns, err);
    if (tree < 0)
        return -1;
    if (syscall(SYS_move_mount, tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(err, errno, "cannot attach the layer %s", path);
    return 0;
}

static int fs_set(int fs, const char *key, const char *value, struct err *err)
{
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) == 0)
        return 0;
    return err_sys(err, errno, "the overlay refuses %s=%s", key, value);
}

static int refuse_overlay(int errnum, struct err *err)
{
    if (errnum == ENODEV)
        return err_set(err, ERR_UNSUPPORTED,
                       "this kernel has no overlay file system: modprobe "
                       "overlay");
    if (errnum == EINVAL)
        return err_set(err, ERR_UNSUPPORTED,
                       "the state folder cannot hold an overlay's upper layer: put --state-dir on "
                       "ext4, xfs or btrfs (not on another overlay or a network file system)");
    return err_sys(err, errnum, "cannot mount the overlay");
}

/*
 * An overlay of LOWER (folders of stage, top first) with FOLDER's UPPER and WORK, attached at AT.
 * `volatile`: nobody needs a sandbox's files after a crash of the machine, and without it each
 * fsync inside and the end of the sandbox would wait for the disk.
 */
static int mount_overlay(const char *lower, const char *upper, const char *work, const char *at,
                         struct err *err)
{
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    _cleanup_close_ int mounted = -1;

    if (fs < 0)
        return refuse_overlay(errno, err);
    if (fs_set(fs, "source", "sandpit", err) < 0 || fs_set(fs, "lowerdir", lower, err) < 0 ||
        fs_set(fs, "upperdir", upper, err) < 0 || fs_set(fs, "workdir", work, err) < 0 ||
        fs_set(fs, "redirect_dir", "on", err) < 0)
        return -1;
    syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0); /* from 5.10 on */
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return refuse_overlay(errno, err);
    mounted = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, ATTR_NODEV);
    if (mounted < 0)
        return err_sys(err, errno, "cannot mount the overlay");
    if (syscall(SYS_move_mount, mounted, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(err, errno, "cannot attach the overlay at %s", at);
    return 0;
}

/*
 * Both overlays, at "new" and "new/usr" of the stage, which is the working folder. Paths go by a
 * descriptor of FOLDER, so that no character of its name means anything to overlay.
 */
static int mount_layers(const struct rootfs_plan *plan, struct err *err)
{
    _cleanup_close_ int folder = open(plan->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_free_ char *root = mem_asprintf("%s/root", plan->layer);
    _cleanup_free_ char *usr = mem_asprintf("%s/usr", plan->layer);
    char paths[4][48];
    static const char *const parts[4] = {"root", "root.work", "usr", "usr.work"};

    if (folder < 0)
        return err_sys(err, errno, "cannot open %s", plan->folder);
    for (size_t i = 0; i < array_size(parts); i++)
        snprintf(paths[i], sizeof(paths[i]), "/proc/self/fd/%d/%s", folder, parts[i]);
    if (stage_lower(plan, root, "skeleton", err) < 0 || stage_lower(plan, usr, "mask", err) < 0 ||
        stage_lower(plan, "/usr", "host", err) < 0)
        return -1;
    if (mkdir("new", 0755) < 0 || mkdir("empty", 0555) < 0)
        return err_sys(err, errno, "cannot create a mount point");
    if (mount_overlay("skeleton", paths[0], paths[1], "new", err) < 0)
        return err_wrap(err, "/");
    if (mount_overlay("mask:host", paths[2], paths[3], "new/usr", err) < 0)
        return err_wrap(err, "/usr");
    return 0;
}

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
    if (do_mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, options, err) < 0 ||
        fill_dev(root_id, err) < 0)
        return -1;
    snprintf(options, sizeof(options), "newinstance,ptmxmode=0666,mode=0620,gid=%u",
             root_id + TTY_GID);
    if (do_mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options, err) < 0)
        return -1;
    snprintf(options, sizeof(options), "%s,uid=%u,gid=%u", SHM_OPTIONS, root_id, root_id);
    return do_mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, options, err);
}

int rootfs_shm_size(uint64_t bytes, struct err *err)
{
    char options[32];

    snprintf(options, sizeof(options), "size=%" PRIu64, bytes);
    return do_mount("none", "/dev/shm", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, options, err);
}

/* Hide each of PATHS that exists: a folder under the empty one, a file under /dev/null. */
static int hide(const char *const *paths, struct err *err)
{
    for (; *paths != NULL; paths++) {
        struct stat st;
        if (lstat(*paths, &st) < 0)
            continue;
        if (do_mount(S_ISDIR(st.st_mode) ? "../empty" : "dev/null", *paths, NULL, MS_BIND, NULL,
                     err) < 0)
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

    if (do_mount("proc", "proc", "proc", flags, NULL, err) < 0 || hide(hidden, err) < 0)
        return -1;
    for (size_t i = 0; i < array_size(read_only); i++) {
        const char *path = read_only[i];
        if (access(path, F_OK) < 0)
            continue;
        if (do_mount(path, path, NULL, MS_BIND, NULL, err) < 0 ||
            do_mount(path, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL, err) < 0)
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

    if (do_mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) <
        0)
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

int rootfs_enter(const struct rootfs_plan *plan, struct err *err)
{
    umask(0022);
    if (do_mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL, err) < 0 ||
        do_mount("tmpfs", plan->stage, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755", err) < 0)
        return -1;
    if (chdir(plan->stage) < 0)
        return err_sys(err, errno, "cannot enter %s", plan->stage);
    if (mount_layers(plan, err) < 0)
        return -1;
    if (chdir("new") < 0)
        return err_sys(err, errno, "cannot enter the new root");
    if (mount_dev(plan->root_id, err) < 0 || mount_proc(err) < 0 || mount_sys(err) < 0)
        return -1;
    if (!plan->idmap && own_folders(plan->root_id, err) < 0)
        return -1;
    return pivot(err);
}

/* In a mount namespace of its own: the layers of an empty template, and nothing more. */
static int try_overlay(const char *folder, uint32_t root_id, bool idmap, struct err *err)
{
    _cleanup_close_ int userns = idmap ? userns_new(root_id, err) : -1;
    struct rootfs_plan plan = {.idmap = idmap, .userns = userns};
    static const char *const names[] = {"upper", "work", "at"};

    if (idmap && userns < 0)
        return -1;
    if (do_mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL, err) < 0)
        return -1;
    if (chdir(folder) < 0)
        return err_sys(err, errno, "cannot enter %s", folder);
    if (stage_lower(&plan, "/usr", idmap ? "lower.idmapped" : "lower", err) < 0)
        return -1;
    for (size_t i = 0; i < array_size(names); i++) {
        if (mkdir(names[i], 0700) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create folders in %s", folder);
    }
    return mount_overlay(idmap ? "lower.idmapped" : "lower", "upper", "work", "at", err);
}

/* Try in a child, so that nothing of it stays mounted. */
static bool overlay_works(const char *folder, uint32_t root_id, bool idmap, struct err *err)
{
    _cleanup_close_ int pipe_read = -1, pipe_write = -1;
    struct err answer = {0};
    int pipes[2];
    pid_t pid;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe") == 0;
    pipe_read = pipes[0];
    pipe_write = pipes[1];
    pid = sys_clone(CLONE_NEWNS, -1, NULL);
    if (pid < 0)
        return err_sys(err, errno, "cannot create a mount namespace") == 0;
    if (pid == 0) {
        try_overlay(folder, root_id, idmap, &answer);
        fd_write_full(pipe_write, &answer, sizeof(answer));
        _exit(0);
    }
    fd_close(&pipe_write);
    if (fd_read_full(pipe_read, &answer, sizeof(answer)) < 0)
        err_set(&answer, ERR_INTERNAL, "the trial of overlay mounts ended early");
    sys_wait(pid, NULL);
    if (answer.code != ERR_NONE)
        *err = answer;
    return answer.code == ERR_NONE;
}

bool rootfs_idmap_works(const char *folder, uint32_t root_id, struct err *err)
{
    return overlay_works(folder, root_id, true, err);
}

bool rootfs_overlay_works(const char *folder, struct err *err)
{
    return overlay_works(folder, 0, false, err);
}

void rootfs_probe_remove(const char *state_dir, const char *folder)
{
    _cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err ignored = {0};

    if (dir >= 0)
        remove_tree(dir, folder, &ignored);
}
