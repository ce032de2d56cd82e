/*
 * envd/fs_quick.h - fs_stat on the loop, where it cannot block.
 *
 * Why it cannot: openat2 with RESOLVE_CACHED only walks what the kernel has in its directory cache
 * and otherwise says EAGAIN; with O_PATH nothing is opened. statx on that descriptor with
 * AT_STATX_DONT_SYNC reads the inode in memory, and only mounts of local file systems are believed
 * (mounts.h). Attributes may be on disk, so they are not read: a worker that found a file without
 * metadata notes it, with the file's change time, which every change of attributes moves on. What
 * is unknown, a symlink, missing or special in any way goes to a worker.
 * Source: openat2(2), statx(2); Linux 5.12 or newer, on older ones every call goes to a worker.
 */
#ifndef SANDPIT_ENVD_FS_QUICK_H
#define SANDPIT_ENVD_FS_QUICK_H

#include <stdbool.h>
#include <sys/stat.h>

#include "envd/entry.h"
#include "envd/user.h"

/* Any thread. True: *OUT is what fs_stat would give (then entry_clear). False: ask a worker. */
bool fs_stat_quick(const char *path, const struct user_db *users, struct entry *out);

/* Worker: the file of ST, which was taken before its attributes were read, has no metadata. */
void fs_quick_note_bare(const struct stat *st);

#endif
