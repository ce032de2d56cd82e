#include "server/gateway/socks.h"

#include <string.h>

#define VERSION 5
#define PASSWORD_VERSION 1
#define COMMAND_CONNECT 1
#define TYPE_IPV4 1
#define TYPE_NAME 3
#define TYPE_IPV6 4
#define HEAD 4 /* version, code, reserved, type */

size_t socks_greeting(bool password, uint8_t *out)
{
    out[0] = VERSION;
    out[1] = 1;
    out[2] = password ? SOCKS_METHOD_PASSWORD : SOCKS_METHOD_NONE;
    return 3;
}

size_t socks_password(const char *user, const char *password, uint8_t *out)
{
    size_t user_len = strlen(user), password_len = strlen(password);

    if (user_len == 0 || user_len > SOCKS_TEXT_MAX || password_len > SOCKS_TEXT_MAX)
        return 0;
    out[0] = PASSWORD_VERSION;
    out[1] = (uint8_t)user_len;
    memcpy(out + 2, user, user_len);
    out[2 + user_len] = (uint8_t)password_len;
    memcpy(out + 3 + user_len, password, password_len);
    return 3 + user_len + password_len;
}

size_t socks_connect(const char *name, uint32_t address, uint16_t port, uint8_t *out)
{
    size_t used = HEAD;

    out[0] = VERSION;
    out[1] = COMMAND_CONNECT;
    out[2] = 0;
    if (name != NULL) {
        size_t len = strlen(name);
        if (len == 0 || len > SOCKS_TEXT_MAX)
            return 0;
        out[3] = TYPE_NAME;
        out[used++] = (uint8_t)len;
        memcpy(out + used, name, len);
        used += len;
    } else {
        out[3] = TYPE_IPV4;
        for (int shift = 24; shift >= 0; shift -= 8)
            out[used++] = (uint8_t)(address >> shift);
    }
    out[used++] = (uint8_t)(port >> 8);
    out[used++] = (uint8_t)port;
    return used;
}

size_t socks_reply_size(const uint8_t *data, size_t len)
{
    size_t address;

    if (len > 0 && data[0] != VERSION)
        return 0;
    if (len < HEAD + 1)
        return HEAD + 1;
    if (data[3] == TYPE_IPV4)
        address = 4;
    else if (data[3] == TYPE_IPV6)
        address = 16;
    else if (data[3] == TYPE_NAME)
        address = 1 + (size_t)data[4];
    else
        return 0;
    return HEAD + address + 2;
}

const char *socks_reply_error(const uint8_t *data)
{
    static const char *const words[] = {
        NULL,
        "the proxy failed",
        "the proxy's rules do not allow it",
        "network unreachable",
        "host unreachable",
        "connection refused",
        "the time to live ran out",
        "the proxy does not know the command",
        "the proxy does not know the kind of address",
    };

    return data[1] < sizeof(words) / sizeof(words[0]) ? words[data[1]] : "the proxy failed";
}
