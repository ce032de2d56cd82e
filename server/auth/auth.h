/*
 * server/auth/auth.h - who is calling: API keys, scopes, and the JWT that envd trusts.
 *
 * Lookups are in memory and never block: an immutable set of keys and limits, replaced within
 * AUTH_REFRESH_MS of a change by this or another process. Any thread.
 */
#ifndef SANDPIT_AUTH_AUTH_H
#define SANDPIT_AUTH_AUTH_H

#include <stddef.h>
#include <stdint.h>

#include "server/auth/limit.h"
#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/model/key.h"
#include "server/model/quota.h"
#include "server/store/store.h"

#define AUTH_REFRESH_MS 200 /* how old a key set may be; a revoked key is refused within it */
#define AUTH_USED_MS 10000  /* how often the last uses of keys are written down */

struct auth;

struct identity { /* plain data */
    char key_id[UUID_SIZE];
    char namespace_[NAMESPACE_SIZE];
    char client[CLIENT_SIZE];
    uint32_t scopes;
    int64_t expires_unix_ms; /* of the key; 0: never */
};

/* Loads the keys and starts the thread that keeps them fresh. STORE outlives AUTH. */
int auth_new(struct store *store, struct auth **out, struct err *err);
void auth_free(struct auth *auth);
/* Blocks. Reload now if the store has changed: right after a write of this process. */
int auth_refresh(struct auth *auth, struct err *err);

/* What holds for namespaces without limits of their own. Before anyone else has AUTH. */
void auth_set_default_quota(struct auth *auth, const struct quota *quota);
/* The limits of NAMESPACE_ and of KEY_ID ("": of no key). Any thread. */
void auth_quotas(struct auth *auth, const char *namespace_, const char *key_id, struct quotas *out);

/* limiter_take for IDENTITY with the limits it has now. Any thread. */
int auth_take_creates(struct auth *auth, const struct identity *identity, int64_t count,
                      int64_t now_mono_ms, struct limit_state *state, struct err *err);

/*
 * Who holds API_KEY (X-API-Key header) or, if that is NULL, AUTHORIZATION ("Bearer <token>")?
 * Both untrusted, may be NULL. The comparison of hashes is constant-time. ERR_UNAUTHENTICATED with
 * E2B's wording: "authorization header is missing", "authorization header is malformed", "Invalid
 * API key, please visit …" (platform-api §2).
 */
int auth_check(struct auth *auth, const char *api_key, const char *authorization,
               struct identity *out, struct err *err);
/*
 * The same for X-Admin-Token: a key with SCOPE_ADMIN. *OUT has that scope alone, and acts in no
 * namespace until auth_team has put it into one.
 */
int auth_check_admin(struct auth *auth, const char *admin_token, struct identity *out,
                     struct err *err);
/*
 * The namespace whose team id is ID (untrusted) and that has, or had, a key; to OUT. ERR_INVALID no
 * UUID; ERR_NOT_FOUND.
 */
int auth_team(struct auth *auth, const char *id, char out[NAMESPACE_SIZE], struct err *err);
/* When KEY was last used, also if that is not stored yet. 0: never. */
int64_t auth_last_used(struct auth *auth, const struct key *key);
/* ERR_FORBIDDEN when IDENTITY lacks a bit of SCOPE; the message names it. */
int auth_scope(const struct identity *identity, uint32_t scope, struct err *err);

/*
 * A JWT (HS256) for envd: {"sub":SANDBOX_ID,"user":USER?,"iat":…,"exp":…}. USER may be NULL (no
 * Basic header came). *OUT is to free(). Any thread.
 */
#define JWT_LIFE_S 300
int auth_jwt(const uint8_t key[SHA256_BYTES], const char *sandbox_id, const char *user,
             int64_t now_unix_s, char **out, struct err *err);
/* The same with "platform":true: for what envd does for the server alone, never for a client. */
int auth_jwt_platform(const uint8_t key[SHA256_BYTES], const char *sandbox_id, int64_t now_unix_s,
                      char **out, struct err *err);

#endif
