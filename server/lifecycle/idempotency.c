/*
 * server/lifecycle/idempotency.c - a create that has an Idempotency-Key happens once.
 *
 * The claim of the key is stored with the id of the sandbox to be, before anything else is done;
 * from then on it follows that sandbox's row (store/claims.c). What is being worked on in this
 * process is also in a list here, so that an open claim without a place in it is known to be left
 * over. docs/internals/lifecycle.md goes through every moment the server may die at.
 */
#include <string.h>

#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define SWEEP_EVERY_MS 60000
#define CLAIM_TRIES 4

/* On the stack of who works on it. */
struct active_claim {
    struct active_claim *next;
    const struct claim *claim;
};

static bool same_key(const struct claim *a, const struct claim *b)
{
    return str_eq(a->key, b->key) && str_eq(a->namespace_, b->namespace_);
}

static bool same_body(const struct claim *a, const struct claim *b)
{
    return memcmp(a->body_sha256, b->body_sha256, SHA256_BYTES) == 0;
}

static int mismatch(struct err *err)
{
    err_set(err, ERR_CONFLICT, "the Idempotency-Key was used before with another request");
    err_name(err, "idempotency_request_mismatch");
    return err_retry(err, ERR_RETRY_NO, 0);
}

static int in_progress(struct err *err)
{
    err_set(err, ERR_CONFLICT, "the first request with this Idempotency-Key is still running");
    err_name(err, "idempotency_in_progress");
    return err_retry(err, ERR_RETRY_YES, 1);
}

static int lost(const struct claim *claim, struct err *err)
{
    err_set(err, ERR_UNKNOWN,
            "the sandbox of this Idempotency-Key, %s, was lost with the machine it ran on; use a "
            "new key to create another",
            claim->sandbox_id);
    return err_name(err, "idempotency_outcome_unknown");
}

/* The store failed, whatever it says: the create has not begun. */
static int store_down(struct err *err)
{
    err->code = ERR_BUSY;
    err_wrap(err, "claim of an Idempotency-Key");
    snprintf(err->msg, sizeof(err->msg), "Idempotency-Keys cannot be stored now; nothing was done");
    return err_name(err, "idempotency_store_unavailable");
}

static int active_begin(struct claims *claims, struct active_claim *active, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&claims->lock);
    for (const struct active_claim *other = claims->active; other != NULL; other = other->next) {
        if (same_key(other->claim, active->claim)) {
            rc = same_body(other->claim, active->claim) ? in_progress(err) : mismatch(err);
            break;
        }
    }
    if (rc == 0) {
        active->next = claims->active;
        claims->active = active;
    }
    pthread_mutex_unlock(&claims->lock);
    return rc;
}

static void active_end(struct claims *claims, struct active_claim *active)
{
    pthread_mutex_lock(&claims->lock);
    for (struct active_claim **at = &claims->active; *at != NULL; at = &(*at)->next) {
        if (*at == active) {
            *at = active->next;
            break;
        }
    }
    pthread_mutex_unlock(&claims->lock);
}

/* Now and then: forget what is past its time, and count the rest. */
static int make_room(struct lifecycle *lifecycle, struct err *err)
{
    struct claims *claims = &lifecycle->claims;
    int64_t now = time_mono_ms();
    size_t left = 0;
    bool due, full;

    pthread_mutex_lock(&claims->lock);
    due = now >= claims->sweep_mono_ms;
    if (due)
        claims->sweep_mono_ms = now + SWEEP_EVERY_MS;
    full = ++claims->count > IDEMPOTENCY_KEYS_MAX;
    pthread_mutex_unlock(&claims->lock);
    if (due) {
        if (store_claim_sweep(lifecycle->config.store, time_unix_ms() - IDEMPOTENCY_KEEP_MS, &left,
                              err) < 0)
            return store_down(err);
        pthread_mutex_lock(&claims->lock);
        claims->count = left + 1;
        full = claims->count > IDEMPOTENCY_KEYS_MAX;
        pthread_mutex_unlock(&claims->lock);
    }
    if (full)
        return err_set(err, ERR_LIMIT, "too many Idempotency-Keys were used in the last 24 hours");
    return 0;
}

