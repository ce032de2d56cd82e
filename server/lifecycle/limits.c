/*
 * server/lifecycle/limits.c - what a namespace and a key may have: how many sandboxes run, how big
 * one is, how long it runs.
 */
#include "server/auth/auth.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define S_PER_HOUR 3600
#define MS_PER_S 1000

void limits_of(struct lifecycle *lifecycle, const char *namespace_, const char *key_id,
               struct quotas *out)
{
    if (lifecycle->config.auth != NULL) {
        auth_quotas(lifecycle->config.auth, namespace_, key_id, out);
        return;
    }
    *out = (struct quotas){.space = quota_none, .key = quota_none};
    out->space.max[QUOTA_LIFETIME] = SANDBOX_TIMEOUT_MAX_S;
}

struct room limits_room(const struct quotas *quotas)
{
    return (struct room){
        .total = SANDBOX_COUNT_MAX,
        .space = quotas->space.max[QUOTA_SANDBOXES],
        .key = quotas->key.max[QUOTA_SANDBOXES],
    };
}

int limits_check_timeout(const struct quotas *quotas, int64_t timeout_s, struct err *err)
{
    int64_t max = quotas_max(quotas, QUOTA_LIFETIME);

    if (max == QUOTA_NONE || timeout_s <= max)
        return 0;
    if (max % S_PER_HOUR == 0)
        return err_set(err, ERR_INVALID, "Timeout cannot be greater than %lld hours",
                       (long long)(max / S_PER_HOUR));
    return err_set(err, ERR_INVALID, "Timeout cannot be greater than %lld seconds", (long long)max);
}

int64_t limits_lifetime_ms(const struct quotas *quotas)
{
    int64_t max = quotas_max(quotas, QUOTA_LIFETIME);

    return max == QUOTA_NONE || max > INT64_MAX / 2 / MS_PER_S ? INT64_MAX / 2 : max * MS_PER_S;
}

static int check_size(const struct quotas *quotas, enum quota_kind kind, uint32_t has,
                      const char *what, struct err *err)
{
    int64_t max = quotas_max(quotas, kind);

    if (max == QUOTA_NONE || has <= max)
        return 0;
    return err_set(err, ERR_INVALID, "the template wants %u %s, and your limit is %lld", has, what,
                   (long long)max);
}

int limits_check_size(const struct quotas *quotas, uint32_t cpu_count, uint32_t memory_mb,
                      uint32_t disk_mb, struct err *err)
{
    if (check_size(quotas, QUOTA_CPU, cpu_count, "cores", err) < 0 ||
        check_size(quotas, QUOTA_MEMORY, memory_mb, "MiB of memory", err) < 0 ||
        check_size(quotas, QUOTA_DISK, disk_mb, "MiB of disk", err) < 0)
        return -1;
    return 0;
}

int entry_reserve(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    struct quotas quotas;
    struct room room;

    limits_of(lifecycle, entry->sandbox.namespace_, entry->sandbox.key_id, &quotas);
    room = limits_room(&quotas);
    return registry_reserve(&lifecycle->registry, entry, &room, err);
}
