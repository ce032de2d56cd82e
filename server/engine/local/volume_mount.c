#include "server/engine/local/volume_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/launcher_proto.h"

#define PROPAGATION_PRIVATE (1 << 18) /* MS_PRIVATE; <sys/mount.h> and <linux/mount.h> clash */

int volume_order_check(const struct volume_order *order, struct err *err)
{
    char id[UUID_SIZE];

    if (strnlen(order->volume_id, sizeof(order->volume_id)) != UUID_SIZE - 1 ||
        volume_id_parse(order->volume_id, id, err) < 0 || !str_eq(id, order->volume_id))
        return err_set(err, ERR_INVALID, "Invalid volume ID");
    if (strnlen(order->path, sizeof(order->path)) == sizeof(order->path))
        return err_set(err, ERR_INVALID, "the path of a volume is too long");
    return volume_mount_path_check(order->path, err);
}

/*
 * Make files as ROOT_ID from now on, with all capabilities still: where owners are shifted, the
 * host's root has no id that the file system could keep.
 */
static int act_as(uint32_t root_id, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return err_sys(err, errno, "cannot read capabilities");
    setfsgid(root_id);
    setfsuid(root_id); /* takes those over files away */
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    if (syscall(SYS_capset, &header, data) < 0)
        return err_sys(err, errno, "cannot keep capabilities");
    return 0;
}

static int open_part(int dir, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
}

static int refuse_point(int errnum, const char *path, struct err *err)
{
    if (errnum == ELOOP)
        return err_set(err, ERR_INVALID, "volume path '%.300s' has a symbolic link in it", path);
    if (errnum == ENOTDIR)
        return err_set(err, ERR_INVALID, "volume path '%.300s' is not a directory", path);
    if (errnum == EDQUOT || errnum == ENOSPC)
        return err_set(err, ERR_NO_SPACE, "no room for the volume path '%.300s'", path);
    return err_sys(err, errnum, "cannot make the volume path '%.300s'", path);
}

/* The folder PATH (absolute, clean), made where it is missing. Returns its descriptor or -1. */
static int mount_point(const char *path, struct err *err)
{
    _cleanup_close_ int at = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *rest = path + 1;

    while (at >= 0 && *rest != '\0') {
        char part[VOLUME_FILE_NAME_MAX + 1];
        size_t len = strcspn(rest, "/");
        int next;

        memcpy(part, rest, len); /* volume_mount_path_check: at most VOLUME_FILE_NAME_MAX */
        part[len] = '\0';
        next = open_part(at, part);
        if (next < 0 && errno == ENOENT && (mkdirat(at, part, 0755) == 0 || errno == EEXIST))
            next = open_part(at, part);
        if (next < 0)
            return refuse_point(errno, path, err);
        fd_close(&at);
        at = next;
        rest += len;
        rest += *rest == '/';
    }
    return at >= 0 ? steal_fd(&at) : refuse_point(errno, path, err);
}

/* Owners as the sandbox sees them, no set-user-ID programs, no devices, nothing passed on. */
static int shift(int tree, int userns, struct err *err)
{
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        .propagation = PROPAGATION_PRIVATE,
        .userns_fd = (uint64_t)(unsigned)userns,
    };

    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
        return err_set(err, ERR_UNSUPPORTED,
                       "volumes cannot be mounted on this machine: the kernel or the file system "
                       "of the state folder has no idmapped mounts (Linux 5.12 or later with ext4, "
                       "5.15 with btrfs, 5.12 with xfs)");
    return err_sys(err, errno, "cannot shift the owners of a volume");
}

static int attach(int tree, const struct volume_order *order, int userns, struct err *err)
{
    _cleanup_close_ int point = -1;

    if (shift(tree, userns, err) < 0)
        return -1;
    point = mount_point(order->path, err);
    if (point < 0)
        return -1;
    if (syscall(SYS_move_mount, tree, "", point, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_sys(err, errno, "cannot attach the volume at '%.300s'", order->path);
    return 0;
}

int volume_mounts_receive(int control, uint32_t count, uint32_t root_id, int userns,
                          struct err *err)
{
    int rc = count > 0 ? act_as(root_id, err) : 0;

    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        struct volume_order order;
        int tree = -1, fds = 0;
        ssize_t n = packet_receive(control, &order, sizeof(order), &tree, 1, &fds, 0);

        if (n != (ssize_t)sizeof(order) || fds != 1)
            rc = err_set(err, ERR_INTERNAL, "a volume was not passed on");
        else
            rc = attach(tree, &order, userns, err);
        fd_close(&tree);
    }
    setfsuid(0);
    setfsgid(0);
    return rc;
}
