/*
 * server/loop/address.c - see address.h.
 */
#include "server/loop/address.h"

#include <arpa/inet.h>
#include <string.h>

#include "server/base/str.h"

static struct address from_v4(struct in_addr addr)
{
    struct address out = {.len = sizeof(struct sockaddr_in)};

    out.sa.v4.sin_family = AF_INET;
    out.sa.v4.sin_addr = addr;
    return out;
}

static struct address from_v6(struct in6_addr addr)
{
    struct address out = {.len = sizeof(struct sockaddr_in6)};

    out.sa.v6.sin6_family = AF_INET6;
    out.sa.v6.sin6_addr = addr;
    return out;
}

/* HOST without brackets. Returns how many addresses, 0 when it is none. */
static size_t parse_host(const char *host, bool brackets, struct address out[ADDRESS_MAX])
{
    struct in_addr v4;
    struct in6_addr v6;

    if (brackets) {
        if (inet_pton(AF_INET6, host, &v6) != 1)
            return 0;
        out[0] = from_v6(v6);
        return 1;
    }
    if (host[0] == '\0' || str_eq(host, "localhost")) {
        bool every = host[0] == '\0';

        out[0] = from_v4((struct in_addr){htonl(every ? INADDR_ANY : INADDR_LOOPBACK)});
        out[1] = from_v6(every ? in6addr_any : in6addr_loopback);
        return 2;
    }
    if (inet_pton(AF_INET, host, &v4) != 1)
        return 0;
    out[0] = from_v4(v4);
    return 1;
}

int address_parse(const char *text, struct address out[ADDRESS_MAX], size_t *count, struct err *err)
{
    const char *colon = strrchr(text, ':');
    struct address found[ADDRESS_MAX];
    char host[INET6_ADDRSTRLEN + 1];
    uint64_t port = 0;
    size_t host_len;
    size_t n;
    bool brackets;

    if (colon == NULL)
        return err_set(err, ERR_INVALID, "\"%s\" is not HOST:PORT, such as 127.0.0.1:3000", text);
    host_len = (size_t)(colon - text);
    brackets = host_len >= 2 && text[0] == '[' && colon[-1] == ']';
    if (str_to_u64(colon + 1, strlen(colon + 1), 0, UINT16_MAX, "a port", &port, err) < 0)
        return err_set(err, ERR_INVALID, "\"%s\" does not end with a port, 0 to 65535", text);
    if (str_copy(host, sizeof(host), text + brackets, host_len - (brackets ? 2 : 0)) < 0 ||
        (n = parse_host(host, brackets, found)) == 0)
        return err_set(err, ERR_INVALID,
                       "\"%s\" is not HOST:PORT: HOST is an IPv4 address, an IPv6 address in "
                       "brackets, localhost or nothing",
                       text);
    for (size_t i = 0; i < n; i++) {
        out[i] = found[i];
        address_set_port(&out[i], (uint16_t)port);
    }
    *count = n;
    return 0;
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->sa.any.sa_family == AF_INET6)
        address->sa.v6.sin6_port = htons(port);
    else
        address->sa.v4.sin_port = htons(port);
}

uint16_t address_port(const struct address *address)
{
    return ntohs(address->sa.any.sa_family == AF_INET6 ? address->sa.v6.sin6_port
                                                       : address->sa.v4.sin_port);
}
