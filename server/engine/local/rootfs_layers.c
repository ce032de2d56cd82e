#include "server/engine/local/rootfs_layers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/sys.h"
#include "server/engine/local/userns.h"

/* glibc's <sys/mount.h> and <linux/mount.h> agree on the constants, not on being both included. */
enum { ATTR_NODEV = MOUNT_ATTR_NODEV };

/* Folders of a sandbox's own tree: what it wrote below `/` and /usr, and overlay's scratch. */
static const struct {
    const char *name;
    bool work;
} parts[] = {{"root", false}, {"root.work", true}, {"usr", false}, {"usr.work", true}};

int layers_prepare(const char *folder, uint32_t owner_id, struct err *err)
{
    _cleanup_close_ int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (dir < 0)
        return err_sys(err, errno, "cannot open %s", folder);
    for (size_t i = 0; i < array_size(parts); i++) {
        if (mkdirat(dir, parts[i].name, 0755) < 0)
            return err_sys(err, errno, "cannot create %s/%s", folder, parts[i].name);
        if (!parts[i].work && fchownat(dir, parts[i].name, owner_id, owner_id, 0) < 0)
            return err_sys(err, errno, "cannot give away %s/%s", folder, parts[i].name);
    }
    return 0;
}

int layers_renew(const char *folder, struct err *err)
{
    _cleanup_close_ int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (dir < 0)
        return err_sys(err, errno, "cannot open %s", folder);
    for (size_t i = 0; i < array_size(parts); i++) {
        if (!parts[i].work)
            continue;
        if (remove_tree(dir, parts[i].name, err) < 0)
            return -1;
        if (mkdirat(dir, parts[i].name, 0755) < 0)
            return err_sys(err, errno, "cannot create %s/%s", folder, parts[i].name);
    }
    return 0;
}

int layers_attach(const char *source, const char *target, const char *type, unsigned long flags,
                  const char *options, struct err *err)
{
    if (mount(source, target, type, flags, options) == 0)
        return 0;
    return err_sys(err, errno, "cannot mount %s on %s", type != NULL ? type : source, target);
}

/* The folder PATH, owners shifted, attached at the new folder AT of stage. */
static int stage_folder(const struct rootfs_plan *plan, const char *path, const char *at,
                        struct err *err)
{
    _cleanup_close_ int tree = -1;

