#include "server/engine/local/storage_btrfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define QGROUPS "/sys/fs/btrfs/%s/qgroups"
#define ALL_LEVELS "8" /* of a tree of the file system: count again whatever is dropped */

bool btrfs_here(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == BTRFS_SUPER_MAGIC;
}

int btrfs_fsid(int fd, char out[STORAGE_FSID_SIZE], struct err *err)
{
    struct btrfs_ioctl_fs_info_args info = {0};
    const uint8_t *b = info.fsid;

    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return err_sys(err, errno, "cannot ask btrfs for its id");
    snprintf(out, STORAGE_FSID_SIZE,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    return 0;
}

int btrfs_quota_on(int fd, const char *fsid, struct err *err)
{
    struct btrfs_ioctl_quota_ctl_args on = {.cmd = BTRFS_QUOTA_CTL_ENABLE};
    struct btrfs_ioctl_quota_rescan_args again = {0};
    char path[96];
    _cleanup_free_ char *text = NULL;
    struct err ignored = {0};

    if (ioctl(fd, BTRFS_IOC_QUOTA_CTL, &on) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot switch on btrfs quotas");
    /* Else the removal of a big subvolume would leave the figures of all others wrong. */
    snprintf(path, sizeof(path), QGROUPS "/drop_subtree_threshold", fsid);
    file_poke(AT_FDCWD, path, ALL_LEVELS, &ignored); /* from Linux 6.2 on */
    snprintf(path, sizeof(path), QGROUPS "/inconsistent", fsid);
    if (file_read(AT_FDCWD, path, 16, &text, NULL, &ignored) == 0 && text[0] == '1')
        ioctl(fd, BTRFS_IOC_QUOTA_RESCAN, &again); /* in the background; may be at it already */
    return 0;
}

int btrfs_grow(int fd, struct err *err)
{
    struct btrfs_ioctl_vol_args args = {.name = "max"};

    return ioctl(fd, BTRFS_IOC_RESIZE, &args) < 0
               ? err_sys(err, errno, "cannot grow the file system of the storage")
               : 0;
}

int btrfs_subvolume_make(int dir, const char *name)
{
    struct btrfs_ioctl_vol_args_v2 args = {0};

    if (str_copy(args.name, sizeof(args.name), name, strlen(name)) < 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return ioctl(dir, BTRFS_IOC_SUBVOL_CREATE_V2, &args);
}

int btrfs_snapshot(int source, int dir, const char *name, bool read_only)
{
    struct btrfs_ioctl_vol_args_v2 args = {
        .fd = source,
        .flags = read_only ? BTRFS_SUBVOL_RDONLY : 0,
    };

    if (str_copy(args.name, sizeof(args.name), name, strlen(name)) < 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return ioctl(dir, BTRFS_IOC_SNAP_CREATE_V2, &args);
}

int btrfs_subvolume_remove(int dir, const char *name)
{
    struct btrfs_ioctl_vol_args args = {0};

    if (str_copy(args.name, sizeof(args.name), name, strlen(name)) < 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return ioctl(dir, BTRFS_IOC_SNAP_DESTROY, &args);
}

int btrfs_subvolume_id(int fd, uint64_t *id)
{
    struct btrfs_ioctl_ino_lookup_args args = {.objectid = BTRFS_FIRST_FREE_OBJECTID};

    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0)
        return -1;
    *id = args.treeid;
    return 0;
}

int btrfs_limit(int fd, uint64_t bytes)
{
    struct btrfs_ioctl_qgroup_limit_args args = {
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = bytes == 0 ? UINT64_MAX : bytes},
    };

    return ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args);
}

/* Is there still a subvolume ID? Its root item is what is looked for. */
static bool subvolume_exists(int top, uint64_t id)
{
    struct btrfs_ioctl_search_args args = {
        .key = {.tree_id = BTRFS_ROOT_TREE_OBJECTID,
                .min_objectid = id,
                .max_objectid = id,
                .min_type = BTRFS_ROOT_ITEM_KEY,
                .max_type = BTRFS_ROOT_ITEM_KEY,
                .max_offset = UINT64_MAX,
                .max_transid = UINT64_MAX,
                .nr_items = 1},
    };

    return ioctl(top, BTRFS_IOC_TREE_SEARCH, &args) < 0 || args.key.nr_items > 0;
}

void btrfs_forget_removed(int top, const char *fsid)
{
    char path[96];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof(path), QGROUPS, fsid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct btrfs_ioctl_qgroup_create_args args = {.create = 0};
        struct err err = {0};
        uint64_t id;
        if (strncmp(entry->d_name, "0_", 2) != 0 ||
            str_to_u64(entry->d_name + 2, strlen(entry->d_name + 2), BTRFS_FIRST_FREE_OBJECTID,
                       UINT64_MAX, "id", &id, &err) < 0 ||
            subvolume_exists(top, id))
            continue;
        args.qgroupid = id;
        ioctl(top, BTRFS_IOC_QGROUP_CREATE, &args);
    }
    if (dir != NULL)
        closedir(dir);
}
