/*
 * server/api/network.c - "network" and "allow_internet_access" of a create, and PUT …/network.
 */
#include "server/api/network.h"

#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/network.h"

#define CREDENTIAL_MAX 255 /* bytes of a SOCKS5 user name or password, RFC 1929 */
#define CA_CERT_MAX (64 * 1024)
#define PORT_MAX 65535
#define PORT_TEXT "${PORT}"

/* KEY of BODY is an array of at most MAX strings. *OUT NULL: absent. */
static int get_strings(const json_t *body, const char *key, size_t max, json_t **out,
                       struct err *err)
{
    json_t *list = NULL, *item;
    size_t i;

    if (json_get_array(body, key, &list, err) < 0)
        return error_schema(err);
    if (json_array_size(list) > max)
        return err_set(err, ERR_INVALID, "network.%s must have at most %zu entries", key, max);
    json_array_foreach(list, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_INVALID, "validation error: field '%s' must hold strings", key);
    }
    *out = list;
    return 0;
}

/* 64 characters are enough to tell which entry it was. */
static int invalid(struct err *err, const char *what, const json_t *item, const char *why)
{
    return err_set(err, ERR_INVALID, "invalid %s %.64s%s", what, json_string_value(item), why);
}

static int check_allow(const json_t *list, bool *hosts, struct err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        struct net_cidr cidr;
        bool ipv6 = false;
        if (net_cidr_parse(json_string_value(item), json_string_length(item), &cidr, &ipv6) == 0) {
            if (ipv6)
                return invalid(err, "allowed address", item, ": sandboxes have no IPv6");
            continue;
        }
        if (!net_host_valid(json_string_value(item), json_string_length(item), true))
            return invalid(err, "allowed address", item, "");
        *hosts = true;
    }
    return 0;
}

static int check_deny(const json_t *list, bool *all, struct err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        struct net_cidr cidr = {.prefix = 32};
        bool ipv6 = false; /* holds anyway */
        if (net_cidr_parse(json_string_value(item), json_string_length(item), &cidr, &ipv6) < 0)
            return invalid(err, "denied CIDR", item, "");
        *all |= !ipv6 && cidr.prefix == 0;
    }
    return 0;
}

static int check_dns(const json_t *list, struct err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        struct net_cidr cidr = {.prefix = 0};
        bool ipv6 = false;
        if (net_cidr_parse(json_string_value(item), json_string_length(item), &cidr, &ipv6) < 0 ||
            ipv6 || strchr(json_string_value(item), '/') != NULL)
            return invalid(err, "DNS server", item, ": it must be an IPv4 address");
    }
    return 0;
}

/* "host:port" with a name or an IPv4 address. */
static bool host_port(const char *s)
{
    const char *colon = strrchr(s, ':');
    struct net_cidr cidr;
    struct err ignored = {0};
    bool ipv6 = false;
    uint64_t port;
    size_t len;

    if (colon == NULL ||
        str_to_u64(colon + 1, strlen(colon + 1), 1, PORT_MAX, "port", &port, &ignored) < 0)
        return false;
    len = (size_t)(colon - s);
    if (memchr(s, '/', len) == NULL && net_cidr_parse(s, len, &cidr, &ipv6) == 0)
        return !ipv6;
    return net_host_valid(s, len, false) || mem_is(s, len, "localhost");
}

static int parse_proxy_tls(const json_t *proxy, struct err *err)
{
    json_t *tls = NULL;
    const char *name = NULL, *ca = NULL;
    bool enabled = false;

    if (json_get_object(proxy, "tls", &tls, err) < 0)
        return error_schema(err);
    if (tls == NULL)
        return 0;
    if (json_get_bool(tls, "enabled", &enabled, err) < 0 ||
        json_get_str(tls, "serverName", &name, err) < 0 ||
        json_get_str(tls, "caCert", &ca, err) < 0)
        return error_schema(err);
    if (name != NULL && name[0] != '\0' && !net_host_valid(name, strlen(name), false))
        return err_set(err, ERR_INVALID, "egressProxy.tls.serverName must be a host name");
    if (ca != NULL &&
        (strlen(ca) > CA_CERT_MAX || strstr(ca, "-----BEGIN CERTIFICATE-----") == NULL))
        return err_set(
            err, ERR_INVALID,
            "egressProxy.tls.caCert must be a certificate in PEM form of at most %d bytes",
            CA_CERT_MAX);
    return 0;
}

