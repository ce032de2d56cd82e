/*
 * server/api/network.c - "network" and "allow_internet_access" of a create.
 *
 * Built: public or private traffic, and internet access as a whole. Every other rule is refused.
 */
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define ALL_TRAFFIC "0.0.0.0/0" /* the SDKs' constant */

/* Rules that would be a lie if they were accepted: field and type; empty and null are nothing. */
static const struct {
    const char *key;
    json_type type;
} unbuilt[] = {
    {"allowOut", JSON_ARRAY},         {"dnsServers", JSON_ARRAY}, {"egressProxy", JSON_OBJECT},
    {"maskRequestHost", JSON_STRING}, {"httpsPorts", JSON_ARRAY}, {"rules", JSON_OBJECT},
};

static int refuse(const json_t *network, const char *key, json_type type, struct err *err)
{
    const json_t *value = json_object_get(network, key);
    bool empty = json_is_string(value)  ? json_string_length(value) == 0
                 : json_is_array(value) ? json_array_size(value) == 0
                                        : json_object_size(value) == 0;

    if (value == NULL || json_is_null(value))
        return 0;
    if (json_typeof(value) != type)
        return err_set(err, ERR_INVALID, "validation error: field 'network.%s' must be %s", key,
                       type == JSON_ARRAY    ? "an array"
                       : type == JSON_OBJECT ? "an object"
                                             : "a string");
    return empty ? 0 : err_set(err, ERR_UNSUPPORTED, "network.%s is not supported", key);
}

/* denyOut: nothing, or all traffic. */
static int parse_deny(const json_t *network, bool *deny_all, struct err *err)
{
    json_t *deny = NULL, *item;
    size_t i;

    if (json_get_array(network, "denyOut", &deny, err) < 0)
        return error_schema(err);
    json_array_foreach(deny, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_INVALID,
                           "validation error: field 'network.denyOut' must hold strings");
        if (!str_eq(json_string_value(item), ALL_TRAFFIC))
            return err_set(err, ERR_UNSUPPORTED, "network.denyOut supports '%s' alone",
                           ALL_TRAFFIC);
        *deny_all = true;
    }
    return 0;
}

/* What is kept: the fields that are built, as they were given. */
static json_t *kept(const json_t *network, bool public_set, bool public)
{
    json_t *out = json_object();
    json_t *deny = json_object_get(network, "denyOut");

    if (public_set)
        json_put_bool(out, "allowPublicTraffic", public);
    if (json_is_array(deny))
        json_put(out, "denyOut", json_deep_copy(deny));
    return out;
}

static int parse_rules(const json_t *network, struct create_body *out, bool *deny_all,
                       struct err *err)
{
    struct lifecycle_create *request = &out->request;
    bool public = true;

    for (size_t i = 0; i < array_size(unbuilt); i++)
        if (refuse(network, unbuilt[i].key, unbuilt[i].type, err) < 0)
            return -1;
    if (json_get_bool(network, "allowPublicTraffic", &public, err) < 0)
        return error_schema(err);
    if (parse_deny(network, deny_all, err) < 0)
        return -1;
    if (!public && !request->secure)
        return err_set(err, ERR_INVALID,
                       "You cannot create a sandbox without public access unless you enable secure "
                       "envd access via 'secure' flag.");
    request->private_traffic = !public;
    out->network = kept(network, json_has(network, "allowPublicTraffic"), public);
    request->network = out->network;
    return 0;
}

int wire_network_parse(const json_t *body, struct create_body *out, struct err *err)
{
    struct lifecycle_create *request = &out->request;
    json_t *network = NULL;
    bool deny_all = false;

    request->internet = true;
    if (json_get_bool(body, "allow_internet_access", &request->internet, err) < 0 ||
        json_get_object(body, "network", &network, err) < 0)
        return error_schema(err);
    request->internet_set = json_has(body, "allow_internet_access");
    if (network != NULL && parse_rules(network, out, &deny_all, err) < 0)
        return -1;
    if (deny_all)
        request->internet = false;
    return 0;
}
