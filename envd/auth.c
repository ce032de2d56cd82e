#include "envd/auth.h"

#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

static int refused(struct err *err)
{
    return err_set(err, ERR_UNAUTHENTICATED, "%s", AUTH_REFUSED);
}

/* The credentials of AUTHORIZATION when its scheme is SCHEME, else NULL. */
static const char *credentials(const char *authorization, const char *scheme)
{
    size_t len = strlen(scheme);

    if (authorization == NULL || strcspn(authorization, " ") != len ||
        !mem_is_nocase(authorization, len, scheme))
        return NULL;
    authorization += len;
    return authorization + strspn(authorization, " ");
}

bool auth_token_equal(const struct settings *settings, const char *token)
{
    return settings->access_token != NULL && token != NULL &&
           hash_equal_str(token, strlen(token), settings->access_token);
}

static void take_user(struct auth *out, const char *name, size_t len)
{
    out->has_user = len > 0 && str_copy(out->user, sizeof(out->user), name, len) == 0;
}

/* "user:ignored" in base64. What cannot be read names nobody, as an absent header. */
static void basic_user(const char *text, struct auth *out)
{
    uint8_t raw[USER_NAME_SIZE * 2];
    size_t len = strlen(text), raw_len;
    const uint8_t *colon;

    if (len / 4 * 3 + 3 > sizeof(raw) || base64_decode(text, len, raw, &raw_len) < 0)
        return;
    colon = memchr(raw, ':', raw_len);
    if (colon != NULL)
        take_user(out, (const char *)raw, (size_t)(colon - raw));
}

static int bearer(const struct settings *settings, const char *token, struct auth *out,
                  struct err *err)
{
    struct jwt_claims claims;

    if (jwt_verify(token, strlen(token), settings->jwt_key.bytes, settings->jwt_key.len,
                   time_unix_ms() / 1000, &claims) < 0)
        return refused(err);
    if (settings->sandbox_id[0] != '\0' && !str_eq(claims.subject, settings->sandbox_id))
        return refused(err);
    out->jwt_valid = true;
    out->platform = claims.platform;
    take_user(out, claims.user, strlen(claims.user));
    return 0;
}

/* A client of the sandbox has neither: the platform alone signs such a claim. */
static int platform_met(const struct settings *settings, const struct auth_headers *headers,
                        const struct auth *auth, struct err *err)
{
    if (settings->has_jwt_key ? auth->platform : auth_token_equal(settings, headers->access_token))
        return 0;
    return refused(err);
}

static int need_met(const struct settings *settings, enum route_auth need,
                    const struct auth_headers *headers, const struct auth *auth, struct err *err)
{
    bool token_set = settings->access_token != NULL;

    if (settings->insecure || need == ROUTE_OPEN)
        return 0;
    if (need == ROUTE_PLATFORM)
        return platform_met(settings, headers, auth, err);
    if (token_set && need != ROUTE_FILES && !auth_token_equal(settings, headers->access_token))
        return refused(err);
    if (!token_set && settings->has_jwt_key && need != ROUTE_TOKEN_ONLY && !auth->jwt_valid)
        return refused(err);
    return 0;
}

int auth_check(const struct settings *settings, enum route_auth need,
               const struct auth_headers *headers, struct auth *out, struct err *err)
{
    const char *token = credentials(headers->authorization, "Bearer");
    const char *basic = credentials(headers->authorization, "Basic");
    struct auth auth = {0};

    if (basic != NULL)
        basic_user(basic, &auth);
    if (token != NULL && settings->has_jwt_key && bearer(settings, token, &auth, err) < 0)
        return -1;
    if (need_met(settings, need, headers, &auth, err) < 0)
        return -1;
    *out = auth;
    return 0;
}
