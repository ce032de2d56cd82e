/*
 * server/engine/local/storage_btrfs.h - the few calls of btrfs that storage.h stands on.
 *
 * Source: linux/btrfs.h, btrfs-ioctl(2); /sys/fs/btrfs/<fsid>/qgroups.
 */
#ifndef SANDPIT_ENGINE_LOCAL_STORAGE_BTRFS_H
#define SANDPIT_ENGINE_LOCAL_STORAGE_BTRFS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/engine/local/storage.h"

/* FD lies on a btrfs. */
bool btrfs_here(int fd);
/* Its name in /sys/fs/btrfs. */
int btrfs_fsid(int fd, char out[STORAGE_FSID_SIZE], struct err *err);
/* Limits and figures of subvolumes, on from now on; counts again what is there when that is due. */
int btrfs_quota_on(int fd, const char *fsid, struct err *err);
/* Grow the file system of FD to all of its device. */
int btrfs_grow(int fd, struct err *err);

/* Each returns 0, or -1 with errno. */
int btrfs_subvolume_make(int dir, const char *name);
int btrfs_snapshot(int source, int dir, const char *name, bool read_only);
int btrfs_subvolume_remove(int dir, const char *name);
/* The id of the subvolume that FD is in; FD is its top. */
int btrfs_subvolume_id(int fd, uint64_t *id);
/* 0: no limit. */
int btrfs_limit(int fd, uint64_t bytes);
/* Of kernels before 6.12: what they remember of subvolumes that are gone. */
void btrfs_forget_removed(int top, const char *fsid);

#endif
