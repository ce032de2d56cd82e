/* What GET and POST /files share: see envd/files.h. */
#include "envd/files.h"

#include <string.h>

#include "envd/sign.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define USERNAME_MAX_BYTES 255
#define SIGNATURE_MAX_BYTES 1024
#define EXPIRATION_MAX_BYTES 32

/* The signature of this request's query, against the access token TOKEN. */
static int check_signature(struct exchange *ex, const char *operation, const char *path,
                           const char *username, const char *token, struct err *err)
{
    _cleanup_(buf_clear) struct buf signature;
    _cleanup_(buf_clear) struct buf expiration;
    int has_signature, has_expiration;

    buf_init(&signature, SIGNATURE_MAX_BYTES);
    buf_init(&expiration, EXPIRATION_MAX_BYTES);
    has_signature = http_query_param(ex, "signature", &signature, err);
    if (has_signature < 0)
        return -1;
    has_expiration = http_query_param(ex, "signature_expiration", &expiration, err);
    if (has_expiration < 0)
        return -1;
    return sign_check(
        &(struct sign_request){.path = path,
                               .operation = operation,
                               .username = username,
                               .expiration = has_expiration == 1 ? buf_str(&expiration) : NULL},
        token, has_signature == 1 ? buf_str(&signature) : NULL, time_unix_ms() / 1000, err);
}

/* No token set: the router has decided. A token in the header counts, and alone. */
static int authorise(struct exchange *ex, const char *operation, const char *path,
                     const char *username, struct err *err)
{
    const struct settings *settings = http_settings(ex);
    const char *sent = http_header(ex, "x-access-token");

    if (settings->access_token == NULL || settings->insecure)
        return 0;
    if (sent == NULL || sent[0] == '\0')
        return check_signature(ex, operation, path, username, settings->access_token, err);
    if (!hash_equal_str(sent, strlen(sent), settings->access_token))
        return err_set(err, ERR_UNAUTHENTICATED,
                       "access token present in header but does not match");
    return 0;
}

int files_request_user(struct exchange *ex, const char *name, struct files_request *out,
                       struct err *err)
{
    const struct settings *settings = http_settings(ex);

    if (name[0] == '\0')
        name = settings->default_user;
    if (user_find(name, &out->user) < 0)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "error looking up user '%s': user: unknown user %s", name, name);
    out->base = (struct path_base){out->user.name, out->user.home, settings->default_workdir};
    out->owner = (struct fs_owner){.uid = out->user.uid, .gid = out->user.gid};
    return 0;
}

int files_request_init(struct exchange *ex, const char *operation, struct files_request *out,
                       struct err *err)
{
    _cleanup_(buf_clear) struct buf username;

    buf_init(&out->path, FILES_PATH_MAX_BYTES);
    buf_init(&username, USERNAME_MAX_BYTES);
    if (http_query_param(ex, "path", &out->path, err) < 0 ||
        http_query_param(ex, "username", &username, err) < 0 ||
        authorise(ex, operation, buf_str(&out->path), buf_str(&username), err) < 0 ||
        files_request_user(ex, buf_str(&username), out, err) < 0) {
        buf_clear(&out->path);
        return -1;
    }
    out->has_path = out->path.len > 0;
    return 0;
}

void files_request_clear(struct files_request *request)
{
    buf_clear(&request->path);
}
