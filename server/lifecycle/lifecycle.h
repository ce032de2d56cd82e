/*
 * server/lifecycle/lifecycle.h - the life of sandboxes: intent in the store, then the engine, then
 * the outcome in the store.
 *
 * Functions marked [worker] block; [any] ones answer from memory and never block. Calls for one
 * sandbox are serialised here. "Another namespace's sandbox" is ERR_NOT_FOUND.
 */
#ifndef SANDPIT_LIFECYCLE_LIFECYCLE_H
#define SANDPIT_LIFECYCLE_LIFECYCLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/engine/engine.h"
#include "server/loop/work.h"
#include "server/model/network.h"
#include "server/model/sandbox.h"
#include "server/model/snapshot.h"
#include "server/model/template.h"
#include "server/store/store.h"

struct auth;
struct lifecycle;

/*
 * A sandbox is ending, or was paused. Called on any thread, before the engine acts; must not block:
 * the proxy cuts its connections.
 */
typedef void (*lifecycle_end_fn)(void *ctx, const char *id);

/* What happened to a sandbox; for who tells others of it. */
enum lifecycle_event {
    LIFECYCLE_CREATED,
    LIFECYCLE_PAUSED,
    LIFECYCLE_RESUMED,
    LIFECYCLE_UPDATED,      /* its timeout or its network */
    LIFECYCLE_CHECKPOINTED, /* a snapshot or fork was taken of it */
    LIFECYCLE_KILLED,       /* WHY says how */
    LIFECYCLE_EVENT_COUNT
};

/*
 * SANDBOX (borrowed) is as it is after. Called on the worker that did it, which still holds the
 * sandbox: may wait for a disk, must not call lifecycle. After the outcome is stored; KILLED before
 * the row goes, so after a crash it may come a second time, but is never left out.
 */
typedef void (*lifecycle_event_fn)(void *ctx, enum lifecycle_event event,
                                   const struct sandbox *sandbox, enum sandbox_end why);

struct lifecycle_config {
    struct engine *engine;
    struct store *store;
    struct work_pool *workers;
    struct auth *auth; /* the limits of namespaces and keys; NULL: the defaults alone */
    struct secret master;
    char envd_version[ENVD_VERSION_SIZE]; /* of the envd that new sandboxes get */
    char envd_build[ENVD_BUILD_SIZE];
    int64_t replay_bytes; /* for envd; 0: its own default */
    int64_t replay_total_bytes;
    bool no_private_egress; /* no rules open private networks */
    uint64_t volume_size_mb;   /* limit of a new volume; 0: none */
    uint32_t volume_count_max; /* in a namespace; 0: volumes are off */
    const char *gateway_ca;    /* PEM for sandboxes with header rules, borrowed; NULL: none */
    lifecycle_end_fn on_end;
    void *on_end_ctx;
    lifecycle_event_fn on_event; /* or NULL; already called within lifecycle_new */
    void *on_event_ctx;
};

/*
 * Load the store, adopt what lives, finish what was begun (CREATING and KILLING rows are
 * destroyed), destroy what the engine has and the store does not, then arm the timeouts.
 * [start-up thread, blocks] ENGINE, STORE and WORKERS are used until lifecycle_stop returns.
 */
int lifecycle_new(const struct lifecycle_config *config, struct lifecycle **out, struct err *err);
/*
 * Stop timeouts and wait for what they had begun; sandboxes stay. Blocks. Before the worker pool is
 * freed, whose last works may still call the functions below. May be repeated.
 */
void lifecycle_stop(struct lifecycle *lifecycle);
/* After lifecycle_stop, the end of the pool and that of the engine, which may report exits. */
void lifecycle_free(struct lifecycle *lifecycle);

struct lifecycle_create { /* borrowed for the call */
    const char *namespace_;
    const char *client;
    const char *key_id;       /* of the API key; NULL: none */
    const char *template_ref; /* as the client wrote it */
    /*
     * NULL, or: the same key and hash again give the first answer again. ERR_INVALID its form,
     * ERR_CONFLICT another hash, or the first is still running, ERR_UNKNOWN what the first made is
     * lost, ERR_BUSY keys cannot be stored; see error_code.
     */
    const char *idempotency_key;
    uint8_t body_sha256[SHA256_BYTES]; /* of the request in one fixed form */
    int64_t timeout_s;
    bool secure;
    bool auto_pause;
    bool auto_pause_files; /* that pause keeps files alone */
    bool auto_resume;
    bool internet;
    bool internet_set;
    bool private_traffic;
    const json_t *metadata; /* object of strings or NULL */
    const json_t *env;
    const json_t *network;
    const json_t *volume_mounts; /* array of {"name", "path"}, checked here; NULL: none */
};

