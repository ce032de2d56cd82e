#include "server/engine/local/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/engine/local/sys.h"

/* Waits in the new namespace until the maps are written, forbids further ones, and ends. */
__attribute__((noreturn)) static void holder_run(int go)
{
    struct err err = {0};
    char byte;

    if (read(go, &byte, 1) != 1)
        _exit(1);
    if (file_poke(AT_FDCWD, "/proc/sys/user/max_user_namespaces", "0", &err) < 0)
        _exit(1);
    _exit(0);
}

/* Fork into a new user namespace that belongs to ROOT_ID. Returns the pid or -1 with errno. */
static pid_t holder_fork(uint32_t root_id, int go)
{
    pid_t pid;
    int errnum;

    if (setresuid((uid_t)-1, root_id, (uid_t)-1) < 0)
        return -1;
    pid = sys_clone(CLONE_NEWUSER, -1, NULL);
    errnum = errno;
    if (pid == 0)
        holder_run(go);
    if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0)
        abort(); /* root may always go back to 0 */
    errno = errnum;
    return pid;
}

static int refuse_clone(int errnum, struct err *err)
{
    if (errnum == ENOSPC || errnum == EUSERS)
        return err_set(err, ERR_UNSUPPORTED,
                       "user namespaces are off or used up: sysctl -w "
                       "user.max_user_namespaces=15000");
    if (errnum == EINVAL || errnum == ENOSYS)
        return err_set(err, ERR_UNSUPPORTED,
                       "this kernel has no user namespaces (CONFIG_USER_NS=y is needed)");
    return err_sys(err, errnum, "cannot create a user namespace");
}

static int write_maps(pid_t pid, uint32_t root_id, struct err *err)
{
    char path[40], text[40];

    snprintf(text, sizeof(text), "0 %u %u\n", root_id, USERNS_IDS);
    snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
    if (file_poke(AT_FDCWD, path, text, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
    return file_poke(AT_FDCWD, path, text, err);
}

int userns_new(uint32_t root_id, struct err *err)
{
    _cleanup_close_ int go_read = -1, go_write = -1, userns = -1;
    int pipes[2], status = -1, rc;
    char path[40];
    pid_t pid;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe");
    go_read = pipes[0];
    go_write = pipes[1];
    pid = holder_fork(root_id, go_read);
    if (pid < 0)
        return refuse_clone(errno, err);
    rc = write_maps(pid, root_id, err);
    if (rc == 0) {
        snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
        userns = open(path, O_RDONLY | O_CLOEXEC);
        if (userns < 0)
            rc = err_sys(err, errno, "cannot open %s", path);
    }
    if (rc == 0 && write(go_write, "1", 1) != 1)
        rc = err_sys(err, errno, "cannot continue the user namespace");
    fd_close(&go_write);
    fd_close(&go_read);
    sys_wait(pid, &status);
    if (rc < 0)
        return -1;
    if (status != 0)
        return err_set(err, ERR_INTERNAL, "cannot forbid nested user namespaces in a sandbox");
    return steal_fd(&userns);
}

int userns_mount(const char *path, int userns, struct err *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP,
                              .userns_fd = (uint64_t)(unsigned)userns};
    _cleanup_close_ int tree = -1;

    tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return err_sys(err, errno, "cannot copy the mount of %s", path);
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        return steal_fd(&tree);
    if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s cannot be mounted with shifted owners (idmapped mounts: Linux 5.19 for "
                       "overlay on ext4, xfs or btrfs)",
                       path);
    return err_sys(err, errno, "cannot shift the owners of %s", path);
}
