/*
 * server/gateway/policy.h - what a sandbox may reach, whose headers are set, through which proxy.
 *
 * A policy holds secrets: it is wiped when it is freed, and never logged. Loop only, but parsing
 * and asking are pure.
 */
#ifndef SANDPIT_GATEWAY_POLICY_H
#define SANDPIT_GATEWAY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/json.h"
#include "server/model/network.h"

#define POLICY_HOST_SIZE 256

/* A SOCKS5 server. Texts are owned, NULL when not set. */
struct policy_proxy {
    char host[POLICY_HOST_SIZE]; /* a name or an address */
    uint16_t port;
    char *user;
    char *password;
    bool tls;
    char *server_name; /* to be verified; NULL: host */
    char *ca;          /* PEM; NULL: the system's roots */
};

struct policy {
    struct net_policy net;
    json_t *rules; /* {host: [{transform: {headers}}]} or NULL */
    bool has_proxy;
    struct policy_proxy proxy;
};

/* Read TEXT (gateway.h of the engine). NULL with ERR_INVALID. */
struct policy *policy_parse(const char *text, size_t len, struct err *err);
void policy_free(struct policy *policy);

/*
 * The headers {name: value or null} to be set in requests to NAME: of the exact host, else of the
 * longest "*." that covers it. NULL: none. Borrowed.
 */
json_t *policy_headers(const struct policy *policy, const char *name);

enum verdict {
    VERDICT_REFUSE,
    VERDICT_ADDRESS, /* to the address that was asked for */
    VERDICT_NAME,    /* to what NAME resolves to */
};

/*
 * May a flow go to ADDRESS:PORT with NAME ("": none is known)? WHY gets a static text when not.
 */
enum verdict policy_decide(const struct policy *policy, uint32_t address, uint16_t port,
                           const char *name, const char **why);
/* Does a name matter for ADDRESS:PORT? False: do not wait for one. */
bool policy_wants_name(const struct policy *policy, uint32_t address, uint16_t port);
/* RESOLVED (by us) may be connected to. LISTED: the name is one of allowOut. */
bool policy_resolved_ok(const struct policy *policy, uint32_t resolved, bool listed);

#endif