/* [worker] *OUT is owned (sandbox_clear). ERR_INVALID, ERR_NOT_FOUND template, ERR_LIMIT … */
int lifecycle_create(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                     struct sandbox *out, struct err *err);
/* [worker] NAMESPACE_ NULL: the operator or a timer. ERR_NOT_FOUND. */
int lifecycle_kill(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                   enum sandbox_end why, struct err *err);
/* [worker] New end = now + TIMEOUT_MS; EXTEND_ONLY: never earlier than it was. 0 kills it. */
int lifecycle_set_timeout(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                          int64_t timeout_ms, bool extend_only, struct err *err);
/* [worker] Extend, or resume a paused one (*RESUMED). *OUT owned. */
int lifecycle_connect(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                      int64_t timeout_ms, bool *resumed, struct sandbox *out, struct err *err);

struct lifecycle_network { /* borrowed for the call */
    bool internet;
    bool internet_set;
    const json_t *egress; /* the egress members of NetworkConfig, checked; NULL: none */
};
/*
 * [worker] Replace all egress rules. ERR_CONFLICT it does not run, ERR_INVALID an egress proxy at
 * an internal address, ERR_UNSUPPORTED the engine cannot hold them; nothing changed then.
 */
int lifecycle_set_network(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                          const struct lifecycle_network *network, struct err *err);

struct lifecycle_pause {
    bool files_only;      /* `memory`: false: end its processes, keep its file system */
    bool require_healthy; /* `requireHealthyGuest`: not when envd does not answer */
};
/*
 * [worker] No timeout runs until a connect or resume. Frozen, its memory kept while the machine
 * runs, or stopped; its file system is on the disk then. ERR_CONFLICT already paused, ERR_BUSY
 * require_healthy and envd does not answer (it keeps running), ERR_UNSUPPORTED the engine cannot.
 */
int lifecycle_pause(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                    const struct lifecycle_pause *how, struct err *err);

struct lifecycle_wake {
    int64_t timeout_ms;
    bool reboot;         /* `memory`: false: a paused one boots from its files */
    bool must_be_paused; /* ERR_CONFLICT when it runs */
    bool traffic;        /* nobody asked by name: not one that was paused without memory */
};
struct lifecycle_woken {
    bool resumed; /* it was paused */
    bool booted;  /* from its files alone */
    struct sandbox sandbox;
};
/*
 * [worker] Resume a paused one; extend one that runs. Who comes while it is being resumed waits for
 * that. ERR_CONFLICT also with error_code "sandbox_start_in_flight" (REBOOT while somebody else
 * resumes it) and "sandbox_snapshot_guest_agent_unresponsive". OUT->sandbox is owned.
 */
int lifecycle_wake(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                   const struct lifecycle_wake *how, struct lifecycle_woken *out, struct err *err);
/* [worker] lifecycle_wake of one that must be paused. *OUT owned. */
int lifecycle_resume(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                     int64_t timeout_ms, struct sandbox *out, struct err *err);

struct lifecycle_snapshot { /* borrowed for the call */
    const char *namespace_;
    const char *client;
    const char *sandbox_id;
    const char *name; /* "[namespace/]name[:tag]", NULL for none */
};
/*
 * [worker] Keep a copy of the file system of a running sandbox, which goes on. *OUT owned.
 * ERR_INVALID the name, ERR_CONFLICT paused, ERR_LIMIT too many, ERR_UNSUPPORTED.
 */
int lifecycle_snapshot(struct lifecycle *lifecycle, const struct lifecycle_snapshot *request,
                       struct snapshot *out, struct err *err);
/* [any] What can be started from, newest first, to snapshot_list_free. */
void lifecycle_snapshot_list(struct lifecycle *lifecycle, const char *namespace_,
                             struct snapshot **out, size_t *count);
/*
 * [worker] The snapshots that REF (a snapshot id, name, template id, with or without a tag) means;
 * sandboxes that began with them stay. ERR_NOT_FOUND.
 */
int lifecycle_snapshot_delete(struct lifecycle *lifecycle, const char *namespace_, const char *ref,
                              struct err *err);

struct lifecycle_fork { /* borrowed for the call */
    const char *namespace_;
    const char *client;
    const char *key_id; /* of the caller; "" for none */
    const char *sandbox_id;
    int64_t timeout_s;
    size_t count; /* 1..FORK_COUNT_MAX */
};
struct lifecycle_forked {
    int rc; /* 0: `sandbox` is owned; -1: `err` */
    struct sandbox sandbox;
    struct err err;
};
/*
 * [worker] Capture a running sandbox once and start COUNT sandboxes from it. 0 with OUT[0..count)
 * filled, also when all of them failed; -1: none was tried.
 */
int lifecycle_fork(struct lifecycle *lifecycle, const struct lifecycle_fork *request,
                   struct lifecycle_forked *out, struct err *err);

/* [any] *OUT owned. */
int lifecycle_get(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                  struct sandbox *out, struct err *err);
/* [any] Copies of all visible sandboxes of NAMESPACE_ (NULL: all), newest start first; owned. */
int lifecycle_list(struct lifecycle *lifecycle, const char *namespace_, struct sandbox **out,
                   size_t *count, struct err *err);
void sandbox_list_free(struct sandbox *list, size_t count);

/* [any] Templates visible to NAMESPACE_: its snapshots, and the built-in base. */
int lifecycle_template_get(struct lifecycle *lifecycle, const char *namespace_, const char *ref,
                           struct template *out, struct err *err);

