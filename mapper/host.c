#include "mapper/host.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "server/base/str.h"

/* A Host header in its parts. Slices borrow. */
struct host_name {
    const char *name; /* without port, brackets and trailing dot */
    size_t len;
    bool ip; /* an IPv4 or bracketed IPv6 literal */
};

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s", what);
}

/* Four decimal groups: an IPv4 literal (RFC 3986 section 3.2.2), ranges not checked. */
static bool is_ipv4(const char *s, size_t len)
{
    size_t digits = 0, dots = 0;

    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.' && digits > 0) {
            dots++;
            digits = 0;
        } else if (!isdigit((unsigned char)s[i]) || ++digits > 3) {
            return false;
        }
    }
    return dots == 3 && digits > 0;
}

/* Cut ":port" off; everything after the last ':' must be digits. */
static int cut_port(const char *s, size_t *len)
{
    const char *colon = memrchr(s, ':', *len);
    uint64_t port;
    struct err ignored;

    if (colon == NULL)
        return 0;
    size_t digits = *len - (size_t)(colon - s) - 1;
    if (digits > 0 && str_to_u64(colon + 1, digits, 0, UINT16_MAX, "port", &port, &ignored) < 0)
        return -1;
    *len = (size_t)(colon - s);
    return 0;
}

static int split_host(const char *host, size_t len, struct host_name *out)
{
    if (len == 0 || len > HOST_MAX_BYTES)
        return -1;
    if (host[0] == '[') {
        const char *end = memchr(host, ']', len);
        if (end == NULL || end == host + 1)
            return -1;
        size_t rest = len - (size_t)(end + 1 - host);
        if (rest > 0 && (end[1] != ':' || cut_port(end + 1, &rest) < 0 || rest != 0))
            return -1;
        *out = (struct host_name){host + 1, (size_t)(end - host) - 1, true};
        return 0;
    }
    if (cut_port(host, &len) < 0 || memchr(host, ':', len) != NULL)
        return -1;
    if (len > 0 && host[len - 1] == '.')
        len--;
    if (len == 0)
        return -1;
    *out = (struct host_name){host, len, is_ipv4(host, len)};
    return 0;
}

/* NAME (LEN bytes) is DOMAIN, its port ignored; any name is when DOMAIN is NULL. */
static bool domain_is(const char *name, size_t len, const char *domain)
{
    size_t domain_len;

    if (domain == NULL)
        return true;
    domain_len = strcspn(domain, ":");
    if (domain_len > 0 && domain[domain_len - 1] == '.')
        domain_len--;
    return len == domain_len && strncasecmp(name, domain, len) == 0;
}

/* An id in a host name, where letter case means nothing. */
static int parse_label_id(const char *s, size_t len, char out[SANDBOX_ID_SIZE], struct err *err)
{
    char lower[HOST_MAX_BYTES];

    if (len == 0 || len > sizeof(lower))
        return bad(err, "Invalid sandbox ID");
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)tolower((unsigned char)s[i]);
    return sandbox_id_parse(lower, len, out, err);
}

/* An unsigned number of 64 bits; 0 in *PORT when it is outside 1..65535. */
static int parse_port(const char *s, size_t len, uint16_t *port, struct err *err)
{
    struct err ignored;
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)s[i]))
            return bad(err, "Invalid sandbox port");
    if (len == 0)
        return bad(err, "Invalid sandbox port");
    if (str_to_u64(s, len, 0, UINT64_MAX, "port", &value, &ignored) < 0)
        return bad(err, "Invalid sandbox port");
    *port = value <= UINT16_MAX ? (uint16_t)value : 0;
    return 0;
}

static int finish(struct host_target *target, struct host_target *out, struct err *err)
{
    *out = *target;
    if (target->port == 0)
        return err_set(err, ERR_NOT_FOUND, "port outside 1 to 65535");
    return 0;
}

static int from_headers(const char *id_header, const char *port_header, struct host_target *out,
                        struct err *err)
{
    struct host_target target = {.kind = HOST_SANDBOX};
    bool has_id = id_header != NULL && id_header[0] != '\0';
    bool has_port = port_header != NULL && port_header[0] != '\0';

    if (!has_id && !has_port)
        return bad(err, "Invalid host");
    if (!has_id || !has_port)
        return bad(err, "missing header");
    if (sandbox_id_parse(id_header, strlen(id_header), target.id, err) < 0 ||
        parse_port(port_header, strlen(port_header), &target.port, err) < 0)
        return -1;
    return finish(&target, out, err);
}

/*
 * The first label: "<port>-<id>[-<client>]", or "<id>" alone, which must be a whole id ('i' and 20
 * more), so that any other name stays an invalid host and not an unknown sandbox.
 */
static int from_label(const char *label, size_t len, struct host_target *out, struct err *err)
{
    struct host_target target = {.kind = HOST_SANDBOX, .port = HOST_DEFAULT_PORT};
    const char *dash = memchr(label, '-', len);
    const char *id = label;
    size_t id_len = len;

    if (dash != NULL) {
        if (parse_port(label, (size_t)(dash - label), &target.port, err) < 0)
            return -1;
        id = dash + 1;
        id_len = len - (size_t)(id - label);
        dash = memchr(id, '-', id_len);
        if (dash != NULL)
            id_len = (size_t)(dash - id);
    } else if (len != SANDBOX_ID_CHARS + 1 || tolower((unsigned char)label[0]) != 'i') {
        return bad(err, "Invalid host");
    }
    if (parse_label_id(id, id_len, target.id, err) < 0)
        return -1;
    return finish(&target, out, err);
}

int host_parse(const char *host, size_t host_len, const char *domain, const char *id_header,
               const char *port_header, struct host_target *out, struct err *err)
{
    struct host_name name;
    const char *dot;

    if (split_host(host, host_len, &name) < 0)
        return bad(err, "Invalid host");
    if (name.ip || mem_is_nocase(name.name, name.len, "localhost"))
        return from_headers(id_header, port_header, out, err);
    dot = memchr(name.name, '.', name.len);
    if (dot == NULL)
        return bad(err, "Invalid host");
    size_t label_len = (size_t)(dot - name.name);
    if (!domain_is(dot + 1, name.len - label_len - 1, domain))
        return bad(err, "Invalid host");
    if (mem_is_nocase(name.name, label_len, "sandbox"))
        return from_headers(id_header, port_header, out, err);
    if (mem_is_nocase(name.name, label_len, "api")) {
        *out = (struct host_target){.kind = HOST_API};
        return 0;
    }
    return from_label(name.name, label_len, out, err);
}
