/*
 * server/api/network_rules.c - "rules" of NetworkConfig: headers put into requests to named hosts.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/network.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/network.h"

#define HOSTS_MAX 10
#define HOST_BYTES_MAX 128
#define HEADERS_MAX 20 /* of one host */
#define NAME_BYTES_MAX 64
#define VALUE_BYTES_MAX 2048
#define SECRETS_MAX 32 /* secret names of one host */
#define PLACEHOLDER "${e2b."
#define SECRET_START "${e2b.secrets."
#define TOKEN_START "${e2b.identity.tokens."

/* The distinct secret names of one host; they point into the body. */
struct names {
    const char *at[SECRETS_MAX];
    size_t len[SECRETS_MAX];
    size_t count;
};

static int add_name(struct names *names, const char *name, size_t len, const char *host,
                    struct err *err)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->len[i] == len && memcmp(names->at[i], name, len) == 0)
            return 0;
    if (names->count == SECRETS_MAX)
        return err_set(err, ERR_INVALID, "network rules for %s name more than %d secrets", host,
                       SECRETS_MAX);
    names->at[names->count] = name;
    names->len[names->count++] = len;
    return 0;
}

static int malformed(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "Network transform header contains a malformed E2B placeholder.");
}

/* The placeholders in VALUE. */
static int check_placeholders(const char *value, const char *host, struct names *names,
                              struct err *err)
{
    const char *at = value;

    while ((at = strstr(at, PLACEHOLDER)) != NULL) {
        bool token = str_starts(at, TOKEN_START);
        const char *name = at + strlen(token ? TOKEN_START : SECRET_START);
        size_t len;
        if (!token && !str_starts(at, SECRET_START))
            return malformed(err);
        len = strcspn(name, "{}");
        if (len == 0 || name[len] != '}')
            return malformed(err);
        if (token)
            return err_set(err, ERR_INVALID,
                           "identity tokens (iam) are not enabled on this server");
        if (add_name(names, name, len, host, err) < 0)
            return -1;
        at = name + len;
    }
    return 0;
}

static bool is_token(const char *s)
{
    if (s[0] == '\0')
        return false;
    for (; *s != '\0'; s++)
        if (!isalnum((unsigned char)*s) && strchr("!#$%&'*+-.^_`|~", *s) == NULL)
            return false;
    return true;
}

static bool is_value(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < ' ' && s[i] != '\t')
            return false;
    return memchr(s, 0x7f, len) == NULL;
}

static int check_header(const char *host, const char *name, const json_t *value,
                        struct names *names, struct err *err)
{
    if (strlen(name) > NAME_BYTES_MAX || !is_token(name))
        return err_set(err, ERR_INVALID,
                       "a header name in network rules for %s is not a token of at most %d bytes",
                       host, NAME_BYTES_MAX);
    if (!json_is_string(value))
        return err_set(err, ERR_INVALID,
                       "validation error: header '%s' in network rules must be a string", name);
    if (json_string_length(value) > VALUE_BYTES_MAX ||
        !is_value(json_string_value(value), json_string_length(value)))
        return err_set(
            err, ERR_INVALID,
            "the value of header '%s' in network rules must have at most %d bytes and no "
            "control characters",
            name, VALUE_BYTES_MAX);
    return check_placeholders(json_string_value(value), host, names, err);
}

static int check_rule(const char *host, const json_t *rule, struct err *err)
{
    json_t *transform = NULL, *headers = NULL, *value;
    struct names names = {.count = 0};
    const char *name;

    if (!json_is_object(rule))
        return err_set(err, ERR_INVALID, "validation error: network rules must be objects");
    if (json_get_object(rule, "transform", &transform, err) < 0 ||
        (transform != NULL && json_get_object(transform, "headers", &headers, err) < 0))
        return error_schema(err);
    if (json_object_size(headers) > HEADERS_MAX)
        return err_set(err, ERR_INVALID, "network rules for %s have more than %d headers", host,
                       HEADERS_MAX);
    json_object_foreach(headers, name, value) {
        if (check_header(host, name, value, &names, err) < 0)
            return -1;
    }
    return 0;
}

static char *lower(const char *s)
{
    char *out = mem_strdup(s);

    for (char *at = out; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    return out;
}

static int check_host(const char *host, const json_t *list, json_t *rules, struct err *err)
{
    _cleanup_free_ char *key = lower(host);

    if (strlen(host) > HOST_BYTES_MAX || !net_host_valid(host, strlen(host), true))
        return err_set(err, ERR_INVALID, "invalid domain %.64s in network rules", host);
    if (!json_is_array(list))
        return err_set(err, ERR_INVALID, "validation error: field 'rules' must hold arrays");
    if (json_array_size(list) > 1)
        return err_set(err, ERR_INVALID, "network rules for %s: only one rule is allowed", host);
    if (json_object_get(rules, key) != NULL)
        return err_set(err, ERR_INVALID, "network rules name the domain %s twice", key);
    if (json_array_size(list) == 1 && check_rule(key, json_array_get(list, 0), err) < 0)
        return -1;
    json_put(rules, key, json_deep_copy(list));
    return 0;
}

int network_rules_parse(const json_t *body, json_t *kept, struct err *err)
{
    _cleanup_json_ json_t *rules = json_object();
    json_t *given = NULL, *list;
    const char *host;

    if (json_get_object(body, "rules", &given, err) < 0)
        return error_schema(err);
    if (given == NULL)
        return 0;
    if (json_object_size(given) > HOSTS_MAX)
        return err_set(err, ERR_INVALID, "network rules name more than %d domains", HOSTS_MAX);
    json_object_foreach(given, host, list) {
        if (check_host(host, list, rules, err) < 0)
            return -1;
    }
    json_put(kept, "rules", steal_ptr(&rules));
    return 0;
}
