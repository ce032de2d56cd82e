/*
 * envd/volumes.h - network volumes that POST /init mounts.
 *
 * Source: envd-api section 7.3, volumeMounts; nfs(5).
 */
#ifndef ENVD_VOLUMES_H
#define ENVD_VOLUMES_H

#include <limits.h>
#include <stdint.h>

#include "server/base/err.h"

#define VOLUMES_MAX 64
#define VOLUMES_BUDGET_MS 10000 /* for all of one /init */

struct volume {
    char target[PATH_MAX]; /* "10.0.0.1:/export" */
    char path[PATH_MAX];   /* without '/' at its end */
    char options[256];     /* for mount(2) */
};

/* Fill OUT; ERR_INVALID when TARGET or PATH cannot be used. Pure. */
int volume_parse(const char *target, const char *path, struct volume *out, struct err *err);

/*
 * Unmount what is mounted at the path, make the folder, mount. Blocking until DEADLINE_MONO_MS at
 * most (ERR_TIMEOUT), whatever the server does: a process of its own does it, which is killed then.
 */
int volume_mount(const struct volume *volume, int64_t deadline_mono_ms, struct err *err);

#endif
