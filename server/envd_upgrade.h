/*
 * server/envd_upgrade.h - sandboxes that outlived a server get the envd of the one that took over.
 *
 * One thread, one sandbox after the other: those that run and whose envd is another build than ours
 * are asked to upgrade in place (POST /upgrade, docs/internals/envd-handover.md). A failure leaves
 * the sandbox as it was; it is tried ENVD_UPGRADE_TRIES times, ENVD_UPGRADE_EVERY_MS apart. One
 * that is paused is looked at again when it runs.
 */
#ifndef SANDPIT_ENVD_UPGRADE_H
#define SANDPIT_ENVD_UPGRADE_H

#include <stddef.h>

#include "server/base/err.h"
#include "server/lifecycle/lifecycle.h"
#include "server/loop/loop.h"

#define ENVD_UPGRADE_TRIES 3
#define ENVD_UPGRADE_EVERY_MS 60000
#define ENVD_UPGRADE_GAP_MS 100 /* between two sandboxes */
#define ENVD_PROGRAM_MAX_BYTES (64 << 20)

struct envd_program { /* the envd that new sandboxes get */
    char *data;       /* owned */
    size_t len;
    char build[ENVD_BUILD_SIZE];
};

/* Read PATH. ERR_INVALID, ERR_NOT_FOUND … */
int envd_program_read(const char *path, struct envd_program *out, struct err *err);
void envd_program_clear(struct envd_program *program);

struct envd_upgrade;

/* Start. All is borrowed until envd_upgrade_stop; sockets are asked for on LOOP. */
int envd_upgrade_start(struct lifecycle *lifecycle, struct loop *loop,
                       const struct envd_program *program, struct envd_upgrade **out,
                       struct err *err);
/* Before lifecycle_stop, while LOOP still runs. NULL is fine. */
void envd_upgrade_stop(struct envd_upgrade *upgrade);

#endif
