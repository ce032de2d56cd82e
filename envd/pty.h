/*
 * envd/pty.h - pseudo-terminals. Loop thread.
 */
#ifndef ENVD_PTY_H
#define ENVD_PTY_H

#include <stdint.h>

#include "server/base/err.h"

/* A new pair; *MASTER is non-blocking. Needs a devpts (/dev/ptmx), not a path to the slave. */
int pty_open(uint32_t cols, uint32_t rows, int *master, int *slave, struct err *err);
/* Sizes are cut to 16 bits, as the kernel has them. */
int pty_resize(int master, uint32_t cols, uint32_t rows, struct err *err);

#endif
