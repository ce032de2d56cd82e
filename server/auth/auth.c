#include "server/auth/auth.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/team.h"

#define INVALID_KEY                                                                                \
    "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.\n"

/* Keys sorted by SHA-256, limits by owner; once published only the times of use change. */
struct key_set {
    struct key *keys;
    _Atomic int64_t *used; /* of each, Unix milliseconds; later than what is stored, or 0 */
    size_t count;
    struct quota_row *quotas;
    size_t quota_count;
};

struct auth {
    struct store *store;
    pthread_rwlock_t lock; /* guards the pointer `set`; held for a lookup or a swap, no longer */
    struct key_set *set;
    struct quota default_quota;
    struct limiter *limiter;
    pthread_t thread;
    pthread_mutex_t wake_lock; /* guards `stopping` */
    pthread_cond_t wake;
    bool stopping;
    pthread_mutex_t load_lock; /* one reload at a time; guards `version` */
    uint64_t version;          /* of the store when `set` was read */
};

static void key_set_free(struct key_set *set)
{
    if (set == NULL)
        return;
    free(set->keys);
    free(set->quotas);
    free(set->used);
    free(set);
}

static int by_owner(const void *a, const void *b)
{
    const struct quota_row *x = a, *y = b;

    return x->scope != y->scope ? (x->scope < y->scope ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_hash(const void *a, const void *b)
{
    return memcmp(((const struct key *)a)->sha256, ((const struct key *)b)->sha256, SHA256_BYTES);
}

/* What was used meanwhile. Both are sorted; nobody looks at either. */
static void carry_uses(struct key_set *to, struct key_set *from)
{
    for (size_t i = 0, k = 0; from != NULL && i < to->count && k < from->count;) {
        int order = by_hash(&to->keys[i], &from->keys[k]);
        if (order == 0)
            atomic_store(&to->used[i], atomic_load(&from->used[k]));
        i += order <= 0;
        k += order >= 0;
    }
}

/* Read the keys and publish them. The version is read first: a change in between reloads again. */
static int reload(struct auth *auth, uint64_t version, struct err *err)
{
    struct key_set *set = mem_zalloc(sizeof(*set)), *old;

    if (store_key_list(auth->store, &set->keys, &set->count, err) < 0 ||
        store_quota_list(auth->store, &set->quotas, &set->quota_count, err) < 0) {
        key_set_free(set);
        return -1;
    }
    if (set->quota_count > 0)
        qsort(set->quotas, set->quota_count, sizeof(set->quotas[0]), by_owner);
    if (set->count > 0)
        qsort(set->keys, set->count, sizeof(set->keys[0]), by_hash);
    set->used = mem_calloc(set->count, sizeof(*set->used));
    pthread_rwlock_wrlock(&auth->lock);
    old = auth->set;
    carry_uses(set, old);
    auth->set = set;
    pthread_rwlock_unlock(&auth->lock);
    auth->version = version;
    key_set_free(old);
    return 0;
}

int auth_refresh(struct auth *auth, struct err *err)
{
    uint64_t version;
    int rc;

    pthread_mutex_lock(&auth->load_lock);
    rc = store_version(auth->store, &version, err);
    if (rc == 0 && (auth->set == NULL || version != auth->version))
        rc = reload(auth, version, err);
    pthread_mutex_unlock(&auth->load_lock);
    return rc;
}

/* Sleep AUTH_REFRESH_MS or until told to stop. */
static bool wait_for_stop(struct auth *auth)
{
    struct timespec until;
    bool stopping;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += AUTH_REFRESH_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&auth->wake_lock);
    while (!auth->stopping &&
           pthread_cond_timedwait(&auth->wake, &auth->wake_lock, &until) != ETIMEDOUT)
        ;
    stopping = auth->stopping;
    pthread_mutex_unlock(&auth->wake_lock);
    return stopping;
}

/* Write down what was used since the last time. Only this thread and the end of AUTH do so. */
static void store_uses(struct auth *auth)
{
    struct key_set *set;
    struct err err = {0};

    pthread_mutex_lock(&auth->load_lock); /* the set stays */
    set = auth->set;
    for (size_t i = 0; i < set->count; i++) {
        int64_t used = atomic_load(&set->used[i]);
        if (used <= set->keys[i].used_unix_ms)
            continue;
        if (store_key_used(auth->store, set->keys[i].id, used, &err) < 0) {
            log_err(LOG_WARN, "the last use of keys cannot be stored", NULL, &err);
            break;
        }
        set->keys[i].used_unix_ms = used; /* read under load_lock alone */
    }
    pthread_mutex_unlock(&auth->load_lock);
}

static void *refresh_main(void *arg)
{
    struct auth *auth = arg;
    int64_t stored_mono_ms = time_mono_ms();
    bool failing = false;

    while (!wait_for_stop(auth)) {
        struct err err = {0};
        bool failed = auth_refresh(auth, &err) < 0;
        if (failed && !failing)
            log_err(LOG_ERROR, "keys cannot be read; the last ones stay in use", NULL, &err);
        else if (!failed && failing)
            log_info("keys can be read again");
        failing = failed;
        if (time_mono_ms() - stored_mono_ms >= AUTH_USED_MS) {
            stored_mono_ms = time_mono_ms();
            store_uses(auth);
        }
    }
    store_uses(auth);
    return NULL;
}

static void init_locks(struct auth *auth)
{
    pthread_condattr_t attr;

    pthread_rwlock_init(&auth->lock, NULL);
    pthread_mutex_init(&auth->wake_lock, NULL);
    pthread_mutex_init(&auth->load_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&auth->wake, &attr);
    pthread_condattr_destroy(&attr);
}

static void destroy(struct auth *auth)
{
    key_set_free(auth->set);
    limiter_free(auth->limiter);
    pthread_cond_destroy(&auth->wake);
    pthread_mutex_destroy(&auth->load_lock);
    pthread_mutex_destroy(&auth->wake_lock);
    pthread_rwlock_destroy(&auth->lock);
    free(auth);
}

int auth_new(struct store *store, struct auth **out, struct err *err)
{
    struct auth *auth = mem_zalloc(sizeof(*auth));
    int rc;

    auth->store = store;
    auth->default_quota = quota_none;
    auth->limiter = limiter_new();
    init_locks(auth);
    if (auth_refresh(auth, err) < 0) {
        destroy(auth);
        return -1;
    }
    rc = pthread_create(&auth->thread, NULL, refresh_main, auth);
    if (rc != 0) {
        destroy(auth);
        return err_sys(err, rc, "cannot start the key thread");
    }
    pthread_setname_np(auth->thread, "keys");
    *out = auth;
    return 0;
}

void auth_free(struct auth *auth)
{
    if (auth == NULL)
        return;
    pthread_mutex_lock(&auth->wake_lock);
    auth->stopping = true;
    pthread_cond_signal(&auth->wake);
    pthread_mutex_unlock(&auth->wake_lock);
    pthread_join(auth->thread, NULL);
    destroy(auth);
}

/*
 * First key of SET whose hash begins like SHA256. The search's time depends on a prefix of a hash
 * of 160 random bits, which helps nobody to find them; the deciding comparison is constant-time.
 */
static const struct key *find(const struct key_set *set, const uint8_t sha256[SHA256_BYTES])
{
    enum { INDEX_BYTES = 8 };
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (memcmp(set->keys[mid].sha256, sha256, INDEX_BYTES) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < set->count && memcmp(set->keys[low].sha256, sha256, INDEX_BYTES) == 0; low++) {
        if (hash_equal(set->keys[low].sha256, sha256, SHA256_BYTES))
            return &set->keys[low];
    }
    return NULL;
}

/* The token of "Bearer <token>", or NULL. */
static const char *bearer_token(const char *authorization)
{
    static const char scheme[] = "Bearer ";

    if (strncasecmp(authorization, scheme, strlen(scheme)) != 0)
        return NULL;
    authorization += strlen(scheme);
    while (*authorization == ' ')
        authorization++;
    return *authorization != '\0' ? authorization : NULL;
}

static void identify(const struct key *key, struct identity *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->key_id, key->id, sizeof(out->key_id));
    memcpy(out->namespace_, key->namespace_, sizeof(out->namespace_));
    memcpy(out->client, key->client, sizeof(out->client));
    out->scopes = key->scopes;
    out->expires_unix_ms = key->expires_unix_ms;
}

