/*
 * server/model/network.h - a sandbox's network rules: addresses, host names, what they decide.
 *
 * Pure; any thread. Addresses are IPv4 in host order: sandboxes have no IPv6.
 * Source: platform-api.md section 4, NetworkConfig; RFC 6890 for special addresses.
 */
#ifndef SANDPIT_MODEL_NETWORK_H
#define SANDPIT_MODEL_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

#define NET_LIST_MAX 1000        /* entries of allowOut, and of denyOut */
#define NET_HOST_MAX 253         /* bytes of a host name, RFC 1035 */
#define NET_DNS_SERVERS_MAX 16   /* entries of dnsServers */
#define NET_HTTPS_PORTS_MAX 64   /* entries of httpsPorts */
#define NET_MASK_HOST_SIZE 300   /* maskRequestHost with its NUL */
#define NET_RESOLVER 0x0a000203u /* 10.0.2.3: the sandboxes' resolver */
#define NET_LINKS 0x64400000u    /* 100.64.0.0: the sandboxes' own addresses */

struct net_cidr {
    uint32_t address; /* host bits zero */
    uint8_t prefix;   /* 0..32 */
};

/*
 * Read S (LEN bytes): "1.2.3.4" or "1.2.3.0/24"; host bits are cut off. IPv6 in the same two forms
 * is recognised: *IPV6 is set and *OUT untouched. Returns 0, or -1: neither.
 */
int net_cidr_parse(const char *s, size_t len, struct net_cidr *out, bool *ipv6);
bool net_cidr_has(const struct net_cidr *cidr, uint32_t address);
/* All of INNER is in OUTER. */
bool net_cidr_within(const struct net_cidr *inner, const struct net_cidr *outer);

/*
 * A host name or "*." and one: labels of letters, digits, '-' and '_' with at least one dot, not
 * all digits at the end. A bare "*" is none. WILDCARD false: "*." is refused.
 */
bool net_host_valid(const char *s, size_t len, bool wildcard);
/*
 * NAME (LEN bytes, any case, one final dot is passed over) is what PATTERN says: the same name, or
 * for "*.example.com" any name below example.com, but not itself.
 */
bool net_host_match(const char *pattern, const char *name, size_t len);

/*
 * Reached by no sandbox, whatever its rules: this host's loopback, the links of sandboxes, the
 * uplink's own network, multicast and the like. The host's other addresses belong to these; the
 * router knows them.
 */
extern const struct net_cidr net_never[];
extern const size_t net_never_count;
/* Reached only by who names them: private networks, the rest of CGNAT, link-local addresses. */
extern const struct net_cidr net_private[];
extern const size_t net_private_count;

/* How requests reach the services in a sandbox, envd apart. */
struct net_ingress {
    char mask_host[NET_MASK_HOST_SIZE]; /* instead of the Host header; "": as it came */
    uint16_t https_ports[NET_HTTPS_PORTS_MAX];
    uint16_t https_count;
};
/* Read them from a checked NetworkConfig (TEXT may be NULL); what is not there is none. */
void net_ingress_read(const char *text, struct net_ingress *out);
bool net_ingress_https(const struct net_ingress *ingress, uint16_t port);

/* The parts of a policy that addresses and names are held against. */
struct net_policy {
    struct net_cidr *allow; /* allowOut, addresses */
    size_t allow_count;
    struct net_cidr *deny; /* denyOut */
    size_t deny_count;
    char **hosts; /* allowOut, host names, lower case */
    size_t host_count;
    uint32_t *dns; /* servers whose port 53 is open */
    size_t dns_count;
    bool dns_set; /* dnsServers was given */
    bool gateway; /* host names, rules or egressProxy: TCP goes through the gateway */
};

/* Read the policy TEXT (LEN bytes of JSON, gateway.h). -1 with ERR_INVALID; *OUT untouched. */
int net_policy_parse(const char *text, size_t len, struct net_policy *out, struct err *err);
void net_policy_clear(struct net_policy *policy);
#define _cleanup_net_policy_ __attribute__((cleanup(net_policy_clear)))

enum net_verdict {
    NET_OPEN,    /* no rule names it: open */
    NET_ALLOWED, /* by allowOut */
    NET_DENIED,  /* by denyOut, and allowOut does not name it */
    NET_PRIVATE, /* private, and no entry of allowOut lies within that private network */
    NET_NEVER,   /* never reached */
};

/*
 * What the addresses in POLICY say of ADDRESS. Allowed beats denied. A wide entry of allowOut
 * ("0.0.0.0/0") does not open private networks; one that lies within such a network does.
 */
enum net_verdict net_policy_address(const struct net_policy *policy, uint32_t address);
/* A host name of allowOut covers NAME (LEN bytes). */
bool net_policy_host(const struct net_policy *policy, const char *name, size_t len);
/* ENTRY of allowOut opens a part of a private network. */
bool net_cidr_private(const struct net_cidr *entry);
/* Some entry of allowOut does. */
bool net_policy_opens_private(const struct net_policy *policy);
/* denyOut has "0.0.0.0/0". */
bool net_policy_denies_all(const struct net_policy *policy);

#endif
