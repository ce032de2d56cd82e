/*
 * envd/auth.h - who asks: access token, JWT of the proxy, user name.
 *
 * Pure but for the user look-up. Any thread. Rules:
 *   - a key for JWTs is known and the request has "Authorization: Bearer": it must verify
 *     (HS256, expiry, subject), else 401;
 *   - an access token is set: guarded routes need it in X-Access-Token; a JWT does not replace it;
 *   - none is set but a key is: guarded routes and /files need a valid JWT, so that a process in
 *     the sandbox that talks to this port is refused;
 *   - what only the platform may ask for (ROUTE_PLATFORM) needs a JWT with the claim
 *     "platform": true, which the proxy never makes for a client; the access token is not needed
 *     then. Where no key is known, the access token; with neither it is refused;
 *   - --insecure: everything is open.
 * Source: envd-api section 6; RFC 7519, RFC 7515 (HS256 only), RFC 7617.
 */
#ifndef ENVD_AUTH_H
#define ENVD_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "envd/config.h"
#include "envd/route.h"
#include "envd/user.h"
#include "server/base/err.h"

#define AUTH_REFUSED                                                                               \
    "unauthorized access, please provide a valid access token or method signing if supported"
#define AUTH_JWT_MAX_BYTES 8192
#define AUTH_JWT_LEEWAY_S 5 /* clocks of sandbox and server may differ a little */

struct auth_headers { /* of the request; NULL when absent */
    const char *authorization;
    const char *access_token;
};

struct auth {
    bool jwt_valid;
    bool platform; /* the JWT is the platform's own */
    bool has_user;
    char user[USER_NAME_SIZE]; /* of the JWT or Basic; not looked up yet */
};

/* Returns 0 and fills *OUT, or -1 with ERR_UNAUTHENTICATED (message AUTH_REFUSED). */
int auth_check(const struct settings *settings, enum route_auth need,
               const struct auth_headers *headers, struct auth *out, struct err *err);

/* TOKEN equals the access token that is set, in constant time. False when none is set. */
bool auth_token_equal(const struct settings *settings, const char *token);

struct jwt_claims {
    char subject[128];
    char user[USER_NAME_SIZE]; /* "" when there is none */
    bool platform;
};
/*
 * Verify a compact HS256 token of LEN bytes at NOW_UNIX_S. Returns 0 and *OUT, or -1: another
 * algorithm, a wrong signature, no or a passed expiry, a claim of the wrong type or too long.
 */
int jwt_verify(const char *token, size_t len, const uint8_t *key, size_t key_len,
               int64_t now_unix_s, struct jwt_claims *out);

#endif
