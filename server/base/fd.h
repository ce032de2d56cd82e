/*
 * server/base/fd.h - descriptors and files: cautious opens, whole reads, durable writes.
 *
 * All descriptors are close-on-exec. Blocking: workers, start-up and envd's file code only.
 */
#ifndef SANDPIT_BASE_FD_H
#define SANDPIT_BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

#include "server/base/err.h"

/* Close *FD unless negative and set it to -1. Never retried. errno is kept. */
void fd_close(int *fd);
/*
 * Open PATH below DIRFD with openat2: RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS, so neither ".."
 * nor a symlink leaves DIRFD. Returns the descriptor, or -1 with errno set.
 */
int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* Read or write exactly LEN bytes, over short counts and EINTR. Returns 0, or -1 with errno. */
int fd_read_full(int fd, void *data, size_t len);
int fd_write_full(int fd, const void *data, size_t len);
/* Set or clear O_NONBLOCK. Returns 0, or -1 with errno. */
int fd_set_nonblock(int fd, int on);

/*
 * The whole of the file PATH (below DIRFD, or AT_FDCWD) as a NUL-terminated string to free().
 * ERR_INVALID when it is larger than MAX bytes.
 */
int file_read(int dirfd, const char *path, size_t max, char **out, size_t *out_len,
              struct err *err);
/*
 * Replace PATH with DATA so that a crash leaves the old or the new file: temporary file, fsync,
 * rename, fsync of the folder.
 */
int file_write_durable(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
                       struct err *err);
/* Write to an existing file such as a cgroup or sysctl knob: one write(2). */
int file_poke(int dirfd, const char *path, const char *text, struct err *err);
/* mkdir -p with MODE for each new folder. Existing ones are fine. */
int dir_make(const char *path, mode_t mode, struct err *err);

#endif