static int check_proxy(const json_t *proxy, struct err *err)
{
    const char *address = NULL, *user = NULL, *password = NULL;

    if (json_get_str(proxy, "address", &address, err) < 0 ||
        json_get_str(proxy, "username", &user, err) < 0 ||
        json_get_str(proxy, "password", &password, err) < 0)
        return error_schema(err);
    if (address == NULL || !host_port(address))
        return err_set(err, ERR_INVALID, "invalid egress proxy address %.64s: it must be host:port",
                       address != NULL ? address : "");
    if ((user != NULL && strlen(user) > CREDENTIAL_MAX) ||
        (password != NULL && strlen(password) > CREDENTIAL_MAX))
        return err_set(err, ERR_INVALID,
                       "egress proxy username and password must have at most %d bytes",
                       CREDENTIAL_MAX);
    if (password != NULL && password[0] != '\0' && (user == NULL || user[0] == '\0'))
        return err_set(err, ERR_INVALID, "egress proxy password needs a username");
    return parse_proxy_tls(proxy, err);
}

static void keep(const json_t *body, const char *key, json_t *kept)
{
    if (json_has(body, key))
        json_put(kept, key, json_deep_copy(json_object_get(body, key)));
}

int network_egress_parse(const json_t *body, bool denied, json_t *kept, struct err *err)
{
    json_t *allow = NULL, *deny = NULL, *dns = NULL, *proxy = NULL;
    bool hosts = false, all = false;

    if (get_strings(body, "allowOut", NET_LIST_MAX, &allow, err) < 0 ||
        get_strings(body, "denyOut", NET_LIST_MAX, &deny, err) < 0 ||
        get_strings(body, "dnsServers", NET_DNS_SERVERS_MAX, &dns, err) < 0 ||
        check_deny(deny, &all, err) < 0 || check_allow(allow, &hosts, err) < 0 ||
        check_dns(dns, err) < 0)
        return -1;
    if (hosts && !all && !denied)
        return err_set(err, ERR_INVALID,
                       "When specifying allowed domains in allow out, you must include "
                       "'ALL_TRAFFIC' in deny out to block all other traffic.");
    if (json_get_object(body, "egressProxy", &proxy, err) < 0)
        return error_schema(err);
    if (proxy != NULL && check_proxy(proxy, err) < 0)
        return -1;
    keep(body, "allowOut", kept);
    keep(body, "denyOut", kept);
    keep(body, "dnsServers", kept);
    keep(body, "egressProxy", kept);
    return network_rules_parse(body, kept, err);
}

