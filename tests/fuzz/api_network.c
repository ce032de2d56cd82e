/*
 * tests/fuzz/api_network.c - NetworkConfig as a client sends it, then what the engine makes of it.
 *
 * Whatever the API takes, the engine reads, and no rule opens what is never reached.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/network.h"
#include "server/base/mem.h"
#include "server/model/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Some addresses whose verdict is known whatever the rules are. */
static void check_verdicts(const struct net_policy *policy)
{
    static const uint32_t never[] = {0x7f000001, 0x0a000202, NET_LINKS + 6, 0xe0000001, 0};

    for (size_t i = 0; i < array_size(never); i++)
        if (net_policy_address(policy, never[i]) != NET_NEVER)
            abort();
    if (net_policy_address(policy, 0xa9fea9fe) == NET_OPEN)
        abort(); /* metadata: private, or named */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    _cleanup_json_ json_t *body = json_parse_object((const char *)data, size, &err);
    _cleanup_json_ json_t *kept = json_object();
    _cleanup_net_policy_ struct net_policy policy = {0};
    _cleanup_free_ char *text = NULL;
    struct net_ingress ingress;
    bool public_traffic = true;

    if (body == NULL || network_egress_parse(body, false, kept, &err) < 0 ||
        network_ingress_parse(body, kept, &public_traffic, &err) < 0)
        return 0;
    text = json_text(kept);
    if (net_policy_parse(text, strlen(text), &policy, &err) < 0)
        abort();
    check_verdicts(&policy);
    net_policy_host(&policy, text, strlen(text) < 300 ? strlen(text) : 300);
    net_ingress_read(text, &ingress);
    json_decref(network_shown(text));
    return 0;
}
