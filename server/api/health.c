/*
 * server/api/health.c - is the service able to work, and what does it speak.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/handlers.h"
#include "server/base/log.h"
#include "server/base/mem.h"

struct probe {
    struct work work;
    struct reply *reply;
    struct api *api;
    struct store *store; /* taken on the loop, which alone sets it; NULL while starting */
    const char *good, *bad;
    int rc;
    struct err err;
};

static void probe_run(struct work *work)
{
    struct probe *probe = container_of(work, struct probe, work);

    if (atomic_load(&probe->api->draining))
        probe->rc = err_set(&probe->err, ERR_BUSY, "the server is stopping");
    else
        probe->rc = store_check(probe->store, &probe->err);
}

static void probe_done(struct work *work)
{
    struct probe *probe = container_of(work, struct probe, work);
    const char *text = probe->rc == 0       ? probe->good
                       : probe->bad != NULL ? probe->bad
                                            : probe->err.msg;

    if (probe->rc < 0)
        log_err(LOG_WARN, "not ready", NULL, &probe->err);
    reply_bytes(probe->reply, probe->rc == 0 ? 200 : 503, "text/plain", text, strlen(text));
    reply_unref(probe->reply);
    free(probe);
}

int probe_store(struct request *req, const char *good, const char *bad, struct err *err)
{
    _cleanup_free_ struct probe *probe = mem_zalloc(sizeof(*probe));

    probe->api = request_api(req);
    probe->store = probe->api->store;
    probe->good = good;
    probe->bad = bad;
    if (work_submit(request_workers(req), &probe->work, probe_run, probe_done, err) < 0)
        return -1;
    probe->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    probe = NULL;
    return 0;
}

int api_health(struct request *req, struct err *err)
{
    return probe_store(req, "Health check successful", "Service is unavailable", err);
}

int api_spec(struct request *req, struct err *err)
{
    size_t len;
    const char *text = openapi_text(&len);

    (void)err;
    reply_bytes(request_reply(req), 200, "application/json", text, len);
    return 0;
}

int api_spec_envd(struct request *req, struct err *err)
{
    size_t len;
    const char *text = openapi_envd_text(&len);

    (void)err;
    reply_bytes(request_reply(req), 200, "application/json", text, len);
    return 0;
}
