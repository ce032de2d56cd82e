/*
 * server/store/store.h - durable state in SQLite (WAL) under the state folder.
 *
 * Blocking: workers and start-up only. One connection behind one mutex; safe from any worker.
 * Another process (`sandpit key …`) may write at the same time. State before action, outcome after:
 * each call is one transaction and may be repeated.
 */
#ifndef SANDPIT_STORE_STORE_H
#define SANDPIT_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/model/claim.h"
#include "server/model/key.h"
#include "server/model/quota.h"
#include "server/model/sandbox.h"
#include "server/model/secret.h"
#include "server/model/snapshot.h"
#include "server/model/volume.h"

struct store;

/*
 * Open or create STATE_DIR/sandpit.db (0600) and migrate it. ERR_INVALID for a database of a newer
 * version, ERR_BUSY when it stays locked, ERR_NO_SPACE. STATE_DIR here and below is the folder
 * "db" in --state-dir, the only one the unprivileged server may write.
 */
int store_open(const char *state_dir, struct store **out, struct err *err);
/* Only to look: nothing is created or migrated, writes fail. ERR_NOT_FOUND when there is none. */
int store_open_read(const char *state_dir, struct store **out, struct err *err);
void store_close(struct store *store);
/* Cheap probe for /readyz: a read works. ERR_BUSY while STORE is NULL: starting or stopping. */
int store_check(struct store *store, struct err *err);

/* Insert or replace the row of SANDBOX->id. A PAUSED one is synced to disk before it returns. */
int store_sandbox_put(struct store *store, const struct sandbox *sandbox, struct err *err);
/* Change state only. ERR_NOT_FOUND. */
int store_sandbox_state(struct store *store, const char *id, enum sandbox_state state,
                        struct err *err);
/* Change the end time only. ERR_NOT_FOUND. */
int store_sandbox_end(struct store *store, const char *id, int64_t end_unix_ms, struct err *err);
/* Change which envd runs in it. ERR_NOT_FOUND. */
int store_sandbox_envd(struct store *store, const char *id, const char *version, const char *build,
                       struct err *err);
/* Remove; an unknown id succeeds. */
int store_sandbox_delete(struct store *store, const char *id, struct err *err);
/* Every row. *OUT is an array of *COUNT to sandbox_clear each and free(). */
int store_sandbox_list(struct store *store, struct sandbox **out, size_t *count, struct err *err);

/* Snapshots. Insert or replace, synced to disk; remove (an unknown id succeeds). */
int store_snapshot_put(struct store *store, const struct snapshot *snapshot, struct err *err);
int store_snapshot_delete(struct store *store, const char *id, struct err *err);
/* Every row, oldest first, to snapshot_list_free. */
int store_snapshot_list(struct store *store, struct snapshot **out, size_t *count, struct err *err);

/* Keys. Writes are synced to disk before they return: a revoked key stays revoked. */
int store_key_add(struct store *store, const struct key *key, struct err *err); /* ERR_EXISTS */
int store_key_revoke(struct store *store, const char *id, struct err *err);     /* ERR_NOT_FOUND */
int store_key_expire(struct store *store, const char *id, int64_t expires_unix_ms,
                     struct err *err); /* ERR_NOT_FOUND */
int store_key_rename(struct store *store, const char *id, const char *name,
                     struct err *err); /* ERR_NOT_FOUND */
/* It was used at USED_UNIX_MS; an earlier time changes nothing, nor does an unknown id. */
int store_key_used(struct store *store, const char *id, int64_t used_unix_ms, struct err *err);
/* Every key, newest first, to free(). */
int store_key_list(struct store *store, struct key **out, size_t *count, struct err *err);

/* Limits of namespaces and keys; see server/model/quota.h. Synced to disk like keys. */
enum quota_scope { QUOTA_OF_NAMESPACE, QUOTA_OF_KEY };
struct quota_row {
    enum quota_scope scope;
    char name[NAMESPACE_SIZE]; /* the namespace, or the id of the key */
    struct quota quota;        /* QUOTA_UNSET where nothing is said */
};
/* What QUOTA says; the rest of NAME's limits stays. */
int store_quota_set(struct store *store, enum quota_scope scope, const char *name,
                    const struct quota *quota, struct err *err);
/* All of NAME's; none there succeeds. */
int store_quota_clear(struct store *store, enum quota_scope scope, const char *name,
                      struct err *err);
