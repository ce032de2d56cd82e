#include "server/auth/volume_token.h"

#include <errno.h>
#include <jwt.h>
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/team.h"

#define KEY_ID "volumes-1" /* the header "kid": which of our keys signed */
#define AUDIENCE_PREFIX "https://api."
#define ISSUER "sandpit"
#define TYPE "local"

static void cleanup_jwt(jwt_t **jwt)
{
    jwt_free(*jwt);
}

static void audience(const char *domain, char out[300])
{
    snprintf(out, 300, AUDIENCE_PREFIX "%.250s", domain != NULL ? domain : "localhost");
}

int volume_token_make(const uint8_t key[SHA256_BYTES], const struct identity *who,
                      const char *volume_id, const char *domain, int64_t now_unix_s, char **out,
                      struct err *err)
{
    _cleanup_(cleanup_jwt) jwt_t *jwt = NULL;
    char aud[300], jti[UUID_SIZE], team[UUID_SIZE], scopes[KEY_SCOPES_SIZE], *text = NULL;
    const char *const grants[][2] = {
        {"aud", aud},
        {"iss", ISSUER},
        {"jti", jti},
        {"sub", team},
        {"teamid", team},
        {"volid", volume_id},
        {"voltype", TYPE},
        {"scope", scopes},
        {"namespace", who->namespace_},
        {"client", who->client},
    };
    int rc = jwt_new(&jwt);

    audience(domain, aud);
    hash_random_uuid(jti);
    team_id(who->namespace_, team);
    key_scopes_format(who->scopes & (SCOPE_READ | SCOPE_WRITE), scopes);
    if (rc == 0)
        rc = jwt_set_alg(jwt, JWT_ALG_HS256, key, SHA256_BYTES);
    if (rc == 0)
        rc = jwt_add_header(jwt, "kid", KEY_ID);
    for (size_t i = 0; rc == 0 && i < array_size(grants); i++)
        rc = jwt_add_grant(jwt, grants[i][0], grants[i][1]);
    if (rc == 0)
        rc = jwt_add_grant_int(jwt, "iat", (long)now_unix_s);
    if (rc == 0)
        rc = jwt_add_grant_int(jwt, "nbf", (long)now_unix_s);
    if (rc == 0)
        rc = jwt_add_grant_int(jwt, "exp", (long)(now_unix_s + VOLUME_TOKEN_LIFE_S));
    if (rc == 0)
        text = jwt_encode_str(jwt);
    if (text == NULL)
        return err_sys(err, rc != 0 ? rc : ENOMEM, "cannot make a token for a volume");
    *out = text;
    return 0;
}

static int refuse(struct err *err)
{
    return err_set(err, ERR_UNAUTHENTICATED, "Invalid volume token");
}

/* The text claim NAME into OUT. */
static bool claim(jwt_t *jwt, const char *name, char *out, size_t size)
{
    const char *text = jwt_get_grant(jwt, name);

    return text != NULL && str_copy(out, size, text, strlen(text)) == 0;
}

static int read_claims(jwt_t *jwt, int64_t now_unix_s, char volume_id[UUID_SIZE],
                       struct identity *out, struct err *err)
{
    char issuer[16], scopes[KEY_SCOPES_SIZE], team[UUID_SIZE], expected[UUID_SIZE];
    struct err ignored = {0};

    if (jwt_get_alg(jwt) != JWT_ALG_HS256 || !claim(jwt, "iss", issuer, sizeof(issuer)) ||
        !str_eq(issuer, ISSUER) || !claim(jwt, "volid", volume_id, UUID_SIZE) ||
        !claim(jwt, "namespace", out->namespace_, sizeof(out->namespace_)) ||
        !claim(jwt, "client", out->client, sizeof(out->client)) ||
        !claim(jwt, "teamid", team, sizeof(team)) || !claim(jwt, "scope", scopes, sizeof(scopes)) ||
        key_scopes_parse(scopes, &out->scopes, &ignored) < 0)
        return refuse(err);
    team_id(out->namespace_, expected);
    if (!str_eq(team, expected))
        return refuse(err);
    if (jwt_get_grant_int(jwt, "exp") <= now_unix_s)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "The volume token has expired: get the volume again for a fresh one");
    /* a minute for clocks that differ */
    return jwt_get_grant_int(jwt, "nbf") > now_unix_s + 60 ? refuse(err) : 0;
}

int volume_token_check(const uint8_t key[SHA256_BYTES], const char *text, const char *volume_id,
                       int64_t now_unix_s, struct identity *out, struct err *err)
{
    _cleanup_(cleanup_jwt) jwt_t *jwt = NULL;
    struct identity who = {.scopes = 0};
    char named[UUID_SIZE];

    if (strlen(text) > VOLUME_TOKEN_MAX || jwt_decode(&jwt, text, key, SHA256_BYTES) != 0)
        return refuse(err);
    if (read_claims(jwt, now_unix_s, named, &who, err) < 0)
        return -1;
    if (!str_eq(named, volume_id))
        return err_set(err, ERR_NOT_FOUND, "Volume not found");
    *out = who;
    return 0;
}
