/*
 * server/gateway/socks.h - what a SOCKS5 client says and hears.
 *
 * Pure. Any thread. Source: RFC 1928, RFC 1929.
 */
#ifndef SANDPIT_GATEWAY_SOCKS_H
#define SANDPIT_GATEWAY_SOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOCKS_TEXT_MAX 255 /* bytes of a user's name, of a password, of a host name */
#define SOCKS_SEND_MAX 520
#define SOCKS_REPLY_MAX 262

enum socks_method {
    SOCKS_METHOD_NONE = 0,
    SOCKS_METHOD_PASSWORD = 2,
};

/* Each writes to OUT (SOCKS_SEND_MAX bytes) and returns the length; 0: a text is too long. */
size_t socks_greeting(bool password, uint8_t *out);
size_t socks_password(const char *user, const char *password, uint8_t *out);
/* To NAME, or when that is NULL to ADDRESS (host order). */
size_t socks_connect(const char *name, uint32_t address, uint16_t port, uint8_t *out);

/*
 * The size of the answer to a connect, of which DATA has the first LEN bytes: how many are needed
 * before more can be told (at least LEN + 1), or exactly LEN when it is complete. 0: malformed.
 */
size_t socks_reply_size(const uint8_t *data, size_t len);
/* What the code in a complete answer says; NULL for success. Static. */
const char *socks_reply_error(const uint8_t *data);

#endif