/* Every owner of limits once, to free(). */
int store_quota_list(struct store *store, struct quota_row **out, size_t *count, struct err *err);

/*
 * A number that changes whenever another process has committed anything (PRAGMA data_version) or
 * this one has changed a key or a limit.
 */
int store_version(struct store *store, uint64_t *out, struct err *err);

/* Volumes. Writes are synced to disk before they return: what they name is people's data. */
int store_volume_add(struct store *store, const struct volume *volume,
                     struct err *err); /* ERR_EXISTS */
int store_volume_state(struct store *store, const char *id, enum volume_state state,
                       struct err *err);                                       /* ERR_NOT_FOUND */
int store_volume_delete(struct store *store, const char *id, struct err *err); /* unknown: 0 */
/* ERR_NOT_FOUND, also when it is not NAMESPACE_'s (NULL: any). */
int store_volume_get(struct store *store, const char *namespace_, const char *id,
                     struct volume *out, struct err *err);
int store_volume_by_name(struct store *store, const char *namespace_, const char *name,
                         struct volume *out, struct err *err);
/* Those of NAMESPACE_ (NULL: all), oldest first. *OUT is to free(). */
int store_volume_list(struct store *store, const char *namespace_, struct volume **out,
                      size_t *count, struct err *err);
/*
 * Idempotency-Keys. From store_claim_open on the claim follows the row of its sandbox by itself: it
 * is done once that says RUNNING, and gone when that is deleted before.
 */
/*
 * *IS_NEW: CLAIM is there now, open. Else *FOUND and, for CLAIM_DONE, *ANSWER (template, alias,
 * version, flags; no strings to free) tell what is in its place.
 */
int store_claim_open(struct store *store, const struct claim *claim, bool *is_new,
                     struct claim *found, struct sandbox *answer, struct err *err);
/* Remove; an unknown one succeeds. */
int store_claim_drop(struct store *store, const char *namespace_, const char *key, struct err *err);
/* The sandbox of a claim, if it has one, is gone and nobody ended it. */
int store_claim_lost(struct store *store, const char *sandbox_id, struct err *err);
/* At start-up: remove open claims without a row of their sandbox: nothing came of them. */
int store_claim_recover(struct store *store, struct err *err);
/* Remove those that are not open and older than BEFORE; *LEFT: how many there still are. */
int store_claim_sweep(struct store *store, int64_t before_unix_ms, size_t *left, struct err *err);
/*
 * Secrets, always of one namespace. SEALED is the value as it is kept: encrypted, opaque here. A
 * row that is read is owned: secret_info_clear, and free() of *SEALED (NULL: not wanted).
 */
/* ERR_EXISTS: the name is taken; ERR_LIMIT: the namespace has MAX already. */
int store_secret_add(struct store *store, const struct secret_info *info, const char *sealed,
                     size_t max, struct err *err);
/*
 * A new value, one version up. METADATA replaces what there was, NULL empties it; KEEP_METADATA:
 * neither. *OUT is the row afterwards. ERR_NOT_FOUND.
 */
int store_secret_update(struct store *store, const char *namespace_, const char *id,
                        int64_t now_unix_ms, const char *sealed, bool keep_metadata,
                        const char *metadata, struct secret_info *out, struct err *err);
/* KEY is an id, or a name (BY_NAME). ERR_NOT_FOUND. */
int store_secret_get(struct store *store, const char *namespace_, const char *key, bool by_name,
                     struct secret_info *out, char **sealed, struct err *err);
int store_secret_delete(struct store *store, const char *namespace_, const char *id,
                        struct err *err); /* ERR_NOT_FOUND */
/* Newest first, at most MAX of those before the id AFTER ("": from the newest). */
int store_secret_list(struct store *store, const char *namespace_, const char *after, size_t max,
                      struct secret_info **out, size_t *count, struct err *err);

/* Small named values. store_meta_get: *OUT to free(), NULL when absent. */
int store_meta_get(struct store *store, const char *name, char **out, struct err *err);
int store_meta_set(struct store *store, const char *name, const char *value, struct err *err);

/*
 * STATE_DIR/master.key: 32 random bytes as hex, mode 0600, made on first use. Sandbox tokens and
 * JWT keys derive from it. ERR_INVALID when it is malformed (it is never replaced).
 */
int store_master_secret(const char *state_dir, struct secret *out, struct err *err);

#endif
