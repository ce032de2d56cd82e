/*
 * server/lifecycle/network.c - a sandbox's network rules: from the row to what the engine holds.
 *
 * The row keeps what the client asked for ("network" and allow_internet_access), placeholders and
 * all; the effective rules are made of it whenever the engine is to have them.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/lifecycle/internal.h"
#include "server/lifecycle/resolve.h"
#include "server/model/network.h"

#define ALL_TRAFFIC "0.0.0.0/0"
#define TRUST_WAIT_MS 5000
#define RESOLVE_WAIT_S 2 /* for the name of an egress proxy */

/* What egress is made of, in the order in which it is shown. */
static const char *const egress_keys[] = {"allowOut", "denyOut", "dnsServers", "egressProxy",
                                          "rules"};

/* ITEM names a part of a private network. */
static bool is_private(const json_t *item)
{
    struct net_cidr cidr = {.prefix = 0};
    bool ipv6 = false;

    return json_is_string(item) &&
           net_cidr_parse(json_string_value(item), json_string_length(item), &cidr, &ipv6) == 0 &&
           !ipv6 && net_cidr_private(&cidr);
}

/* Take the private ones out of LIST: stored when they were allowed still. */
static void drop_private(json_t *list)
{
    for (size_t i = json_array_size(list); i-- > 0;)
        if (is_private(json_array_get(list, i)))
            json_array_remove(list, i);
}

static bool has_all(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        struct net_cidr cidr = {.prefix = 32};
        bool ipv6 = false;
        if (json_is_string(item) &&
            net_cidr_parse(json_string_value(item), json_string_length(item), &cidr, &ipv6) == 0 &&
            !ipv6 && cidr.prefix == 0)
            return true;
    }
    return false;
}

/* The effective rules of NETWORK, or NULL: there are none; *INTERNET false: nothing is reached. */
static json_t *effective(const json_t *network, bool no_private, bool *internet)
{
    json_t *policy = json_object();
    json_t *deny, *allow;

    for (size_t i = 0; i < array_size(egress_keys); i++)
        if (json_has(network, egress_keys[i]))
            json_put(policy, egress_keys[i],
                     json_deep_copy(json_object_get(network, egress_keys[i])));
    if (no_private) {
        drop_private(json_object_get(policy, "allowOut"));
        drop_private(json_object_get(policy, "dnsServers"));
    }
    if (!*internet) {
        json_put(policy, "denyOut", json_array());
        json_array_append_new(json_object_get(policy, "denyOut"), json_string(ALL_TRAFFIC));
    }
    deny = json_object_get(policy, "denyOut");
    allow = json_object_get(policy, "allowOut");
    *internet = json_array_size(allow) > 0 || !has_all(deny);
    if (*internet &&
        (json_array_size(allow) > 0 || json_array_size(deny) > 0 ||
         json_has(policy, "egressProxy") || json_object_size(json_object_get(policy, "rules")) > 0))
        return policy;
    json_decref(policy);
    return NULL;
}

int network_policy(struct lifecycle *lifecycle, const struct sandbox *sandbox, bool *internet,
                   char **policy, struct err *err)
{
    _cleanup_json_ json_t *network = NULL, *rules = NULL;
    bool on = sandbox->internet;

    *policy = NULL;
    if (sandbox->network != NULL) {
        network = json_parse_object(sandbox->network, strlen(sandbox->network), err);
        if (network == NULL) {
            err->code = ERR_INTERNAL; /* a broken row: not the client's fault */
            return err_wrap(err, "stored network rules");
        }
        rules = effective(network, lifecycle->config.no_private_egress, &on);
    }
    if (rules != NULL) {
        if (network_policy_fill(lifecycle, sandbox->namespace_, json_object_get(rules, "rules"),
                                err) < 0)
            return -1;
        *policy = json_text(rules);
    }
    *internet = on;
    return 0;
}

/* Have the engine hold what the row of the held ENTRY says. */
static int say(struct lifecycle *lifecycle, const struct sandbox *sandbox, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    _cleanup_(secret_text_free) char *policy = NULL;
    bool internet;

    if (network_policy(lifecycle, sandbox, &internet, &policy, err) < 0)
        return -1;
    if (engine->ops->set_network == NULL)
        return err_set(err, ERR_UNSUPPORTED, "the %s engine cannot change network rules",
                       engine->ops->name);
    if (engine->ops->set_network(engine, sandbox->id, internet, policy, err) < 0)
        return engine_failed("set_network", sandbox->id, err);
    return 0;
}

int entry_network(struct lifecycle *lifecycle, struct entry *entry, struct err *err)
{
    if (entry->sandbox.network == NULL)
        return 0; /* the engine knows whether the internet is on */
    return say(lifecycle, &entry->sandbox, err);
}

int network_apply(struct lifecycle *lifecycle, const char *id, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (registry_hold(&lifecycle->registry, NULL, id, &entry, err) < 0)
        return -1;
    rc = entry_network(lifecycle, entry, err);
    registry_release(&lifecycle->registry, entry);
    return rc;
}

