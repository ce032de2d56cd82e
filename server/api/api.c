#include "server/api/api.h"

#include <string.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/model/limits.h"

#define API_IDLE_TIMEOUT_MS 620000 /* E2B's, so that clients keep connections as they do there */
#define API_REQUEST_TIMEOUT_MS 30000
#define OPS_BODY_MAX_BYTES 4096
#define OPS_IDLE_TIMEOUT_MS 75000

_Static_assert(sizeof(struct identity) <= REQUEST_USER_MAX, "an identity fits a request");

static int authorize(void *ctx, struct request *req, uint32_t scope, struct err *err)
{
    struct api *api = ctx;
    struct identity identity;

    if (auth_check(api->auth, request_header(req, "x-api-key"),
                   request_header(req, "authorization"), &identity, err) < 0 ||
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
        .ctx = api,
        .workers = workers,
        .body_max_bytes = API_BODY_MAX_BYTES,
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
