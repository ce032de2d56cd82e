#include <errno.h>
#include <jwt.h>
#include <stdbool.h>

#include "server/auth/auth.h"
#include "server/base/mem.h"

static void cleanup_jwt(jwt_t **jwt)
{
    jwt_free(*jwt);
}

static int make(const uint8_t key[SHA256_BYTES], const char *sandbox_id, const char *user,
                bool platform, int64_t now_unix_s, char **out, struct err *err)
{
    _cleanup_(cleanup_jwt) jwt_t *jwt = NULL;
    char *text = NULL;
    int rc = jwt_new(&jwt);

    if (rc == 0)
        rc = jwt_set_alg(jwt, JWT_ALG_HS256, key, SHA256_BYTES);
    if (rc == 0)
        rc = jwt_add_grant(jwt, "sub", sandbox_id);
    if (rc == 0 && user != NULL)
        rc = jwt_add_grant(jwt, "user", user);
    if (rc == 0 && platform)
        rc = jwt_add_grant_bool(jwt, "platform", 1);
    if (rc == 0)
        rc = jwt_add_grant_int(jwt, "iat", (long)now_unix_s);
    if (rc == 0)
        rc = jwt_add_grant_int(jwt, "exp", (long)(now_unix_s + JWT_LIFE_S));
    if (rc == 0)
        text = jwt_encode_str(jwt);
    if (text == NULL)
        return err_sys(err, rc != 0 ? rc : ENOMEM, "cannot make a token for envd");
    *out = text;
    return 0;
}

int auth_jwt(const uint8_t key[SHA256_BYTES], const char *sandbox_id, const char *user,
             int64_t now_unix_s, char **out, struct err *err)
{
    return make(key, sandbox_id, user, false, now_unix_s, out, err);
}

int auth_jwt_platform(const uint8_t key[SHA256_BYTES], const char *sandbox_id, int64_t now_unix_s,
                      char **out, struct err *err)
{
    return make(key, sandbox_id, NULL, true, now_unix_s, out, err);
}
