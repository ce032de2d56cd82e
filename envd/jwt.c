#include <stdlib.h>
#include <string.h>

#include "envd/auth.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"

/* One base64url part as a JSON object; NULL when it is not one. */
static json_t *part(const char *text, size_t len)
{
    _cleanup_free_ uint8_t *raw = mem_zalloc(len / 4 * 3 + 3);
    struct err err;
    size_t raw_len;

    if (len == 0 || base64_decode(text, len, raw, &raw_len) < 0 || raw_len == 0)
        return NULL;
    return json_parse_object((const char *)raw, raw_len, &err);
}

static bool signature_ok(const char *token, size_t signed_len, const char *signature, size_t len,
                         const uint8_t *key, size_t key_len)
{
    uint8_t want[SHA256_BYTES], got[64];
    size_t got_len;

    if (len > 60 || base64_decode(signature, len, got, &got_len) < 0 || got_len != sizeof(want))
        return false;
    hash_hmac_sha256(key, key_len, token, signed_len, want);
    return hash_equal(got, want, sizeof(want));
}

/* The header names HS256 and nothing that we would have to understand (RFC 7515 "crit"). */
static bool header_ok(const char *text, size_t len)
{
    _cleanup_json_ json_t *header = part(text, len);
    const char *alg = NULL;
    struct err err;

    return header != NULL && json_get_str(header, "alg", &alg, &err) == 0 && alg != NULL &&
           str_eq(alg, "HS256") && !json_has(header, "crit");
}

static int claims_read(const char *text, size_t len, int64_t now_unix_s, struct jwt_claims *out)
{
    _cleanup_json_ json_t *claims = part(text, len);
    const char *subject = "", *user = "";
    bool platform = false;
    int64_t expiry = -1, not_before = 0;
    struct err err;

    if (claims == NULL || json_get_str(claims, "sub", &subject, &err) < 0 ||
        json_get_str(claims, "user", &user, &err) < 0 ||
        json_get_bool(claims, "platform", &platform, &err) < 0 ||
        json_get_i64(claims, "exp", 0, INT64_MAX / 2, &expiry, &err) < 0 ||
        json_get_i64(claims, "nbf", 0, INT64_MAX / 2, &not_before, &err) < 0)
        return -1;
    if (expiry < 0 || now_unix_s > expiry + AUTH_JWT_LEEWAY_S ||
        now_unix_s + AUTH_JWT_LEEWAY_S < not_before)
        return -1;
    if (strlen(subject) >= sizeof(out->subject) || strlen(user) >= sizeof(out->user))
        return -1;
    str_copy(out->subject, sizeof(out->subject), subject, strlen(subject));
    str_copy(out->user, sizeof(out->user), user, strlen(user));
    out->platform = platform;
    return 0;
}

int jwt_verify(const char *token, size_t len, const uint8_t *key, size_t key_len,
               int64_t now_unix_s, struct jwt_claims *out)
{
    const char *claims, *signature;
    size_t signed_len;

    if (len > AUTH_JWT_MAX_BYTES || (claims = memchr(token, '.', len)) == NULL)
        return -1;
    claims++;
    signature = memchr(claims, '.', len - (size_t)(claims - token));
    if (signature == NULL)
        return -1;
    signed_len = (size_t)(signature - token);
    signature++;
    if (!signature_ok(token, signed_len, signature, len - signed_len - 1, key, key_len))
        return -1;
    if (!header_ok(token, (size_t)(claims - token) - 1))
        return -1;
    return claims_read(claims, (size_t)(signature - claims) - 1, now_unix_s, out);
}