enum found { FOUND_FAILED = -1, FOUND_ANSWER, FOUND_STALE };

/* What FOUND, which is in the place of CLAIM, means. */
static enum found judge(struct lifecycle *lifecycle, const struct claim *claim,
                        const struct claim *found, struct err *err)
{
    bool old = found->created_unix_ms <= claim->created_unix_ms - IDEMPOTENCY_KEEP_MS;

    if (found->state != CLAIM_OPEN && old)
        return FOUND_STALE;
    if (!same_body(claim, found))
        return (enum found)mismatch(err);
    if (found->state == CLAIM_DONE)
        return FOUND_ANSWER;
    if (found->state == CLAIM_LOST)
        return (enum found)lost(found, err);
    if (registry_has(&lifecycle->registry, found->sandbox_id)) /* a failed one, not yet undone */
        return (enum found)in_progress(err);
    return FOUND_STALE;
}

/* Make CLAIM ours (*MINE), or fill *OUT with the first answer. */
static int claim_or_answer(struct lifecycle *lifecycle, const struct claim *claim, bool *mine,
                           struct sandbox *out, struct err *err)
{
    struct store *store = lifecycle->config.store;

    for (int i = 0; i < CLAIM_TRIES; i++) {
        struct claim found = {.state = CLAIM_OPEN};
        struct sandbox answer = {.state = SANDBOX_RUNNING};
        enum found what;
        if (store_claim_open(store, claim, mine, &found, &answer, err) < 0)
            return store_down(err);
        if (*mine)
            return 0;
        what = judge(lifecycle, claim, &found, err);
        if (what == FOUND_FAILED)
            return -1;
        if (what == FOUND_ANSWER) {
            *out = answer;
            return 0;
        }
        if (store_claim_drop(store, found.namespace_, found.key, err) < 0)
            return store_down(err);
    }
    return in_progress(err);
}

/* The create failed. Unless something of it is left, still to be undone, nothing was done. */
static void give_back(struct lifecycle *lifecycle, const struct claim *claim)
{
    struct err err = {0};

    if (registry_has(&lifecycle->registry, claim->sandbox_id))
        return;
    if (store_claim_drop(lifecycle->config.store, claim->namespace_, claim->key, &err) < 0)
        log_err(LOG_WARN, "the claim of a failed create stays until it is asked for again",
                claim->sandbox_id, &err);
}

static int claimed(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                   const struct claim *claim, struct sandbox *out, struct err *err)
{
    bool mine = false;

    if (make_room(lifecycle, err) < 0 || claim_or_answer(lifecycle, claim, &mine, out, err) < 0)
        return -1;
    if (!mine) {
        log_info("create answered again", "sandbox_id", out->id, "namespace", claim->namespace_);
        return 0;
    }
    fault_point("create.claimed");
    if (create_once(lifecycle, request, claim->sandbox_id, out, err) == 0)
        return 0;
    give_back(lifecycle, claim);
    return -1;
}

int create_claimed(struct lifecycle *lifecycle, const struct lifecycle_create *request,
                   struct sandbox *out, struct err *err)
{
    struct claim claim = {.created_unix_ms = time_unix_ms()};
    struct active_claim active = {.claim = &claim};
    int rc;

    if (claim_key_check(request->idempotency_key, err) < 0)
        return -1;
    if (str_copy(claim.namespace_, sizeof(claim.namespace_), request->namespace_,
                 strlen(request->namespace_)) < 0)
        return err_set(err, ERR_INVALID, "namespace or client name is too long");
    memcpy(claim.key, request->idempotency_key, strlen(request->idempotency_key) + 1);
    memcpy(claim.body_sha256, request->body_sha256, SHA256_BYTES);
    sandbox_id_new(claim.sandbox_id);
    if (active_begin(&lifecycle->claims, &active, err) < 0)
        return -1;
    rc = claimed(lifecycle, request, &claim, out, err);
    active_end(&lifecycle->claims, &active);
    return rc;
}