/* The usable key that TEXT names, of a kind that may come this way. */
static int look_up(struct auth *auth, const char *text, bool as_bearer, struct identity *out,
                   struct err *err)
{
    int64_t now = time_unix_ms();
    uint8_t sha256[SHA256_BYTES];
    const struct key *key;
    bool usable = false;

    if (key_text_hash(text, strlen(text), sha256) < 0)
        return err_set(err, ERR_UNAUTHENTICATED, INVALID_KEY "Invalid API key format");
    pthread_rwlock_rdlock(&auth->lock);
    key = find(auth->set, sha256);
    if (key != NULL && key_usable(key, now) && (as_bearer || key->kind == KEY_API)) {
        identify(key, out);
        atomic_store_explicit(&auth->set->used[key - auth->set->keys], now, memory_order_relaxed);
        usable = true;
    }
    pthread_rwlock_unlock(&auth->lock);
    if (!usable)
        return err_set(err, ERR_UNAUTHENTICATED,
                       INVALID_KEY "Cannot get the team for the given API key");
    return 0;
}

int auth_check(struct auth *auth, const char *api_key, const char *authorization,
               struct identity *out, struct err *err)
{
    const char *text = api_key;

    if (text == NULL && authorization == NULL)
        return err_set(err, ERR_UNAUTHENTICATED, "authorization header is missing");
    if (text == NULL && (text = bearer_token(authorization)) == NULL)
        return err_set(err, ERR_UNAUTHENTICATED, "authorization header is malformed");
    return look_up(auth, text, api_key == NULL, out, err);
}

