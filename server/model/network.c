#include "server/model/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define LABEL_MAX 63

const struct net_cidr net_never[] = {
    {0x00000000u, 8},  /* "this network" */
    {0x7f000000u, 8},  /* loopback */
    {NET_LINKS, 17},   /* sandboxes */
    {0x0a000200u, 24}, /* the uplink's own network */
    {0xe0000000u, 3},  /* multicast, reserved, broadcast */
};
const size_t net_never_count = array_size(net_never);

const struct net_cidr net_private[] = {
    {0x0a000000u, 8},  /* 10.0.0.0 */
    {0x64400000u, 10}, /* 100.64.0.0, CGNAT */
    {0xa9fe0000u, 16}, /* 169.254.0.0, link-local: metadata services */
    {0xac100000u, 12}, /* 172.16.0.0 */
    {0xc0000000u, 24}, /* 192.0.0.0 */
    {0xc0a80000u, 16}, /* 192.168.0.0 */
    {0xc6120000u, 15}, /* 198.18.0.0, benchmarks */
};
const size_t net_private_count = array_size(net_private);

static uint32_t mask_of(uint8_t prefix)
{
    return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

/* The decimal after '/', of at most MAX. */
static int parse_prefix(const char *s, size_t len, uint64_t max, uint8_t *out)
{
    struct err ignored = {0};
    uint64_t prefix;

    if (len == 0 || len > 3 || str_to_u64(s, len, 0, max, "prefix", &prefix, &ignored) < 0)
        return -1;
    *out = (uint8_t)prefix;
    return 0;
}

int net_cidr_parse(const char *s, size_t len, struct net_cidr *out, bool *ipv6)
{
    const char *slash = memchr(s, '/', len);
    size_t address_len = slash != NULL ? (size_t)(slash - s) : len;
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address6;
    struct in_addr address;
    uint8_t prefix = 32;
    bool is6;

    if (str_copy(text, sizeof(text), s, address_len) < 0)
        return -1;
    is6 = strchr(text, ':') != NULL;
    if (slash != NULL &&
        parse_prefix(slash + 1, len - address_len - 1, is6 ? 128 : 32, &prefix) < 0)
        return -1;
    if (is6 ? inet_pton(AF_INET6, text, &address6) != 1 : inet_pton(AF_INET, text, &address) != 1)
        return -1;
    *ipv6 = is6;
    if (!is6)
        *out = (struct net_cidr){ntohl(address.s_addr) & mask_of(prefix), prefix};
    return 0;
}

bool net_cidr_has(const struct net_cidr *cidr, uint32_t address)
{
    return (address & mask_of(cidr->prefix)) == cidr->address;
}

bool net_cidr_within(const struct net_cidr *inner, const struct net_cidr *outer)
{
    return inner->prefix >= outer->prefix && net_cidr_has(outer, inner->address);
}

static bool label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

bool net_host_valid(const char *s, size_t len, bool wildcard)
{
    size_t label = 0, labels = 0;
    bool digits = true; /* of the current label */

    if (wildcard && len > 2 && memcmp(s, "*.", 2) == 0) {
        s += 2;
        len -= 2;
        labels = 1; /* "*.test" is a pattern though "test" is no name */
    }
    if (len == 0 || len > NET_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.') {
            if (label == 0 || s[i - 1] == '-')
                return false;
            labels++;
            label = 0;
            digits = true;
            continue;
        }
        if (!label_char(s[i]) || (label == 0 && s[i] == '-') || ++label > LABEL_MAX)
            return false;
        digits = digits && s[i] >= '0' && s[i] <= '9';
    }
    return label > 0 && s[len - 1] != '-' && !digits && labels > 0;
}

bool net_host_match(const char *pattern, const char *name, size_t len)
{
    size_t pattern_len = strlen(pattern);

    if (len > 0 && name[len - 1] == '.')
        len--;
    if (pattern_len < 2 || memcmp(pattern, "*.", 2) != 0)
        return mem_is_nocase(name, len, pattern);
    pattern++; /* ".example.com" */
    pattern_len--;
    return len > pattern_len && mem_is_nocase(name + len - pattern_len, pattern_len, pattern);
}

static bool in_list(const struct net_cidr *list, size_t count, uint32_t address)
{
    for (size_t i = 0; i < count; i++)
        if (net_cidr_has(&list[i], address))
            return true;
    return false;
}

bool net_cidr_private(const struct net_cidr *entry)
{
    for (size_t i = 0; i < net_private_count; i++)
        if (net_cidr_within(entry, &net_private[i]))
            return true;
    return false;
}

bool net_policy_opens_private(const struct net_policy *policy)
{
    for (size_t i = 0; i < policy->allow_count; i++)
        if (net_cidr_private(&policy->allow[i]))
            return true;
    return false;
}

bool net_policy_denies_all(const struct net_policy *policy)
{
    for (size_t i = 0; i < policy->deny_count; i++)
        if (policy->deny[i].prefix == 0)
            return true;
    return false;
}

enum net_verdict net_policy_address(const struct net_policy *policy, uint32_t address)
{
    bool named_private = false;