/* S, with a port in place of "${PORT}", is host[:port] in ASCII. */
static bool mask_ok(const char *s)
{
    const char *mark = strstr(s, PORT_TEXT);
    _cleanup_free_ char *text =
        mark == NULL ? mem_strdup(s)
                     : mem_asprintf("%.*s8080%s", (int)(mark - s), s, mark + strlen(PORT_TEXT));
    const char *colon = strrchr(text, ':');
    struct err ignored = {0};
    uint64_t port;

    if (text[0] == '\0' || strlen(s) >= NET_MASK_HOST_SIZE || strstr(text, PORT_TEXT) != NULL)
        return false;
    if (colon != NULL && strchr(colon, ']') == NULL) {
        if (colon == text ||
            str_to_u64(colon + 1, strlen(colon + 1), 1, PORT_MAX, "port", &port, &ignored) < 0)
            return false;
        text[colon - text] = '\0';
    }
    if (text[0] == '[')
        return text[strspn(text, "[0123456789abcdefABCDEF:.")] == ']' && str_ends(text, "]") &&
               strchr(text, ']') == text + strlen(text) - 1;
    return text[strspn(
               text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] == '\0';
}

static int check_https_ports(const json_t *list, struct err *err)
{
    size_t count = json_array_size(list);

    if (count > NET_HTTPS_PORTS_MAX)
        return err_set(err, ERR_INVALID, "network.httpsPorts must have at most %d entries",
                       NET_HTTPS_PORTS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t port = json_integer_value(item);
        if (!json_is_integer(item) || port < 1 || port > PORT_MAX)
            return err_set(err, ERR_INVALID,
                           "validation error: field 'httpsPorts' must hold ports from 1 to %d",
                           PORT_MAX);
        if (port == ENVD_PORT)
            return err_set(err, ERR_INVALID, "port %d cannot be in network.httpsPorts", ENVD_PORT);
    }
    return 0;
}

int network_ingress_parse(const json_t *body, json_t *kept, bool *public_traffic, struct err *err)
{
    const char *mask = NULL;
    json_t *ports = NULL;

    if (json_get_bool(body, "allowPublicTraffic", public_traffic, err) < 0 ||
        json_get_str(body, "maskRequestHost", &mask, err) < 0 ||
        json_get_array(body, "httpsPorts", &ports, err) < 0)
        return error_schema(err);
    if (mask != NULL && mask[0] != '\0' && !mask_ok(mask))
        return err_set(err, ERR_INVALID,
                       "maskRequestHost must be an ASCII host name with an optional port");
    if (check_https_ports(ports, err) < 0)
        return -1;
    keep(body, "allowPublicTraffic", kept);
    keep(body, "maskRequestHost", kept);
    keep(body, "httpsPorts", kept);
    return 0;
}

int wire_network_parse(const json_t *body, struct create_body *out, struct err *err)
{
    struct lifecycle_create *request = &out->request;
    json_t *network = NULL;
    bool public_traffic = true;

    request->internet = true;
    if (json_get_bool(body, "allow_internet_access", &request->internet, err) < 0 ||
        json_get_object(body, "network", &network, err) < 0)
        return error_schema(err);
    request->internet_set = json_has(body, "allow_internet_access");
    if (network == NULL)
        return 0;
    out->network = json_object();
    request->network = out->network;
    if (network_ingress_parse(network, out->network, &public_traffic, err) < 0 ||
        network_egress_parse(network, !request->internet, out->network, err) < 0)
        return -1;
    if (!public_traffic && !request->secure)
        return err_set(err, ERR_INVALID,
                       "You cannot create a sandbox without public access unless you enable secure "
                       "envd access via 'secure' flag.");
    request->private_traffic = !public_traffic;
    return 0;
}

json_t *network_shown(const char *stored)
{
    struct err ignored = {0};
    json_t *network = stored != NULL ? json_parse_object(stored, strlen(stored), &ignored) : NULL;

    json_object_del(json_object_get(network, "egressProxy"), "password");
    return network;
}

/* --- PUT /sandboxes/{sandboxID}/network ------------------------------------------------------ */

struct network_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[SANDBOX_ID_SIZE];
    struct lifecycle_network network;
    json_t *kept; /* owned: what `network` borrows */
    int rc;
    struct err err;
};

static void op_free(struct network_op *op)
{
    if (op == NULL)
        return;
    if (op->reply != NULL)
        reply_unref(op->reply);
    json_decref(op->kept);
    free(op);
}

static void cleanup_op(struct network_op **op)
{
    op_free(*op);
}

static void network_run(struct work *work)
{
    struct network_op *op = container_of(work, struct network_op, work);

    op->rc = lifecycle_set_network(op->api->lifecycle, op->who.namespace_, op->id, &op->network,
                                   &op->err);
}

static void network_done(struct work *work)
{
    struct network_op *op = container_of(work, struct network_op, work);

    if (op->rc == 0)
        reply_empty(op->reply, 204);
    else
        reply_err(op->reply, &op->err);
    op_free(op);
}

static int parse_update(struct request *req, struct network_op *op, struct err *err)
{
    _cleanup_json_ json_t *body = request_json(req, err);

    if (body == NULL)
        return error_parse(err);
    op->network.internet = true;
    if (json_get_bool(body, "allow_internet_access", &op->network.internet, err) < 0)
        return error_schema(err);
    op->network.internet_set = json_has(body, "allow_internet_access");
    op->kept = json_object();
    op->network.egress = op->kept;
    return network_egress_parse(body, !op->network.internet, op->kept, err);
}

int sandbox_set_network(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct network_op *op = mem_zalloc(sizeof(*op));
    const char *id = request_param(req, "sandboxID");

    op->api = request_api(req);
    op->who = *request_identity(req);
    if (sandbox_id_parse(id, strlen(id), op->id, err) < 0 || parse_update(req, op, err) < 0)
        return -1;
    if (work_submit(request_workers(req), &op->work, network_run, network_done, err) < 0)
        return -1;                  /* queue full: ERR_BUSY */
    op->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    op = NULL;
    return 0;
}
