#include "server/gateway/policy.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define DNS_PORT 53

static void wipe_free(char **text)
{
    if (*text != NULL)
        secret_wipe(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

/* jansson's own copies, about to be freed. */
static void wipe_headers(json_t *headers)
{
    const char *name;
    json_t *value;

    json_object_foreach(headers, name, value) {
        if (json_is_string(value))
            secret_wipe((char *)json_string_value(value), json_string_length(value));
    }
}

static json_t *headers_of(const json_t *list)
{
    return json_object_get(json_object_get(json_array_get(list, 0), "transform"), "headers");
}

void policy_free(struct policy *policy)
{
    const char *host;
    json_t *list;

    if (policy == NULL)
        return;
    json_object_foreach(policy->rules, host, list)
        wipe_headers(headers_of(list));
    json_decref(policy->rules);
    net_policy_clear(&policy->net);
    free(policy->proxy.user);
    wipe_free(&policy->proxy.password);
    free(policy->proxy.server_name);
    free(policy->proxy.ca);
    free(policy);
}

/* "host:port". */
static int parse_address(const char *text, struct policy_proxy *out, struct err *err)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;

    if (colon == NULL || colon == text ||
        str_copy(out->host, sizeof(out->host), text, (size_t)(colon - text)) < 0)
        return err_set(err, ERR_INVALID, "egressProxy.address must be host:port");
    if (str_to_u64(colon + 1, strlen(colon + 1), 1, UINT16_MAX, "the port of egressProxy.address",
                   &port, err) < 0)
        return -1;
    out->port = (uint16_t)port;
    return 0;
}

static int copy_text(const json_t *object, const char *key, char **out, struct err *err)
{
    const char *text = NULL;

    if (json_get_str(object, key, &text, err) < 0)
        return -1;
    if (text != NULL && text[0] != '\0')
        *out = mem_strdup(text);
    return 0;
}

static int parse_proxy(const json_t *json, struct policy_proxy *out, struct err *err)
{
    const char *address = NULL;
    json_t *tls = NULL;

    if (json_get_str(json, "address", &address, err) < 0 ||
        json_get_object(json, "tls", &tls, err) < 0 || address == NULL ||
        parse_address(address, out, err) < 0 || copy_text(json, "username", &out->user, err) < 0 ||
        copy_text(json, "password", &out->password, err) < 0)
        return err->code != ERR_NONE ? -1 : err_set(err, ERR_INVALID, "egressProxy has no address");
    if (tls == NULL)
        return 0;
    if (json_get_bool(tls, "enabled", &out->tls, err) < 0 ||
        copy_text(tls, "serverName", &out->server_name, err) < 0 ||
        copy_text(tls, "caCert", &out->ca, err) < 0)
        return -1;
    return 0;
}

/* Each header's value is text that a field may have, or null; its name a token. */
static int check_headers(json_t *headers, struct err *err)
{
    const char *name;
    json_t *value;

    if (headers != NULL && !json_is_object(headers))
        return err_set(err, ERR_INVALID, "headers must be an object");
    json_object_foreach(headers, name, value) {
        const char *text = json_string_value(value);
        if (name[0] == '\0' || strpbrk(name, " \t\r\n:") != NULL ||
            (text == NULL && !json_is_null(value)) ||
            (text != NULL && strpbrk(text, "\r\n") != NULL))
            return err_set(err, ERR_INVALID, "a header of a rule is malformed");
    }
    return 0;
}

static int check_rules(json_t *rules, struct err *err)
{
    const char *host;
    json_t *list;

    json_object_foreach(rules, host, list) {
        if (!json_is_array(list) || !net_host_valid(host, strlen(host), true))
            return err_set(err, ERR_INVALID, "a rule is malformed");
        if (check_headers(headers_of(list), err) < 0)
            return -1;
    }
    return 0;
}

struct policy *policy_parse(const char *text, size_t len, struct err *err)
{
    struct policy *policy = mem_zalloc(sizeof(*policy));
    json_t *json = json_parse_object(text, len, err), *rules = NULL, *proxy = NULL;

    if (json == NULL || net_policy_parse(text, len, &policy->net, err) < 0 ||
        json_get_object(json, "rules", &rules, err) < 0 ||
        json_get_object(json, "egressProxy", &proxy, err) < 0 || check_rules(rules, err) < 0 ||
        (proxy != NULL && parse_proxy(proxy, &policy->proxy, err) < 0)) {
        json_decref(json);
        policy_free(policy);
        return NULL;
    }
    policy->has_proxy = proxy != NULL;
    policy->rules = json_incref(rules);
    json_decref(json);
    return policy;
}

json_t *policy_headers(const struct policy *policy, const char *name)
{
    size_t best = 0, len = strlen(name);
    json_t *list, *found = NULL;
    const char *host;

    json_object_foreach(policy->rules, host, list) {
        size_t size = strlen(host);
        bool wildcard = host[0] == '*';
        if (!net_host_match(host, name, len) || headers_of(list) == NULL)
            continue;
        if (!wildcard)
            return headers_of(list);
        if (size > best) {
            best = size;
            found = headers_of(list);
        }
    }
    return found;
}

static bool is_dns(const struct policy *policy, uint32_t address, uint16_t port)
{
    if (port != DNS_PORT)
        return false;
    for (size_t i = 0; i < policy->net.dns_count; i++) {
        if (policy->net.dns[i] == address)
            return true;
    }
    return false;
}

bool policy_wants_name(const struct policy *policy, uint32_t address, uint16_t port)
{
    switch (net_policy_address(&policy->net, address)) {
    case NET_NEVER:
        return false;
    case NET_DENIED:
    case NET_PRIVATE:
        return !is_dns(policy, address, port) && policy->net.host_count > 0;
    default:
        return json_object_size(policy->rules) > 0;
    }
}

enum verdict policy_decide(const struct policy *policy, uint32_t address, uint16_t port,
                           const char *name, const char **why)
{
    enum net_verdict net = net_policy_address(&policy->net, address);
    bool listed = name[0] != '\0' && net_policy_host(&policy->net, name, strlen(name));

    if (net == NET_NEVER) {
        *why = "this address is never reached";
        return VERDICT_REFUSE;
    }
    if (is_dns(policy, address, port))
        return VERDICT_ADDRESS;
    if (net == NET_OPEN || net == NET_ALLOWED) /* a rule's name decides where its headers go */
        return name[0] != '\0' && policy_headers(policy, name) != NULL ? VERDICT_NAME
                                                                       : VERDICT_ADDRESS;
    if (listed)
        return VERDICT_NAME;
    *why = net == NET_PRIVATE ? "private networks are only reached when allowOut names them"
           : name[0] == '\0'  ? "denyOut covers the address, and no name is known to allow it"
                              : "denyOut covers the address, and allowOut does not have the name";
    return VERDICT_REFUSE;
}

bool policy_resolved_ok(const struct policy *policy, uint32_t resolved, bool listed)
{
    enum net_verdict net = net_policy_address(&policy->net, resolved);

    return net == NET_OPEN || net == NET_ALLOWED || (net == NET_DENIED && listed);
}