    if (mkdir(at, 0700) < 0)
        return err_sys(err, errno, "cannot create %s", at);
    if (!plan->idmap)
        return layers_attach(path, at, NULL, MS_BIND, NULL, err);
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
 * Overlay works in its upper layer with the rights of who mounts it. There the host's root has no
 * id, shifted as owners are; so the sandbox's root does it, with all capabilities of the host's.
 */
static int create_as(int fs, uint32_t root_id)
{
    int bits = prctl(PR_GET_SECUREBITS);
    int rc = -1, errnum;

    if (bits < 0 || prctl(PR_SET_SECUREBITS, (unsigned long)bits | SECBIT_NO_SETUID_FIXUP) < 0)
        return -1;
    setfsgid(root_id);
    setfsuid(root_id);
    rc = (int)syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    errnum = errno;
    setfsuid(0);
    setfsgid(0);
    prctl(PR_SET_SECUREBITS, (unsigned long)bits);
    errno = errnum;
    return rc;
}

/*
 * An overlay of LOWER (folders of stage, top first) with UPPER and WORK, attached at AT.
 * `volatile`: what has to survive a crash of the machine is written to disk as a whole
 * (storage_sync); else each fsync inside and the end of the sandbox would wait for the disk.
 * `xino`: the layers are on several file systems, and yet look like one. No `metacopy`: an upper
 * layer is complete without what is below it.
 */
static int mount_overlay(const struct rootfs_plan *plan, const char *lower, const char *upper,
                         const char *work, const char *at, struct err *err)
{
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    _cleanup_close_ int mounted = -1;
    int rc;

    if (fs < 0)
        return refuse_overlay(errno, err);
    if (fs_set(fs, "source", "sandpit", err) < 0 || fs_set(fs, "lowerdir", lower, err) < 0 ||
        fs_set(fs, "upperdir", upper, err) < 0 || fs_set(fs, "workdir", work, err) < 0 ||
        fs_set(fs, "redirect_dir", "on", err) < 0)
        return -1;
    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "metacopy", "off", 0);
    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "xino", "on", 0);
    syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0); /* from 5.10 on */
    rc = plan->idmap ? create_as(fs, plan->root_id)
                     : (int)syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    if (rc < 0)
        return refuse_overlay(errno, err);
    mounted = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, ATTR_NODEV);
    if (mounted < 0)
        return err_sys(err, errno, "cannot mount the overlay");
    if (syscall(SYS_move_mount, mounted, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(err, errno, "cannot attach the overlay at %s", at);
    return 0;
}

int layers_stage(const struct rootfs_plan *plan, struct err *err)
{
    _cleanup_free_ char *root = mem_asprintf("%s/root", plan->layer);
    _cleanup_free_ char *usr = mem_asprintf("%s/usr", plan->layer);

    if (stage_folder(plan, root, "skeleton", err) < 0 || stage_folder(plan, usr, "mask", err) < 0)
        return -1;
    return stage_folder(plan, "/usr", "host", err);
}

int layers_mount(const struct rootfs_plan *plan, const char *upper, const char *at, struct err *err)
{
    char paths[4][48], usr[48];

    if (stage_folder(plan, plan->folder, upper, err) < 0)
        return -1;
    for (size_t i = 0; i < array_size(parts); i++)
        snprintf(paths[i], sizeof(paths[i]), "%s/%s", upper, parts[i].name);
    snprintf(usr, sizeof(usr), "%s/usr", at);
    if (mkdir(at, 0755) < 0)
        return err_sys(err, errno, "cannot create a mount point");
    if (mount_overlay(plan, "skeleton", paths[0], paths[1], at, err) < 0)
        return err_wrap(err, "/");
    if (mount_overlay(plan, "mask:host", paths[2], paths[3], usr, err) < 0)
        return err_wrap(err, "/usr");
    return 0;
}

/* In a mount namespace of its own: the layers of an empty template, and nothing more. */
static int try_overlay(const char *folder, uint32_t root_id, bool idmap, struct err *err)
{
    _cleanup_close_ int userns = idmap ? userns_new(root_id, err) : -1;
    struct rootfs_plan plan = {.idmap = idmap, .userns = userns, .root_id = root_id};
    static const char *const names[] = {"upper", "work", "at"};

    if (idmap && userns < 0)
        return -1;
    if (layers_attach("none", "/", NULL, MS_REC | MS_PRIVATE, NULL, err) < 0)
        return -1;
    if (chdir(folder) < 0)
        return err_sys(err, errno, "cannot enter %s", folder);
    for (size_t i = 0; i < array_size(names); i++) {
        if (mkdir(names[i], 0700) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create folders in %s", folder);
    }
    if (!idmap)
        return stage_folder(&plan, "/usr", "lower", err) < 0
                   ? -1
                   : mount_overlay(&plan, "lower", "upper", "work", "at", err);
    if (stage_folder(&plan, "/usr", "lower.idmapped", err) < 0 ||
        stage_folder(&plan, folder, "upper.idmapped", err) < 0)
        return -1;
    return mount_overlay(&plan, "lower.idmapped", "upper.idmapped/upper", "upper.idmapped/work",
                         "at", err);
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

bool layers_idmap_works(const char *folder, uint32_t root_id, struct err *err)
{
    return overlay_works(folder, root_id, true, err);
}

bool layers_overlay_works(const char *folder, struct err *err)
{
    return overlay_works(folder, 0, false, err);
}

void layers_probe_remove(const char *state_dir, const char *folder)
{
    _cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err ignored = {0};

    if (dir >= 0)
        remove_tree(dir, folder, &ignored);
}