    if (in_list(net_never, net_never_count, address))
        return NET_NEVER;
    if (in_list(net_private, net_private_count, address)) {
        for (size_t i = 0; i < policy->allow_count && !named_private; i++)
            named_private =
                net_cidr_private(&policy->allow[i]) && net_cidr_has(&policy->allow[i], address);
        return named_private ? NET_ALLOWED : NET_PRIVATE;
    }
    if (in_list(policy->allow, policy->allow_count, address))
        return NET_ALLOWED;
    return in_list(policy->deny, policy->deny_count, address) ? NET_DENIED : NET_OPEN;
}

bool net_policy_host(const struct net_policy *policy, const char *name, size_t len)
{
    for (size_t i = 0; i < policy->host_count; i++)
        if (net_host_match(policy->hosts[i], name, len))
            return true;
    return false;
}

void net_policy_clear(struct net_policy *policy)
{
    for (size_t i = 0; i < policy->host_count; i++)
        free(policy->hosts[i]);
    free(policy->hosts);
    free(policy->allow);
    free(policy->deny);
    free(policy->dns);
    *policy = (struct net_policy){0};
}

/* LIST's addresses go to *OUT; what is none to *HOSTS, or is an error when that is NULL. */
static int read_list(const json_t *list, const char *what, struct net_cidr **out, size_t *count,
                     struct net_policy *hosts, struct err *err)
{
    size_t size = json_array_size(list);

    if (size > NET_LIST_MAX)
        return err_set(err, ERR_INVALID, "network.%s must have at most %d entries", what,
                       NET_LIST_MAX);
    *out = mem_calloc(size + 1, sizeof(**out));
    if (hosts != NULL)
        hosts->hosts = mem_calloc(size + 1, sizeof(*hosts->hosts));
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_array_get(list, i);
        const char *text = json_string_value(item);
        size_t len = json_string_length(item);
        struct net_cidr cidr;
        bool ipv6 = false;
        if (text != NULL && net_cidr_parse(text, len, &cidr, &ipv6) == 0) {
            if (!ipv6)
                (*out)[(*count)++] = cidr;
            continue;
        }
        if (text == NULL || hosts == NULL || !net_host_valid(text, len, true))
            return err_set(err, ERR_INVALID, "an entry of network.%s is not valid", what);
        hosts->hosts[hosts->host_count++] = mem_strndup(text, len);
    }
    return 0;
}

static int read_dns(const json_t *list, struct net_policy *out, struct err *err)
{
    size_t size = json_array_size(list);

    if (size > NET_DNS_SERVERS_MAX)
        return err_set(err, ERR_INVALID, "network.dnsServers must have at most %d entries",
                       NET_DNS_SERVERS_MAX);
    out->dns = mem_calloc(size + 1, sizeof(*out->dns));
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_array_get(list, i);
        struct net_cidr cidr;
        bool ipv6 = false;
        if (!json_is_string(item) ||
            net_cidr_parse(json_string_value(item), json_string_length(item), &cidr, &ipv6) < 0 ||
            ipv6 || cidr.prefix != 32)
            return err_set(err, ERR_INVALID, "an entry of network.dnsServers is not valid");
        out->dns[out->dns_count++] = cidr.address;
    }
    return 0;
}

static int read_policy(const json_t *json, struct net_policy *out, struct err *err)
{
    json_t *allow = NULL, *deny = NULL, *dns = NULL, *proxy = NULL, *rules = NULL;

    if (json_get_array(json, "allowOut", &allow, err) < 0 ||
        json_get_array(json, "denyOut", &deny, err) < 0 ||
        json_get_array(json, "dnsServers", &dns, err) < 0 ||
        json_get_object(json, "egressProxy", &proxy, err) < 0 ||
        json_get_object(json, "rules", &rules, err) < 0 ||
        read_list(allow, "allowOut", &out->allow, &out->allow_count, out, err) < 0 ||
        read_list(deny, "denyOut", &out->deny, &out->deny_count, NULL, err) < 0 ||
        read_dns(dns, out, err) < 0)
        return -1;
    out->dns_set = dns != NULL;
    out->gateway = out->host_count > 0 || proxy != NULL || json_object_size(rules) > 0;
    return 0;
}

int net_policy_parse(const char *text, size_t len, struct net_policy *out, struct err *err)
{
    _cleanup_json_ json_t *json = json_parse_object(text, len, err);
    _cleanup_net_policy_ struct net_policy policy = {0};

    if (json == NULL || read_policy(json, &policy, err) < 0)
        return -1;
    *out = policy;
    policy = (struct net_policy){0};
    return 0;
}

void net_ingress_read(const char *text, struct net_ingress *out)
{
    struct err ignored = {0};
    _cleanup_json_ json_t *json =
        text != NULL ? json_parse_object(text, strlen(text), &ignored) : NULL;
    const json_t *mask = json_object_get(json, "maskRequestHost");
    const json_t *ports = json_object_get(json, "httpsPorts");

    *out = (struct net_ingress){0};
    if (json_is_string(mask))
        str_copy(out->mask_host, sizeof(out->mask_host), json_string_value(mask),
                 json_string_length(mask));
    for (size_t i = 0; i < json_array_size(ports) && i < NET_HTTPS_PORTS_MAX; i++) {
        json_int_t port = json_integer_value(json_array_get(ports, i));
        if (port > 0 && port <= UINT16_MAX)
            out->https_ports[out->https_count++] = (uint16_t)port;
    }
}

bool net_ingress_https(const struct net_ingress *ingress, uint16_t port)
{
    for (size_t i = 0; i < ingress->https_count; i++)
        if (ingress->https_ports[i] == port)
            return true;
    return false;
}
