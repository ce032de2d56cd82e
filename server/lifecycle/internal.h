/*
 * server/lifecycle/internal.h - what the files of this folder share.
 */
#ifndef SANDPIT_LIFECYCLE_INTERNAL_H
#define SANDPIT_LIFECYCLE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/lifecycle/catalog.h"
#include "server/base/histogram.h"
#include "server/lifecycle/lifecycle.h"
#include "server/lifecycle/registry.h"

#define END_RETRY_MS 5000 /* an end that failed is tried again after this */

/* idempotency.c: which Idempotency-Keys this process works on. */
struct claims {
    pthread_mutex_t lock; /* guards all below */
    struct active_claim *active;
    int64_t sweep_mono_ms; /* forget old ones then */
    size_t count;          /* stored, about */
};

struct lifecycle {
    struct lifecycle_config config; /* not changed after lifecycle_new */
    int64_t installed_unix_ms;      /* when this state folder was first used */
    struct registry registry;
    struct claims claims;
    struct catalog catalog;
    pthread_t timer;
    bool timer_started;
    pthread_mutex_t works_lock;      /* guards works */
    pthread_cond_t works_done;       /* works has changed */
    size_t works;                    /* expiries in the worker pool */
    pthread_mutex_t volumes_lock;    /* volumes.c */
    _Atomic uint64_t secret_changes; /* counted after the store has them */
    _Atomic uint64_t created, create_failed;
    _Atomic uint64_t ended[SANDBOX_END_COUNT]; /* by reason */
    struct histogram create_time, resume_time; /* of those that worked */
};

/* A run of a sandbox: from now on, for TIMEOUT_MS, on both clocks. */
struct span {
    int64_t start_unix_ms;
    int64_t end_unix_ms;
    int64_t end_mono_ms;
};
struct span span_from_now(int64_t timeout_ms);

/*
 * lifecycle.c: *ERR as an engine's WHAT of ID left it, for the client. What an errno became there
 * (FORBIDDEN, EXISTS, NOT_FOUND …) would tell the client something about its own request, and is
 * ERR_INTERNAL. Returns -1.
 */
int engine_failed(const char *what, const char *id, struct err *err);

/* create.c: lifecycle_create without regard for the key; ID NULL: a new one. */
int create_once(struct lifecycle *lifecycle, const struct lifecycle_create *request, const char *id,
                struct sandbox *out, struct err *err);
/* idempotency.c: lifecycle_create with one. */
int create_claimed(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                   struct sandbox *out, struct err *err);

/* create.c: what a new sandbox gets that its row does not say. Borrowed. */
struct birth {
    const json_t *env;    /* for envd; NULL: none */
    const char *snapshot; /* the engine's id of what its file system begins with; NULL: template */
    int64_t timeout_s;
};
/*
 * Make and run *SANDBOX (CREATING, its strings move): intent, engine, outcome; nothing is left of
 * it on failure. *OUT is owned.
 */
int sandbox_bring_up(struct lifecycle *lifecycle, struct sandbox *sandbox,
                     const struct birth *birth, struct sandbox *out, struct err *err);

/* snapshot_start.c: the same, beginning with the file system and variables of a snapshot. */
int sandbox_from_snapshot(struct lifecycle *lifecycle, const char *snapshot_id,
                          struct sandbox *sandbox, const struct birth *birth, struct sandbox *out,
                          struct err *err);

/*
 * spec.c: what envd reads before it serves (engine.h, envd_config), to secret_text_free; ENV may be
 * NULL.
 */
char *envd_config(struct lifecycle *lifecycle, const struct entry *entry, const json_t *env);
void secret_text_free(char **text);
/* For create and start; borrows from all three. POLICY: network_policy's, with its INTERNET. */
struct engine_spec engine_spec_of(const struct sandbox *sandbox, const char *config, bool internet,
                                  const char *policy);
/* Variables at rest: sealed text, to free() (NULL for none), and back (a new reference). */
char *env_seal(struct lifecycle *lifecycle, const char *namespace_, const json_t *env);
int env_open(struct lifecycle *lifecycle, const char *namespace_, const char *sealed, json_t **out,
             struct err *err);

/* lifecycle.c: tell whoever wants to know. The held ENTRY; WHY for KILLED alone. */
void entry_tell(struct lifecycle *lifecycle, const struct entry *entry, enum lifecycle_event event,
                enum sandbox_end why);

/* limits.c: what holds for the sandboxes of NAMESPACE_ that KEY_ID ("": no key) makes. */
void limits_of(struct lifecycle *lifecycle, const char *namespace_, const char *key_id,
               struct quotas *out);
/* How many may run, for the registry. */
struct room limits_room(const struct quotas *quotas);
/* ERR_INVALID in the contract's words. */
int limits_check_timeout(const struct quotas *quotas, int64_t timeout_s, struct err *err);
int limits_check_size(const struct quotas *quotas, uint32_t cpu_count, uint32_t memory_mb,
                      uint32_t disk_mb, struct err *err);
