#include "server/auth/limit.h"

#include <pthread.h>
#include <stdlib.h>

#include "server/base/map.h"
#include "server/base/mem.h"

#define UNITS 1000 /* of a token: what a rate of 1 per second adds in a millisecond is one */
#define BUCKETS_SWEEP 4096 /* with more than this, full ones are dropped: they say nothing */
#define MS_PER_S 1000

/* Rate R: holds R tokens, gains R in a second. */
struct bucket {
    char *name; /* owned; the key in the table */
    int64_t rate;
    int64_t units; /* may be negative: taken ahead */
    int64_t at_mono_ms;
};

struct limiter {
    pthread_mutex_t lock; /* guards the table and each bucket */
    struct map buckets;
    size_t sweep_at; /* look for full ones when there are as many */
};

struct limiter *limiter_new(void)
{
    struct limiter *limiter = mem_zalloc(sizeof(*limiter));

    pthread_mutex_init(&limiter->lock, NULL);
    map_init(&limiter->buckets);
    limiter->sweep_at = BUCKETS_SWEEP;
    return limiter;
}

static void bucket_free(struct bucket *bucket)
{
    free(bucket->name);
    free(bucket);
}

void limiter_free(struct limiter *limiter)
{
    void *bucket;

    if (limiter == NULL)
        return;
    for (size_t at = 0; map_next(&limiter->buckets, &at, &bucket);)
        bucket_free(bucket);
    map_clear(&limiter->buckets);
    pthread_mutex_destroy(&limiter->lock);
    free(limiter);
}

static void refill(struct bucket *bucket, int64_t rate, int64_t now_mono_ms)
{
    int64_t full = rate * UNITS, gone_ms = now_mono_ms - bucket->at_mono_ms;

    bucket->rate = rate;
    bucket->at_mono_ms = now_mono_ms;
    if (gone_ms > (full - bucket->units) / rate) /* also for a rate that was lowered */
        bucket->units = full;
    else if (gone_ms > 0)
        bucket->units += gone_ms * rate;
}

/* Under the lock: drop what is full again. */
static void sweep(struct limiter *limiter, int64_t now_mono_ms)
{
    struct map kept;
    void *value;

    map_init(&kept);
    for (size_t at = 0; map_next(&limiter->buckets, &at, &value);) {
        struct bucket *bucket = value;
        refill(bucket, bucket->rate, now_mono_ms);
        if (bucket->units >= bucket->rate * UNITS)
            bucket_free(bucket);
        else
            map_put(&kept, bucket->name, bucket);
    }
    map_clear(&limiter->buckets);
    limiter->buckets = kept;
    limiter->sweep_at = kept.count + BUCKETS_SWEEP;
}

/* Under the lock: the bucket of NAME, filled up to now; NULL when RATE is no limit. */
static struct bucket *bucket_of(struct limiter *limiter, char kind, const char *name, int64_t rate,
                                int64_t now_mono_ms)
{
    _cleanup_free_ char *text = NULL;
    struct bucket *bucket;

    if (rate <= 0 || name[0] == '\0')
        return NULL;
    text = mem_asprintf("%c:%s", kind, name);
    bucket = map_get(&limiter->buckets, text);
    if (bucket == NULL) {
        bucket = mem_zalloc(sizeof(*bucket));
        bucket->units = rate * UNITS;
        bucket->at_mono_ms = now_mono_ms;
        bucket->name = steal_ptr(&text);
        map_put(&limiter->buckets, bucket->name, bucket);
    }
    refill(bucket, rate, now_mono_ms);
    return bucket;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return a <= 0 ? 0 : (a + b - 1) / b;
}

/* Milliseconds until COUNT tokens are there; 0: now. */
static int64_t wait_ms(const struct bucket *bucket, int64_t count)
{
    int64_t want = count < bucket->rate ? count : bucket->rate;

    return ceil_div(want * UNITS - bucket->units, bucket->rate);
}

static void describe(const struct bucket *bucket, struct limit_state *state)
{
    int64_t remaining = bucket->units > 0 ? bucket->units / UNITS : 0;

    if (state->limited && state->remaining <= remaining)
        return;
    *state = (struct limit_state){
        .limited = true,
        .limit = bucket->rate,
        .remaining = remaining,
        .reset_s = ceil_div(bucket->rate * UNITS - bucket->units, bucket->rate * (int64_t)MS_PER_S),
    };
}

int limiter_take(struct limiter *limiter, const struct quotas *quotas, const char *namespace_,
                 const char *key_id, int64_t count, int64_t now_mono_ms, struct limit_state *state,
                 struct err *err)
{
    struct bucket *buckets[2];
    int64_t wait = 0;

    *state = (struct limit_state){.limited = false};
    pthread_mutex_lock(&limiter->lock);
    if (limiter->buckets.count >= limiter->sweep_at)
        sweep(limiter, now_mono_ms);
    buckets[0] = bucket_of(limiter, 'n', namespace_, quotas->space.max[QUOTA_CREATES], now_mono_ms);
    buckets[1] = bucket_of(limiter, 'k', key_id, quotas->key.max[QUOTA_CREATES], now_mono_ms);
    for (size_t i = 0; i < array_size(buckets); i++) {
        int64_t ms = buckets[i] != NULL ? wait_ms(buckets[i], count) : 0;
        wait = ms > wait ? ms : wait;
    }
    for (size_t i = 0; i < array_size(buckets); i++) {
        if (buckets[i] == NULL)
            continue;
        if (wait == 0)
            buckets[i]->units -= count * UNITS;
        describe(buckets[i], state);
    }
    pthread_mutex_unlock(&limiter->lock);
    if (wait == 0)
        return 0;
    err_set(err, ERR_LIMIT, "Rate limit exceeded");
    return err_retry(err, ERR_RETRY_YES, (uint32_t)ceil_div(wait, MS_PER_S));
}