/*
 * The row's "network" with EGRESS in place of its own; owned text. Never NULL: a row that has it is
 * one whose rules are said again after a crash in the middle of this.
 */
static char *merge(const char *before, const json_t *egress)
{
    struct err ignored = {0};
    _cleanup_json_ json_t *network =
        before != NULL ? json_parse_object(before, strlen(before), &ignored) : NULL;

    if (network == NULL)
        network = json_object();
    for (size_t i = 0; i < array_size(egress_keys); i++) {
        json_object_del(network, egress_keys[i]);
        if (json_has(egress, egress_keys[i]))
            json_put(network, egress_keys[i],
                     json_deep_copy(json_object_get(egress, egress_keys[i])));
    }
    return json_text(network);
}

/* Header rules where there were none: programs in the sandbox are to trust who sets them. */
static int trust(struct lifecycle *lifecycle, const struct entry *entry, const char *network,
                 struct err *err)
{
    if (!network_has_rules(network) || network_has_rules(entry->sandbox.network))
        return 0;
    return guest_trust(lifecycle, entry, TRUST_WAIT_MS, err);
}

/* Store what is wanted, then have the engine hold it; on failure all is as it was. */
static int change(struct lifecycle *lifecycle, struct entry *entry,
                  const struct lifecycle_network *network, struct err *err)
{
    struct store *store = lifecycle->config.store;
    struct sandbox row = entry->sandbox; /* borrows the strings but for one */
    _cleanup_free_ char *text = merge(entry->sandbox.network, network->egress);
    struct err ignored = {0};

    row.network = text;
    row.internet = network->internet;
    row.internet_set = network->internet_set;
    if (store_sandbox_put(store, &row, err) < 0)
        return -1;
    if (say(lifecycle, &row, err) < 0 || trust(lifecycle, entry, text, err) < 0) {
        if (store_sandbox_put(store, &entry->sandbox, &ignored) < 0 ||
            say(lifecycle, &entry->sandbox, &ignored) < 0)
            log_err(LOG_ERROR, "cannot undo a change of network rules", entry->sandbox.id,
                    &ignored);
        return -1;
    }
    entry_set_network(&lifecycle->registry, entry, steal_ptr(&text), network->internet,
                      network->internet_set);
    return 0;
}

int lifecycle_set_network(struct lifecycle *lifecycle, const char *namespace_, const char *id,
                          const struct lifecycle_network *network, struct err *err)
{
    struct entry *entry = NULL;
    int rc;

    if (network_check(lifecycle, network->egress, err) < 0 ||
        registry_hold(&lifecycle->registry, namespace_, id, &entry, err) < 0)
        return -1;
    if (entry->sandbox.state == SANDBOX_RUNNING)
        rc = change(lifecycle, entry, network, err);
    else
        rc = err_set(err, ERR_CONFLICT, "Sandbox \"%s\" is not running", id);
    if (rc == 0)
        entry_tell(lifecycle, entry, LIFECYCLE_UPDATED, SANDBOX_END_NONE);
    registry_release(&lifecycle->registry, entry);
    return rc;
}

static bool internal(const struct sockaddr *address)
{
    static const struct net_policy none = {0};
    const struct sockaddr_in *in = (const void *)address;

    return address->sa_family != AF_INET || /* there is no way out by IPv6 */
           net_policy_address(&none, ntohl(in->sin_addr.s_addr)) != NET_OPEN;
}

static int refuse_private(const json_t *egress, const char *key, const char *what, struct err *err)
{
    const json_t *list = json_object_get(egress, key);

    for (size_t i = 0; i < json_array_size(list); i++)
        if (is_private(json_array_get(list, i)))
            return err_set(err, ERR_INVALID,
                           "invalid %s %.64s: private networks are closed on this server", what,
                           json_string_value(json_array_get(list, i)));
    return 0;
}

int network_check(const struct lifecycle *lifecycle, const json_t *egress, struct err *err)
{
    const json_t *proxy = json_object_get(egress, "egressProxy");
    const char *address = json_string_value(json_object_get(proxy, "address"));
    const char *colon = address != NULL ? strrchr(address, ':') : NULL;
    _cleanup_free_ char *host = NULL;
    struct addrinfo *list;
    bool bad = false;

    if (lifecycle->config.no_private_egress &&
        (refuse_private(egress, "allowOut", "allowed address", err) < 0 ||
         refuse_private(egress, "dnsServers", "DNS server", err) < 0))
        return -1;
    if (colon == NULL)
        return 0;
    host = mem_strndup(address, (size_t)(colon - address));
    list = resolve_name(host, RESOLVE_WAIT_S);
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next)
        bad |= internal(at->ai_addr);
    if (list != NULL)
        freeaddrinfo(list);
    return bad ? err_set(err, ERR_INVALID,
                         "invalid egress proxy address %s: it leads to an internal address",
                         address)
               : 0;
}