/* The held, paused ENTRY is going to run: ERR_LIMIT when too many do. */
int entry_reserve(struct lifecycle *lifecycle, struct entry *entry, struct err *err);
/* The longest run, from its start. */
int64_t limits_lifetime_ms(const struct quotas *quotas);
/*
 * volumes.c: LIST, of "name" and "path", as the text of a sandbox's volume_mounts. ERR_INVALID with
 * a line for each mount that is wrong. *OUT untouched when there are none.
 */
int volume_mounts_resolve(struct lifecycle *lifecycle, const char *namespace_, const json_t *list,
                          char **out, struct err *err);
/* registry_add for ENTRY, unless one of its volumes has gone meanwhile. */
int volumes_claim(struct lifecycle *lifecycle, struct entry *entry, const struct room *room,
                  struct err *err);
/* At start-up, with all sandboxes loaded: finish what a crash interrupted. */
int volumes_reconcile(struct lifecycle *lifecycle, struct err *err);

/*
 * network.c: what the engine is to hold for SANDBOX: whether anything is reached at all, and the
 * rules (engine.h, set_network), NULL for none, to secret_text_free.
 */
int network_policy(struct lifecycle *lifecycle, const struct sandbox *sandbox, bool *internet,
                   char **policy, struct err *err);
/* The held ENTRY, that the engine has but whose rules it may not know. */
int entry_network(struct lifecycle *lifecycle, struct entry *entry, struct err *err);
/* The same for who does not hold it; ERR_NOT_FOUND. Worker. */
int network_apply(struct lifecycle *lifecycle, const char *id, struct err *err);
/*
 * EGRESS (may be NULL) names no internal address as its proxy, and no private network where those
 * stay closed. Waits for the resolver.
 */
int network_check(const struct lifecycle *lifecycle, const json_t *egress, struct err *err);

/* tokens.c: fill the derived secrets of ENTRY. */
void entry_derive(struct lifecycle *lifecycle, struct entry *entry);
void lifecycle_jwt_key(struct lifecycle *lifecycle, const char *id, uint8_t out[SHA256_BYTES]);

/*
 * kill.c: end the held ENTRY and let go of it, also on failure: then nothing changed (the intent
 * could not be stored) or it stays KILLING; either way it is tried again after END_RETRY_MS.
 */
int entry_end(struct lifecycle *lifecycle, struct entry *entry, enum sandbox_end why,
              struct err *err);

/* pause.c: a held ENTRY; the caller lets go. */
int entry_pause(struct lifecycle *lifecycle, struct entry *entry, const struct lifecycle_pause *how,
                struct err *err);
/* Start-up: a pause or resume that was begun ends as a pause. May repeat what was done. */
int entry_pause_again(struct lifecycle *lifecycle, struct entry *entry, struct err *err);
int entry_resume(struct lifecycle *lifecycle, struct entry *entry, int64_t timeout_ms, bool reboot,
                 struct err *err);
/* Its processes are gone, its file system is there: paused without memory from now on. */
int entry_forget_memory(struct lifecycle *lifecycle, struct entry *entry, struct err *err);

/* guest.c: envd of ID answers GET /health within TIMEOUT_MS. Blocks. */
bool guest_answers(struct lifecycle *lifecycle, const char *id, int64_t timeout_ms);
/*
 * guest.c: have the held, running ENTRY trust the egress gateway's CA. Blocks. A sandbox that is
 * created with header rules has it from the start (envd_config). ERR_TIMEOUT.
 */
int guest_trust(struct lifecycle *lifecycle, const struct entry *entry, int64_t timeout_ms,
                struct err *err);

/*
 * snapshot.c: the catalog from the store; what a crash left half done is removed. After the
 * sandboxes have been adopted.
 */
int snapshots_reconcile(struct lifecycle *lifecycle, struct err *err);
/* *ROW, CREATING, for ENTRY: what every capture's row holds. */
void snapshot_fill(const struct entry *entry, const char *client, struct snapshot *row);
/*
 * Intent and act for the held, running ENTRY: the row of *ROW and the engine's copy. On failure
 * nothing is left of either.
 */
int snapshot_capture(struct lifecycle *lifecycle, const struct entry *entry, struct snapshot *row,
                     struct err *err);
/* The engine's copy and the row. *ERR is for the log. */
int snapshot_discard(struct lifecycle *lifecycle, const struct snapshot *row, struct err *err);

/* secrets.c: NETWORK (JSON text or NULL) has a rule, so hosts whose TLS the gateway terminates. */
bool network_has_rules(const char *network);
/*
 * secrets.c: the held ENTRY runs and is visible now; when a secret has changed since SEEN (of
 * `secret_changes`, read before its policy was made), have the engine hold its policy anew.
 */
void secrets_recheck(struct lifecycle *lifecycle, struct entry *entry, uint64_t seen);

/* timeout.c */
/* Move the end of the held, running ENTRY: the store first, then memory and the timer. */
int entry_move_end(struct lifecycle *lifecycle, struct entry *entry, int64_t timeout_ms,
                   bool extend_only, struct err *err);
int timeout_start(struct lifecycle *lifecycle, struct err *err);
void timeout_stop(struct lifecycle *lifecycle);
/* What is due for ID now: its end, a pause, or nothing. Worker. */
void lifecycle_expire(struct lifecycle *lifecycle, const char *id);

/* reconcile.c */
int lifecycle_reconcile(struct lifecycle *lifecycle, struct err *err);

#endif
