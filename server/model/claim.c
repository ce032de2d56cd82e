#include "server/model/claim.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

static const char *const names[] = {
    [CLAIM_OPEN] = "open",
    [CLAIM_DONE] = "done",
    [CLAIM_LOST] = "lost",
};
_Static_assert(array_size(names) == CLAIM_STATE_COUNT, "one name for each state");

int claim_key_check(const char *key, struct err *err)
{
    size_t len = strlen(key);

    if (len == 0 || len >= CLAIM_KEY_SIZE ||
        strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return err_set(err, ERR_INVALID,
                       "the Idempotency-Key header must have 1 to %d characters of a-z, 0-9 and "
                       "'-'",
                       CLAIM_KEY_SIZE - 1);
    return 0;
}

const char *claim_state_name(enum claim_state state)
{
    return names[state];
}

int claim_state_parse(const char *name, enum claim_state *out)
{
    for (int state = 0; state < CLAIM_STATE_COUNT; state++) {
        if (str_eq(name, names[state])) {
            *out = (enum claim_state)state;
            return 0;
        }
    }
    return -1;
}
