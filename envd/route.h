/*
 * envd/route.h - every route there is, in one static table (route.c).
 *
 * Unknown path: 404 "404 page not found". Known path, other method: 405 with Allow.
 * A row without a handler is part of the contract but not built: 501 naming it (Connect methods:
 * unimplemented).
 */
#ifndef ENVD_ROUTE_H
#define ENVD_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "envd/http.h"
#include "envd/rpc.h"

/* Loop thread. 0: answered, or kept to be answered later; -1: *ERR is sent by the caller. */
typedef int (*http_loop_fn)(struct exchange *ex, struct err *err);
/* Worker thread. -1: *ERR is sent if no answer has begun, else the connection is closed. */
typedef int (*http_blocking_fn)(struct exchange *ex, struct err *err);

enum route_auth {
    ROUTE_GUARDED,    /* access token, else JWT */
    ROUTE_TOKEN_ONLY, /* access token if one is set; no JWT asked (GET /envs, /metrics) */
    ROUTE_OPEN,       /* no check (GET /health), or the handler's own (POST /init) */
    ROUTE_FILES,      /* JWT when no token is set; else the handler checks token or signature */
    ROUTE_PLATFORM,   /* a JWT of the platform itself (auth.h) */
};

struct route {
    const char *method;
    const char *path;
    enum route_auth auth;
    size_t body_max_bytes; /* loop handlers */
    http_loop_fn loop;
    http_blocking_fn blocking;
    const struct rpc_method *rpc;
};

/*
 * The row, or NULL with *STATUS 404 or 405 (then ALLOW, of at least ROUTE_ALLOW_SIZE bytes, lists
 * the methods there are).
 */
#define ROUTE_ALLOW_SIZE 64
const struct route *route_find(const char *method, const char *path, int *status, char *allow);

/* Row AT of the table, or NULL after the last: for the test that compares it with envd.yaml. */
const struct route *route_at(size_t at);

/* ---- Handlers by file. A row of route.c names one as soon as its file has it. ---- */

/* handlers.c */
int handle_health(struct exchange *ex, struct err *err);
int handle_envs(struct exchange *ex, struct err *err);
int handle_freeze(struct exchange *ex, struct err *err);
int handle_unfreeze(struct exchange *ex, struct err *err);
int handle_fsfreeze(struct exchange *ex, struct err *err);
int handle_fsthaw(struct exchange *ex, struct err *err);
int handle_init(struct exchange *ex, struct err *err);

/* upgrade.c */
int handle_upgrade(struct exchange *ex, struct err *err);

/* metrics.c, on the loop */
int handle_metrics(struct exchange *ex, struct err *err);

/* stats.c, on the loop. stats_begin: envd starts, or took over, now. */
void stats_begin(void);
int handle_stats(struct exchange *ex, struct err *err);

/* collapse.c, blocking */
int handle_collapse(struct exchange *ex, struct err *err);

/* files.c, blocking */
int handle_files_get(struct exchange *ex, struct err *err);
int handle_files_post(struct exchange *ex, struct err *err);
int handle_files_compose(struct exchange *ex, struct err *err);

/* rpc_process.c */
extern const struct rpc_method rpc_process_list;
extern const struct rpc_method rpc_process_start;
extern const struct rpc_method rpc_process_connect;
extern const struct rpc_method rpc_process_update;
extern const struct rpc_method rpc_process_stream_input;
extern const struct rpc_method rpc_process_send_input;
extern const struct rpc_method rpc_process_send_signal;
extern const struct rpc_method rpc_process_close_stdin;

/* rpc_filesystem.c, RPC_WORKER */
extern const struct rpc_method rpc_filesystem_stat;
extern const struct rpc_method rpc_filesystem_make_dir;
extern const struct rpc_method rpc_filesystem_move;
extern const struct rpc_method rpc_filesystem_list_dir;
extern const struct rpc_method rpc_filesystem_remove;

/* rpc_watch.c */
extern const struct rpc_method rpc_filesystem_watch_dir;
extern const struct rpc_method rpc_filesystem_create_watcher;
extern const struct rpc_method rpc_filesystem_get_watcher_events;
extern const struct rpc_method rpc_filesystem_remove_watcher;

#endif
