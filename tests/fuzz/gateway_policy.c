/* Policies: what is taken can be asked and freed. */
#include <stdint.h>
#include <string.h>

#include "server/gateway/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct policy *policy = policy_parse((const char *)data, size, &err);
    const char *why;

    if (policy == NULL)
        return 0;
    policy_headers(policy, "a.example");
    policy_decide(policy, 0x08080808, 443, "a.example", &why);
    policy_wants_name(policy, 0x0a000001, 53);
    policy_resolved_ok(policy, 0x0a000001, true);
    policy_free(policy);
    return 0;
}
