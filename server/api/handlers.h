/*
 * server/api/handlers.h - every handler that routes.c names, and what they share.
 *
 * Loop thread; authorised by the router. Each answers at once or defers to a worker.
 */
#ifndef SANDPIT_API_HANDLERS_H
#define SANDPIT_API_HANDLERS_H

#include "server/api/api.h"

/* sandboxes.c */
int sandbox_create_v1(struct request *req, struct err *err);
int sandbox_create_v2(struct request *req, struct err *err);
int sandbox_get(struct request *req, struct err *err);
int sandbox_delete(struct request *req, struct err *err);
int sandbox_set_timeout(struct request *req, struct err *err);
int sandbox_refresh(struct request *req, struct err *err);
/* The body, an object; empty counts as {}. NULL when it is not. */
json_t *body_json(struct request *req, struct err *err);
/* KEY of the body in seconds, between 0 and MAX_S. REQUIRED: must be there, else *OUT_MS stays. */
int body_seconds(struct request *req, const char *key, int64_t max_s, bool required,
                 int64_t *out_ms, struct err *err);

/* pause.c */
int sandbox_connect_v1(struct request *req, struct err *err);
int sandbox_connect_v2(struct request *req, struct err *err);
int sandbox_pause(struct request *req, struct err *err);
int sandbox_resume(struct request *req, struct err *err);
/* What a pause, resume, snapshot or fork kept: "memory" or "filesystem". */
#define KEPT_HEADER "x-sandpit-kept"
#define KEPT_MEMORY "memory"
#define KEPT_FILES "filesystem"

/* snapshots.c, fork.c */
int sandbox_snapshot(struct request *req, struct err *err);
int snapshots_list(struct request *req, struct err *err);
int template_delete(struct request *req, struct err *err);
int sandbox_fork(struct request *req, struct err *err);

/* network.c */
int sandbox_set_network(struct request *req, struct err *err);

/* sandboxes_list.c */
int sandboxes_list_v1(struct request *req, struct err *err);
int sandboxes_list_v2(struct request *req, struct err *err);

/* templates.c */
int templates_list(struct request *req, struct err *err);
int templates_page(struct request *req, struct err *err);
int templates_default(struct request *req, struct err *err);
int template_get(struct request *req, struct err *err);
int template_alias(struct request *req, struct err *err);

/* secrets.c */
int secrets_list(struct request *req, struct err *err);
int secret_create(struct request *req, struct err *err);
int secret_get(struct request *req, struct err *err);
int secret_update(struct request *req, struct err *err);
int secret_delete(struct request *req, struct err *err);

/* keys.c */
int teams_list(struct request *req, struct err *err);
int api_keys_list(struct request *req, struct err *err);
int api_key_create(struct request *req, struct err *err);
int api_key_rename(struct request *req, struct err *err);
int api_key_delete(struct request *req, struct err *err);
int access_token_create(struct request *req, struct err *err);
int access_token_delete(struct request *req, struct err *err);
int admin_api_key_create(struct request *req, struct err *err);
int admin_api_key_delete(struct request *req, struct err *err);

/* admin.c */
int nodes_list(struct request *req, struct err *err);
int node_get(struct request *req, struct err *err);
int node_post(struct request *req, struct err *err);
int admin_sandboxes_kill(struct request *req, struct err *err);
int admin_running_counts(struct request *req, struct err *err);

/* volumes.c */
int volumes_list(struct request *req, struct err *err);
int volume_create(struct request *req, struct err *err);
int volume_get(struct request *req, struct err *err);
int volume_delete(struct request *req, struct err *err);

/* metrics.c */
int sandbox_metrics(struct request *req, struct err *err);
int sandboxes_metrics(struct request *req, struct err *err);
int team_metrics(struct request *req, struct err *err);
int team_metrics_max(struct request *req, struct err *err);

/* logs.c */
int sandbox_logs_v1(struct request *req, struct err *err);
int sandbox_logs_v2(struct request *req, struct err *err);

/* events.c, webhooks.c */
int events_list(struct request *req, struct err *err);
int webhooks_list(struct request *req, struct err *err);
int webhook_create(struct request *req, struct err *err);
int webhook_get(struct request *req, struct err *err);
int webhook_change(struct request *req, struct err *err);
int webhook_delete(struct request *req, struct err *err);

/* volume_content.c, volume_file.c */
int volume_stat(struct request *req, struct err *err);
int volume_set(struct request *req, struct err *err);
int volume_remove(struct request *req, struct err *err);
int volume_dir_list(struct request *req, struct err *err);
int volume_dir_make(struct request *req, struct err *err);
int volume_file_get(struct request *req, struct err *err);
int volume_file_put(struct request *req, struct err *err);

/* health.c */
int api_health(struct request *req, struct err *err);
int api_spec(struct request *req, struct err *err);
int api_spec_envd(struct request *req, struct err *err);

/* ops.c */
int ops_live(struct request *req, struct err *err);
int ops_ready(struct request *req, struct err *err);
int ops_metrics(struct request *req, struct err *err);

/* Who calls, as authorize found it. Borrowed until the handler returns. */
static inline const struct identity *request_identity(const struct request *req)
{
    return request_user(req);
}

static inline struct api *request_api(const struct request *req)
{
    return request_ctx(req);
}

/*
 * rate.c: the caller makes COUNT sandboxes now. Sets the RateLimit- headers of the reply where
 * there is such a limit, whatever the answer will be. ERR_LIMIT.
 */
int api_rate_limit(struct request *req, int64_t count, struct err *err);

/*
 * Probe the store on a worker, then answer 200 GOOD or 503 BAD as text; both static. BAD NULL: the
 * reason.
 */
int probe_store(struct request *req, const char *good, const char *bad, struct err *err);

/* routes.c: the tables, for api.c and for the test that compares them with the specification. */
extern const struct route api_routes[];
extern const size_t api_route_count;
extern const struct route ops_routes[];
extern const size_t ops_route_count;

/* openapi.c: openapi/platform.yaml and envd.yaml as they were when this was built. */
const char *openapi_text(size_t *len);
const char *openapi_envd_text(size_t *len);

#endif
