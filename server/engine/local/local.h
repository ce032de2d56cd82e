/*
 * server/engine/local/local.h - sandboxes as Linux namespaces on this machine.
 */
#ifndef SANDPIT_ENGINE_LOCAL_LOCAL_H
#define SANDPIT_ENGINE_LOCAL_LOCAL_H

#include <stdint.h>

#include "server/engine/engine.h"
#include "server/engine/local/gateway.h"

struct local_config {
    const char *state_dir; /* absolute, as the launcher (root) sees it */
    const char *run_dir;   /* absolute */
    const char *envd_path; /* absolute; the static envd */
    uint32_t id_base;      /* first host uid/gid of the first sandbox's range of 65,536 */
    /* Sandboxes kept built ahead of create (demand.h): at least, at most, none after so long. */
    uint32_t warm_min, warm_max, warm_idle_s;
    gateway_fn gateway;      /* the egress gateway; NULL: none, rules that need it are refused */
    const void *gateway_ctx; /* constant; children inherit it by fork */
    /* Where files lie (storage.h); 0: derived from the file system of the state. */
    bool storage_plain;          /* plain folders, even where more is possible */
    uint64_t storage_mb;         /* size of the image */
    uint64_t storage_reserve_mb; /* kept free on the file system of the state */
};

/*
 * Fork the launcher: the only process that keeps root. Call in a single-threaded process, as root,
 * before any thread and before privileges drop. *SOCK is the server's end. The launcher ends when
 * that end closes; sandboxes stay. ERR_BUSY when another server uses the same state folder.
 */
int local_launcher_start(const struct local_config *config, int *sock, struct err *err);

/* The engine on top of SOCK (owned). Starts its reader thread: after privileges have dropped. */
int local_engine_new(int sock, struct engine **out, struct err *err);

/* Every requirement of this engine, one call of FN each. As root. Returns 0 when none failed. */
int local_check(const struct local_config *config, engine_check_fn fn, void *ctx);

#endif
