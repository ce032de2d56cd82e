#include "server/api/api.h"

#include <string.h>
#include <strings.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/wire.h"
#include "server/auth/volume_token.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/limits.h"
#include "server/model/team.h"

#define API_IDLE_TIMEOUT_MS 620000 /* E2B's, so that clients keep connections as they do there */
#define API_REQUEST_TIMEOUT_MS 30000
#define OPS_BODY_MAX_BYTES 4096
#define OPS_IDLE_TIMEOUT_MS 75000

_Static_assert(sizeof(struct identity) <= REQUEST_USER_MAX, "an identity fits a request");

/* A dashboard names the team with its user token: it must be the token's. */
static int check_team(const struct identity *identity, const char *team, struct err *err)
{
    char own[UUID_SIZE];

    if (!uuid_is(team))
        return err_set(err, ERR_INVALID, "Invalid team ID: X-Team-ID is no UUID");
    team_id(identity->namespace_, own);
    if (strcasecmp(team, own) != 0)
        return err_set(err, ERR_FORBIDDEN, "You are not a member of the team of X-Team-ID");
    return 0;
}

/* An operator in the team that X-Team-ID names. */
static int enter_team(struct api *api, const char *team, struct identity *identity, struct err *err)
{
    if (team == NULL)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "X-Team-ID header is missing: X-Admin-Token alone acts in no team");
    if (auth_team(api->auth, team, identity->namespace_, err) < 0) {
        err->code = err->code == ERR_NOT_FOUND ? ERR_FORBIDDEN : err->code; /* a header's fault */
        return -1;
    }
    identity->scopes = SCOPE_ALL;
    return 0;
}

/* Who sent REQ: a key, a user token (with X-Team-ID), or an operator (with X-Team-ID). */
static int identify(struct api *api, struct request *req, uint32_t scope, struct identity *out,
                    struct err *err)
{
    const char *key = request_header(req, "x-api-key");
    const char *bearer = request_header(req, "authorization");
    const char *admin = request_header(req, "x-admin-token");
    const char *team = request_header(req, "x-team-id");

    if (scope == SCOPE_ADMIN)
        return auth_check_admin(api->auth, admin, out, err);
    if (key == NULL && bearer == NULL && admin != NULL)
        return auth_check_admin(api->auth, admin, out, err) < 0 ? -1
                                                                : enter_team(api, team, out, err);
    if (auth_check(api->auth, key, bearer, out, err) < 0)
        return -1;
    out->scopes &= ~(uint32_t)SCOPE_ADMIN; /* only by its own header */
    return key == NULL && team != NULL ? check_team(out, team, err) : 0;
}

/* The holder of a volume's token, when that is what came: a key is never a JWT, nor the reverse. */
static int identify_token(struct api *api, struct request *req, bool *found, struct identity *out,
                          struct err *err)
{
    const char *bearer = request_header(req, "authorization");
    uint8_t key[SHA256_BYTES], ignored[SHA256_BYTES];
    char id[UUID_SIZE];
    int rc;

    *found = false;
    if (!str_starts(request_path(req), WIRE_CONTENT_PREFIX) || bearer == NULL ||
        request_header(req, "x-api-key") != NULL || strncasecmp(bearer, "Bearer ", 7) != 0 ||
        key_text_hash(bearer + 7, strlen(bearer + 7), ignored) == 0)
        return 0;
    *found = true;
    if (volume_id_parse(request_param(req, "volumeID"), id, err) < 0)
        return -1;
    lifecycle_volume_key(api->lifecycle, key);
    rc = volume_token_check(key, bearer + 7, id, time_unix_ms() / 1000, out, err);
    secret_wipe(key, sizeof(key));
    return rc;
}

static int authorize(void *ctx, struct request *req, uint32_t scope, struct err *err)
{
    struct api *api = ctx;
    struct identity identity;
    bool token;

    if (identify_token(api, req, &token, &identity, err) < 0)
        return -1;
    if ((!token && identify(api, req, scope, &identity, err) < 0) ||
        auth_scope(&identity, scope, err) < 0)
        return -1;
    request_set_user(req, &identity, sizeof(identity));
    return 0;
}

void api_http_config(struct api *api, struct work_pool *workers, struct http_config *config)
{
    *config = (struct http_config){
        .name = "api",
        .routes = api_routes,
        .route_count = api_route_count,
        .authorize = authorize,
        .write_error = error_write,
        .cors = true,
        .ctx = api,
        .workers = workers,
        .body_max_bytes = API_BODY_MAX_BYTES,
        .upload_path = "/volumecontent/{volumeID}/file",
        .upload_max_bytes = VOLUME_FILE_MAX_BYTES,
        .idle_timeout_ms = API_IDLE_TIMEOUT_MS,
        .request_timeout_ms = API_REQUEST_TIMEOUT_MS,
    };
}

void ops_http_config(struct api *api, struct work_pool *workers, struct http_config *config)
{
    *config = (struct http_config){
        .name = "ops",
        .routes = ops_routes,
        .route_count = ops_route_count,
        .ctx = api,
        .workers = workers,
        .body_max_bytes = OPS_BODY_MAX_BYTES,
        .idle_timeout_ms = OPS_IDLE_TIMEOUT_MS,
        .request_timeout_ms = API_REQUEST_TIMEOUT_MS,
    };
}
