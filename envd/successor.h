/*
 * envd/successor.h - the program that is to replace this one: try it, then become it.
 *
 * Loop thread. The program is a descriptor, so that no file system has to take it in.
 */
#ifndef ENVD_SUCCESSOR_H
#define ENVD_SUCCESSOR_H

#include <stddef.h>
#include <sys/types.h>

#include "server/base/err.h"

/* A memfd to write an executable to, then to seal. -1 with *ERR. */
int successor_new(struct err *err);
int successor_seal(int program, struct err *err);

struct successor_run {
    pid_t pid;
    int pidfd;
    int output; /* what it says on its standard output and error; non-blocking */
};

/*
 * Start PROGRAM with ARGV. It gets FDS beside the first three descriptors. -1 with *ERR when it
 * cannot be executed.
 */
int successor_start(int program, char *const argv[], const int *fds, size_t count,
                    struct successor_run *out, struct err *err);
/* Kill it if it still runs, and close. */
void successor_stop(struct successor_run *run);

/* Become PROGRAM. Returns, -1 with *ERR, only on failure: then all is as it was. */
int successor_become(int program, char *const argv[], const int *fds, size_t count,
                     struct err *err);

#endif
