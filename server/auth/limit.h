/*
 * server/auth/limit.h - how fast creates may come: a token bucket for each namespace and each key
 * that has such a limit.
 *
 * In memory: after a restart every bucket is full. Any thread; never blocks for long.
 */
#ifndef SANDPIT_AUTH_LIMIT_H
#define SANDPIT_AUTH_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/model/quota.h"

struct limiter;

/* What is told to the client about the tighter bucket. */
struct limit_state {
    bool limited;      /* there is such a limit at all; else nothing below is set */
    int64_t limit;     /* how many at once, RateLimit-Limit */
    int64_t remaining; /* RateLimit-Remaining */
    int64_t reset_s;   /* until the bucket is full, RateLimit-Reset */
};

struct limiter *limiter_new(void);
void limiter_free(struct limiter *limiter);

/*
 * Take COUNT (at least 1) tokens of NAMESPACE_ and of KEY_ID at NOW_MONO_MS, or none: ERR_LIMIT
 * "Rate limit exceeded", with the seconds to wait. *STATE is set in both cases. More than the
 * bucket holds is let through when it is full: the debt is paid before the next.
 */
int limiter_take(struct limiter *limiter, const struct quotas *quotas, const char *namespace_,
                 const char *key_id, int64_t count, int64_t now_mono_ms, struct limit_state *state,
                 struct err *err);

#endif
