/*
 * server/api/api.h - the Platform API's and the operations listener's route tables.
 */
#ifndef SANDPIT_API_API_H
#define SANDPIT_API_API_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/auth/auth.h"
#include "server/http/http.h"
#include "server/lifecycle/lifecycle.h"
#include "server/observe/observe.h"
#include "server/store/store.h"

/*
 * request_ctx() of every handler. On the operations listener lifecycle, auth and store are NULL
 * until start-up is done (set on that listener's loop): /livez answers, /readyz is 503.
 */
struct api {
    struct lifecycle *lifecycle;
    struct auth *auth;
    struct store *store;
    struct observe *observe;
    struct node *node;        /* likewise */
    const char *engine_name;  /* "local", "kubernetes" */
    const char *domain;       /* NULL: the API's `domain` is null */
    const char *envd_version; /* what sandboxes report */
    /* Text after the common metrics of /metrics; wired by main. May be NULL. */
    void (*extra_metrics)(struct buf *out);
    _Atomic bool draining; /* set by main before it stops: /readyz and /health answer 503 */
};

/* Fill ROUTES, COUNT, authorize, write_error, limits of CONFIG for the API (ops) listener. */
void api_http_config(struct api *api, struct work_pool *workers, struct http_config *config);
void ops_http_config(struct api *api, struct work_pool *workers, struct http_config *config);

#endif
