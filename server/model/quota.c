#include "server/model/quota.h"

#include "server/base/mem.h"
#include "server/base/str.h"

#define EACH(value)                                                                                \
    {                                                                                              \
        {                                                                                          \
            value, value, value, value, value, value                                               \
        }                                                                                          \
    }
const struct quota quota_unset = EACH(QUOTA_UNSET);
const struct quota quota_none = EACH(QUOTA_NONE);
_Static_assert(QUOTA_COUNT == 6, "one value for each kind");

static const char *const names[] = {
    [QUOTA_SANDBOXES] = "sandboxes", [QUOTA_CREATES] = "creates", [QUOTA_CPU] = "cpu",
    [QUOTA_MEMORY] = "memory",       [QUOTA_DISK] = "disk",       [QUOTA_LIFETIME] = "lifetime",
};
_Static_assert(array_size(names) == QUOTA_COUNT, "one name for each kind");

const char *quota_kind_name(enum quota_kind kind)
{
    return names[kind];
}

int quota_kind_parse(const char *name, enum quota_kind *out)
{
    for (int kind = 0; kind < QUOTA_COUNT; kind++) {
        if (str_eq(name, names[kind])) {
            *out = (enum quota_kind)kind;
            return 0;
        }
    }
    return -1;
}

void quota_overlay(struct quota *quota, const struct quota *from)
{
    for (int kind = 0; kind < QUOTA_COUNT; kind++) {
        if (from->max[kind] != QUOTA_UNSET)
            quota->max[kind] = from->max[kind];
    }
}

int64_t quotas_max(const struct quotas *quotas, enum quota_kind kind)
{
    int64_t space = quotas->space.max[kind], key = quotas->key.max[kind];

    if (space <= 0 || key <= 0)
        return space > 0 ? space : key > 0 ? key : QUOTA_NONE;
    return space < key ? space : key;
}
