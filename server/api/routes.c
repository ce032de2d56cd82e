/*
 * server/api/routes.c - every route there is. Unknown path 404, known path with another method 405,
 * no handler 501. A literal segment comes before a parameter in its place.
 *
 * openapi/platform.yaml describes the same operations; tests/unit/api/openapi_test.c compares.
 */
#include "server/api/handlers.h"
#include "server/base/mem.h"

#define READ SCOPE_READ
#define WRITE SCOPE_WRITE
#define KEYS SCOPE_KEYS
#define ADMIN SCOPE_ADMIN

const struct route api_routes[] = {
    {"GET", "/health", SCOPE_NONE, api_health},
    {"GET", "/openapi.json", SCOPE_NONE, api_spec},
    {"GET", "/openapi-envd.json", SCOPE_NONE, api_spec_envd},

    /* sandboxes */
    {"GET", "/sandboxes", READ, sandboxes_list_v1},
    {"POST", "/sandboxes", WRITE, sandbox_create_v1},
    {"GET", "/v2/sandboxes", READ, sandboxes_list_v2},
    {"POST", "/v2/sandboxes", WRITE, sandbox_create_v2},
    {"GET", "/sandboxes/metrics", READ, sandboxes_metrics},
    {"GET", "/sandboxes/{sandboxID}", READ, sandbox_get},
    {"DELETE", "/sandboxes/{sandboxID}", WRITE, sandbox_delete},
    {"POST", "/sandboxes/{sandboxID}/timeout", WRITE, sandbox_set_timeout},
    {"POST", "/sandboxes/{sandboxID}/refreshes", WRITE, sandbox_refresh},
    {"POST", "/sandboxes/{sandboxID}/connect", WRITE, sandbox_connect_v1},
    {"POST", "/v2/sandboxes/{sandboxID}/connect", WRITE, sandbox_connect_v2},
    {"POST", "/sandboxes/{sandboxID}/pause", WRITE, sandbox_pause},
    {"POST", "/sandboxes/{sandboxID}/resume", WRITE, sandbox_resume},
    {"PUT", "/sandboxes/{sandboxID}/network", WRITE, sandbox_set_network},
    {"POST", "/sandboxes/{sandboxID}/fork", WRITE, sandbox_fork},
    {"POST", "/sandboxes/{sandboxID}/snapshots", WRITE, sandbox_snapshot},
    {"GET", "/snapshots", READ, snapshots_list},
    {"GET", "/sandboxes/{sandboxID}/metrics", READ, sandbox_metrics},
    {"GET", "/sandboxes/{sandboxID}/logs", READ, sandbox_logs_v1},
    {"GET", "/v2/sandboxes/{sandboxID}/logs", READ, sandbox_logs_v2},

    /* templates */
    {"GET", "/templates", READ, templates_list},
    {"POST", "/templates", WRITE, NULL},
    {"GET", "/v2/templates", READ, templates_page},
    {"POST", "/v2/templates", WRITE, NULL},
    {"POST", "/v3/templates", WRITE, NULL},
    {"GET", "/default-templates", READ, templates_default},
    {"POST", "/templates/tags", WRITE, NULL},
    {"DELETE", "/templates/tags", WRITE, NULL},
    {"GET", "/templates/aliases/{alias}", READ, template_alias},
    {"GET", "/templates/{templateID}", READ, template_get},
    {"POST", "/templates/{templateID}", WRITE, NULL},
    {"PATCH", "/templates/{templateID}", WRITE, NULL},
    {"DELETE", "/templates/{templateID}", WRITE, template_delete},
    {"PATCH", "/v2/templates/{templateID}", WRITE, NULL},
    {"GET", "/templates/{templateID}/files/{hash}", READ, NULL},
    {"POST", "/templates/{templateID}/builds/{buildID}", WRITE, NULL},
    {"POST", "/v2/templates/{templateID}/builds/{buildID}", WRITE, NULL},
    {"GET", "/templates/{templateID}/builds/{buildID}/status", READ, NULL},
    {"GET", "/templates/{templateID}/builds/{buildID}/logs", READ, NULL},
    {"GET", "/templates/{templateID}/tags", READ, NULL},
    {"GET", "/templates/{templateID}/tags/groups", READ, NULL},
    {"GET", "/templates/{templateID}/tags/exists", READ, NULL},
    {"GET", "/templates/{templateID}/tags/count", READ, NULL},
    {"GET", "/templates/{templateID}/tags/{tag}/assignments", READ, NULL},

    /* volumes and their content */
    {"GET", "/volumes", READ, volumes_list},
    {"POST", "/volumes", WRITE, volume_create},
    {"GET", "/volumes/{volumeID}", READ, volume_get},
    {"DELETE", "/volumes/{volumeID}", WRITE, volume_delete},
    {"GET", "/volumecontent/{volumeID}/path", READ, volume_stat},
    {"PATCH", "/volumecontent/{volumeID}/path", WRITE, volume_set},
    {"DELETE", "/volumecontent/{volumeID}/path", WRITE, volume_remove},
    {"GET", "/volumecontent/{volumeID}/dir", READ, volume_dir_list},
    {"POST", "/volumecontent/{volumeID}/dir", WRITE, volume_dir_make},
    {"GET", "/volumecontent/{volumeID}/file", READ, volume_file_get},
    {"PUT", "/volumecontent/{volumeID}/file", WRITE, volume_file_put},

    /* secrets */
    {"GET", "/secrets", READ, secrets_list},
    {"POST", "/secrets", WRITE, secret_create},
    {"GET", "/secrets/{secretID}", READ, secret_get},
    {"POST", "/secrets/{secretID}", WRITE, secret_update},
    {"DELETE", "/secrets/{secretID}", WRITE, secret_delete},

    /* teams, keys, nodes, operators */
    {"GET", "/teams", KEYS, teams_list},
    {"GET", "/teams/{teamID}/metrics", READ, team_metrics},
    {"GET", "/teams/{teamID}/metrics/max", READ, team_metrics_max},
    {"GET", "/api-keys", KEYS, api_keys_list},
    {"POST", "/api-keys", KEYS, api_key_create},
    {"PATCH", "/api-keys/{apiKeyID}", KEYS, api_key_rename},
    {"DELETE", "/api-keys/{apiKeyID}", KEYS, api_key_delete},
    {"POST", "/access-tokens", KEYS, access_token_create},
    {"DELETE", "/access-tokens/{accessTokenID}", KEYS, access_token_delete},
    {"GET", "/nodes", ADMIN, nodes_list},
    {"GET", "/nodes/{nodeID}", ADMIN, node_get},
    {"POST", "/nodes/{nodeID}", ADMIN, node_post},
    {"POST", "/admin/teams/{teamID}/sandboxes/kill", ADMIN, admin_sandboxes_kill},
    {"POST", "/admin/teams/{teamID}/builds/cancel", ADMIN, NULL},
    {"GET", "/admin/sandboxes/running-counts", ADMIN, admin_running_counts},
    {"POST", "/admin/teams/{teamID}/api-keys", ADMIN, admin_api_key_create},
    {"DELETE", "/admin/teams/{teamID}/api-keys/{apiKeyID}", ADMIN, admin_api_key_delete},

    /* events and webhooks */
    {"GET", "/events/sandboxes", READ, events_list},
    {"GET", "/events/sandboxes/{sandboxID}", READ, events_list},
    {"GET", "/events/webhooks", READ, webhooks_list},
    {"POST", "/events/webhooks", WRITE, webhook_create},
    {"GET", "/events/webhooks/{webhookID}", READ, webhook_get},
    {"PATCH", "/events/webhooks/{webhookID}", WRITE, webhook_change},
    {"DELETE", "/events/webhooks/{webhookID}", WRITE, webhook_delete},
};
const size_t api_route_count = array_size(api_routes);

const struct route ops_routes[] = {
    {"GET", "/livez", SCOPE_NONE, ops_live},
    {"GET", "/readyz", SCOPE_NONE, ops_ready},
    {"GET", "/metrics", SCOPE_NONE, ops_metrics},
};
const size_t ops_route_count = array_size(ops_routes);
