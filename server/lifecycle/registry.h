/*
 * server/lifecycle/registry.h - every sandbox of this server in memory, who works on it, and when
 * it is due.
 *
 * One mutex, used in registry.c and registry_read.c alone, guards the table, the deadlines and
 * every entry; it is never held across a call into store, engine or a callback. An entry that a
 * thread holds is `busy`: only that thread changes it, so it may read it without the lock; others
 * read copies. Any thread.
 */
#ifndef SANDPIT_LIFECYCLE_REGISTRY_H
#define SANDPIT_LIFECYCLE_REGISTRY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/base/map.h"
#include "server/lifecycle/deadline.h"
#include "server/model/network.h"
#include "server/model/sandbox.h"

#define REGISTRY_WAIT_MS 30000 /* longest wait for another operation on the same sandbox */

struct entry {
    struct sandbox sandbox;  /* its id is the key */
    int64_t started_mono_ms; /* started_unix_ms on the monotonic clock */
    int64_t end_mono_ms;     /* end_unix_ms on the monotonic clock */
    uint8_t jwt_key[SHA256_BYTES];
    char traffic_token[SHA256_HEX_SIZE];
    struct net_ingress ingress;
    bool busy;    /* held by one thread */
    bool removed; /* out of the table; freed with the last reference */
    bool exited;  /* its init ended by itself */
    bool waking;  /* paused, but counts as running */
    unsigned refs;
    struct deadline deadline;
};

struct registry {
    pthread_mutex_t lock;
    pthread_cond_t released; /* an entry is not busy any more, or removed */
    pthread_cond_t due;      /* the earliest deadline changed, or stop */
    struct map entries;
    struct deadline_heap deadlines;
    bool stopping;
    bool refusing; /* new ones */
};

void registry_init(struct registry *registry);
/* Nobody may hold an entry. */
void registry_clear(struct registry *registry);

/* An entry for SANDBOX, whose strings move to it. */
struct entry *entry_new(struct sandbox *sandbox);
void entry_free(struct entry *entry);

/* How many sandboxes there may be; those that are paused count for `total` alone. */
struct room {
    size_t total;  /* of everybody */
    int64_t space; /* that run, of one namespace; 0: no limit */
    int64_t key;   /* that run, made by one key; 0: no limit */
};
/*
 * Add ENTRY, held by the caller, if there is ROOM (NULL: always), else ERR_LIMIT, or none may come
 * (ERR_BUSY). Owned by the registry after.
 */
int registry_add(struct registry *registry, struct entry *entry, const struct room *room,
                 struct err *err);
/* The held, paused ENTRY is going to run: it counts as running until it is released. ERR_LIMIT. */
int registry_reserve(struct registry *registry, struct entry *entry, const struct room *room,
                     struct err *err);

/*
 * Hold the sandbox ID of NAMESPACE_ (NULL: any) once nobody else does. Blocks: workers only.
 * ERR_NOT_FOUND unknown, foreign or being created; ERR_CONFLICT being killed; ERR_BUSY after
 * REGISTRY_WAIT_MS.
 */
int registry_hold(struct registry *registry, const char *namespace_, const char *id,
                  struct entry **out, struct err *err);
/*
 * The same for who wants its end: also one whose kill is running or failed. *OUT NULL: it ended
 * while the caller waited.
 */
int registry_hold_to_end(struct registry *registry, const char *namespace_, const char *id,
                         struct entry **out, struct err *err);
/* Let go. ENTRY may be freed by it. */
void registry_release(struct registry *registry, struct entry *entry);
/* Take the held ENTRY out of the table and let go. */
void registry_remove(struct registry *registry, struct entry *entry);

/* Changes of a held ENTRY. */
void entry_set_state(struct registry *registry, struct entry *entry, enum sandbox_state state);
/* What pausing and resuming change. */
struct pause_marks {
    enum sandbox_state state;
    bool files; /* struct sandbox: paused_files */
    bool deaf;  /* paused_deaf */
};
void entry_set_pause(struct registry *registry, struct entry *entry,
                     const struct pause_marks *marks);
/* A new run of it begins: what was said of the last one's init does not count. */
void entry_not_exited(struct registry *registry, struct entry *entry);
void entry_set_engine_data(struct registry *registry, struct entry *entry, char *owned);
void entry_set_envd(struct registry *registry, struct entry *entry, const char *version,
                    const char *build);
void entry_set_network(struct registry *registry, struct entry *entry, char *owned, bool internet,
                       bool internet_set);
/* When it started (0: as it was) and ends, on the wall clock; END_MONO_MS is the latter again. */
void entry_set_times(struct registry *registry, struct entry *entry, int64_t started_unix_ms,
                     int64_t end_unix_ms, int64_t end_mono_ms);
/* Due at WHEN_MONO_MS; at once when its init has ended. Replaces an earlier deadline. */
void entry_arm(struct registry *registry, struct entry *entry, int64_t when_mono_ms);
/* Due AFTER_MS from now, whatever has ended: the next try of an end that failed. */
void entry_retry(struct registry *registry, struct entry *entry, int64_t after_ms);
/* No deadline, unless its init has ended. */
void entry_disarm(struct registry *registry, struct entry *entry);
/* Its init has ended by itself. */
bool entry_exited(struct registry *registry, const struct entry *entry);

/* For who does not hold it; unknown ids are ignored. */
void registry_arm_id(struct registry *registry, const char *id, int64_t when_mono_ms);
/* Its init ended: due at once, or as soon as it is armed. */
void registry_exited(struct registry *registry, const char *id);

/* Wait until a sandbox is due, disarm it and fill ID. False: stopping. The timeout thread only. */
bool registry_wait_due(struct registry *registry, char id[SANDBOX_ID_SIZE]);
void registry_stop(struct registry *registry);

/* A copy of a visible sandbox. ERR_NOT_FOUND. */
int registry_get(struct registry *registry, const char *namespace_, const char *id,
                 struct sandbox *out, struct err *err);
/* Copies of the visible ones of NAMESPACE_ (NULL: any), to sandbox_clear each and free(). */
void registry_list(struct registry *registry, const char *namespace_, struct sandbox **out,
                   size_t *count);
/* Call FN under the lock for a visible sandbox. FN must be short. False: none. */
bool registry_read(struct registry *registry, const char *id,
                   void (*fn)(const struct entry *entry, void *ctx), void *ctx);
/* A sandbox, in whatever state, that has VOLUME_ID. False: none. */
bool registry_volume_user(struct registry *registry, const char *volume_id,
                          char id[SANDBOX_ID_SIZE]);
bool registry_has(struct registry *registry, const char *id);
void registry_count(struct registry *registry, size_t *running, size_t *paused, size_t *starting);
/* Whether registry_add refuses. */
void registry_refuse(struct registry *registry, bool refuse);

/* The words for a sandbox that is not there or not the caller's. Returns -1. */
int sandbox_not_found(const char *id, struct err *err);

#endif