/* What the proxy needs to know of a sandbox. */
struct lifecycle_route {
    bool running;
    bool wakes; /* it does not run, and lifecycle_traffic may change that */
    bool secure;
    bool private_traffic;
    char traffic_token[SHA256_HEX_SIZE];
    uint8_t jwt_key[SHA256_BYTES];
    int64_t started_unix_ms; /* with the id: which run; connections are never shared across runs */
    struct net_ingress ingress;
};
/* [any] ERR_NOT_FOUND. */
int lifecycle_route(struct lifecycle *lifecycle, const char *id, struct lifecycle_route *out,
                    struct err *err);
/*
 * [worker] Somebody who may sends traffic to ID: it runs when this returns 0. ERR_NOT_FOUND also
 * when traffic does not wake it, ERR_BUSY when what is being done to it takes more than 60 s,
 * ERR_LIMIT no room.
 */
int lifecycle_traffic(struct lifecycle *lifecycle, const char *id, struct err *err);
struct engine *lifecycle_engine(struct lifecycle *lifecycle);

/* [worker] Another envd runs in ID now. */
int lifecycle_envd_changed(struct lifecycle *lifecycle, const char *id, const char *version,
                           const char *build, struct err *err);

/*
 * Volumes. [worker] ERR_NOT_FOUND "Volume not found" for another namespace's. create: ERR_EXISTS,
 * ERR_LIMIT, ERR_FORBIDDEN volumes are off; delete: ERR_CONFLICT a sandbox has it.
 */
int lifecycle_volume_create(struct lifecycle *lifecycle, const char *namespace_, const char *name,
                            struct volume *out, struct err *err);
int lifecycle_volume_delete(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                            struct err *err);
int lifecycle_volume_get(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                         struct volume *out, struct err *err);
/* NAMESPACE_ NULL: all. *OUT is to free(). */
int lifecycle_volume_list(struct lifecycle *lifecycle, const char *namespace_, struct volume **out,
                          size_t *count, struct err *err);
/* engine.h volume_do and volume_commit, for a volume of NAMESPACE_. */
int lifecycle_volume_do(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                        const struct volume_request *request, struct volume_answer *answer,
                        struct err *err);
int lifecycle_volume_commit(struct lifecycle *lifecycle, struct volume_answer *answer,
                            struct err *err);
/* What tokens of volumes are signed with. [any] */
void lifecycle_volume_key(struct lifecycle *lifecycle, uint8_t out[SHA256_BYTES]);

/* Derived, so never stored: HMAC-SHA256 of the master secret, 64 hex digits. [any] */
void lifecycle_envd_token(struct lifecycle *lifecycle, const char *id, char out[SHA256_HEX_SIZE]);
void lifecycle_traffic_token(struct lifecycle *lifecycle, const char *id,
                             char out[SHA256_HEX_SIZE]);

/*
 * Secrets of a namespace (secrets.c). KEY is an id or a name; *OUT is owned (secret_info_clear).
 * [worker] ERR_INVALID, ERR_NOT_FOUND, ERR_EXISTS, ERR_LIMIT.
 */
int lifecycle_secret_create(struct lifecycle *lifecycle, const char *namespace_, const char *name,
                            const char *value, const json_t *metadata, struct secret_info *out,
                            struct err *err);
/* METADATA NULL: kept. */
int lifecycle_secret_update(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                            const char *value, const json_t *metadata, struct secret_info *out,
                            struct err *err);
int lifecycle_secret_get(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                         struct secret_info *out, struct err *err);
int lifecycle_secret_delete(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                            struct err *err);
/* At most MAX, newest first, before the id AFTER (""); *OUT is an array to clear and free(). */
int lifecycle_secret_list(struct lifecycle *lifecycle, const char *namespace_, const char *after,
                          size_t max, struct secret_info **out, size_t *count, struct err *err);
/*
 * The rules of a network policy ({host: [{transform: {headers: {name: value}}}]}, changed in place)
 * with each placeholder of a secret replaced by its value. A header whose secret does not exist, or
 * cannot be a header's value, becomes null: the gateway refuses requests that need it. What RULES
 * holds afterwards is secret. [worker]
 */
int network_policy_fill(struct lifecycle *lifecycle, const char *namespace_, json_t *rules,
                        struct err *err);

/*
 * [any] Whether new sandboxes are made; at first they are. Else a create is ERR_BUSY; what exists
 * goes on, and what is paused can be resumed.
 */
void lifecycle_accept(struct lifecycle *lifecycle, bool accept);

struct lifecycle_stats {
    size_t running, paused, starting;
    uint64_t created, create_failed;
    uint64_t ended[SANDBOX_END_COUNT]; /* by reason */
};
/* How long creates and resumes take, as lines for Prometheus. Any thread. */
void lifecycle_metrics(struct lifecycle *lifecycle, struct buf *out);
void lifecycle_stats_get(struct lifecycle *lifecycle, struct lifecycle_stats *out);

#endif
