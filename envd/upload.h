/*
 * envd/upload.h - one file being written by a client, so that a cut upload changes nothing.
 *
 * Content goes to an unnamed file (or, where the file system has none, a hidden named one) in the
 * target's folder and takes the target's place at upload_commit. The target's mode, hard links and
 * foreign attributes stay; symlinks are followed; a watcher sees a write on the name itself.
 * What cannot be replaced by a rename (a bind-mounted file, a file with several hard links) is
 * overwritten from the complete copy; what has no place for a copy (procfs) is written in place.
 * Blocking: workers only.
 * Source: envd API section 7.6.
 */
#ifndef SANDPIT_ENVD_UPLOAD_H
#define SANDPIT_ENVD_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "envd/entry.h"
#include "envd/fs.h"
#include "server/base/err.h"

#define UPLOAD_TEMP_PREFIX ".envd-upload-" /* hidden names of our own; watchers skip them */
#define UPLOAD_TEMP_SIZE 40
#define UPLOAD_FILE_MODE 0644

struct upload {
    char *target;                /* the path asked for with its final symlinks followed */
    char *name;                  /* last element of `target` */
    int dir_fd;                  /* folder of `target` */
    int fd;                      /* where content goes */
    bool in_place;               /* fd is the target itself */
    char temp[UPLOAD_TEMP_SIZE]; /* name of fd's file in the folder; "" while it has none */
    bool exists;                 /* the target was there at upload_begin */
    struct stat old;             /* of the target, when it exists */
    struct fs_owner owner;
    int64_t expected_bytes; /* -1 when unknown */
    int64_t written_bytes;
};

/*
 * Prepare PATH (absolute) to be written as OWNER; makes its parents. EXPECTED_BYTES, -1 when
 * unknown, is checked against the space left. On success upload_clear is due, which discards
 * unless committed. ERR_INVALID (a folder, not a regular file), ERR_NO_SPACE, ERR_INTERNAL.
 */
int upload_begin(struct upload *up, const char *path, const struct fs_owner *owner,
                 int64_t expected_bytes, struct err *err);
int upload_write(struct upload *up, const void *data, size_t len, struct err *err);
/* Append the LEN bytes that are in the pipe PIPE_FD. On -1 some may be left in it. */
int upload_write_pipe(struct upload *up, int pipe_fd, size_t len, struct err *err);
/* Append all of the regular file FD, without a copy through memory where the kernel can. */
int upload_append(struct upload *up, int fd, struct err *err);
/* Put the file in its place, with exactly META as its metadata. */
int upload_commit(struct upload *up, const struct entry_meta *meta, size_t meta_count,
                  struct err *err);
void upload_clear(struct upload *up);

#endif