int auth_check_admin(struct auth *auth, const char *admin_token, struct identity *out,
                     struct err *err)
{
    struct identity who;
    struct err why = {0};

    if (admin_token == NULL)
        return err_set(err, ERR_UNAUTHENTICATED, "X-Admin-Token header is missing");
    if (look_up(auth, admin_token, true, &who, &why) < 0 || !(who.scopes & SCOPE_ADMIN))
        return err_set(err, ERR_UNAUTHENTICATED, "X-Admin-Token is not a key with the scope admin");
    memset(who.namespace_, 0, sizeof(who.namespace_));
    who.scopes = SCOPE_ADMIN;
    *out = who;
    return 0;
}

int auth_team(struct auth *auth, const char *id, char out[NAMESPACE_SIZE], struct err *err)
{
    char team[UUID_SIZE];
    bool found = false;

    if (!uuid_is(id))
        return err_set(err, ERR_INVALID, "Invalid team ID: it is no UUID");
    pthread_rwlock_rdlock(&auth->lock);
    for (size_t i = 0; i < auth->set->count && !found; i++) {
        const struct key *key = &auth->set->keys[i];
        if (i > 0 && str_eq(key->namespace_, key[-1].namespace_))
            continue;
        team_id(key->namespace_, team);
        found = strcasecmp(team, id) == 0;
        if (found)
            memcpy(out, key->namespace_, sizeof(key->namespace_));
    }
    pthread_rwlock_unlock(&auth->lock);
    return found ? 0 : err_set(err, ERR_NOT_FOUND, "Team not found");
}

int64_t auth_last_used(struct auth *auth, const struct key *key)
{
    const struct key *found;
    int64_t used = 0;

    pthread_rwlock_rdlock(&auth->lock);
    found = find(auth->set, key->sha256);
    if (found != NULL)
        used = atomic_load(&auth->set->used[found - auth->set->keys]);
    pthread_rwlock_unlock(&auth->lock);
    return used > key->used_unix_ms ? used : key->used_unix_ms;
}

int auth_scope(const struct identity *identity, uint32_t scope, struct err *err)
{
    uint32_t missing = scope & ~identity->scopes;
    char name[KEY_SCOPES_SIZE];

    if (missing == 0)
        return 0;
    key_scopes_format(missing, name);
    return err_set(err, ERR_FORBIDDEN, "this API key lacks the scope '%s'", name);
}

void auth_set_default_quota(struct auth *auth, const struct quota *quota)
{
    auth->default_quota = *quota;
}

/* Put the limits of an owner, if SET has any, over *QUOTA. */
static void overlay(const struct key_set *set, enum quota_scope scope, const char *name,
                    struct quota *quota)
{
    struct quota_row wanted = {.scope = scope};
    const struct quota_row *row;

    if (set->quota_count == 0 || str_copy(wanted.name, sizeof(wanted.name), name, strlen(name)) < 0)
        return;
    row = bsearch(&wanted, set->quotas, set->quota_count, sizeof(wanted), by_owner);
    if (row != NULL)
        quota_overlay(quota, &row->quota);
}

void auth_quotas(struct auth *auth, const char *namespace_, const char *key_id, struct quotas *out)
{
    out->space = auth->default_quota;
    out->key = quota_none;
    pthread_rwlock_rdlock(&auth->lock);
    overlay(auth->set, QUOTA_OF_NAMESPACE, namespace_, &out->space);
    overlay(auth->set, QUOTA_OF_KEY, key_id, &out->key);
    pthread_rwlock_unlock(&auth->lock);
}

int auth_take_creates(struct auth *auth, const struct identity *identity, int64_t count,
                      int64_t now_mono_ms, struct limit_state *state, struct err *err)
{
    struct quotas quotas;

    auth_quotas(auth, identity->namespace_, identity->key_id, &quotas);
    return limiter_take(auth->limiter, &quotas, identity->namespace_, identity->key_id, count,
                        now_mono_ms, state, err);
}
