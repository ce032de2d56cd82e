/*
 * server/proxy/wake.c - requests to a paused sandbox that wait until it runs again.
 *
 * One call into lifecycle for each sandbox and loop, however many wait for it; calls of other loops
 * meet in lifecycle, which serialises them. The head of a waiting request stays in the client's
 * input and is routed again afterwards, so that what goes on is exactly what came.
 */
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/proxy/forward.h"

struct wake {
    struct work work;
    struct proxy *proxy;
    struct wake *next;       /* the proxy's list */
    struct forward *waiting; /* by wake_next */
    char id[SANDBOX_ID_SIZE];
    int rc;
    struct err err;
};

static void run(struct work *work)
{
    struct wake *wake = container_of(work, struct wake, work);

    wake->rc = lifecycle_traffic(wake->proxy->config.lifecycle, wake->id, &wake->err);
}

static void unlink_wake(struct wake *wake)
{
    struct wake **at = &wake->proxy->wakes;

    while (*at != wake)
        at = &(*at)->next;
    *at = wake->next;
}

static enum wake_result result_of(const struct wake *wake)
{
    if (wake->rc == 0)
        return WAKE_RUNS;
    switch (wake->err.code) {
    case ERR_BUSY:
        return WAKE_BUSY;
    case ERR_LIMIT:
        return WAKE_LIMIT;
    default:
        return WAKE_FAILED;
    }
}

/* Each of them may be freed by its turn; none of the others is. */
static void done(struct work *work)
{
    struct wake *wake = container_of(work, struct wake, work);
    enum wake_result result = result_of(wake);

    unlink_wake(wake);
    if (result == WAKE_FAILED && wake->err.code != ERR_NOT_FOUND)
        log_err(LOG_WARN, "traffic could not resume a sandbox", wake->id, &wake->err);
    while (wake->waiting != NULL) {
        struct forward *fwd = wake->waiting;

        wake->waiting = fwd->wake_next;
        fwd->wake = NULL;
        fwd->wake_result = result;
        forward_advance(fwd);
    }
    free(wake);
}

static struct wake *find(struct proxy *proxy, const char *id)
{
    struct wake *wake = proxy->wakes;

    while (wake != NULL && !str_eq(wake->id, id))
        wake = wake->next;
    return wake;
}

static struct wake *begin(struct proxy *proxy, const char *id)
{
    struct wake *wake = mem_zalloc(sizeof(*wake));
    struct err err = {0};

    wake->proxy = proxy;
    memcpy(wake->id, id, sizeof(wake->id));
    if (proxy->config.workers == NULL ||
        work_submit(proxy->config.workers, &wake->work, run, done, &err) < 0) {
        free(wake);
        return NULL;
    }
    wake->next = proxy->wakes;
    proxy->wakes = wake;
    return wake;
}

/* Ports of a private sandbox want its token, envd of a secure one its own; else anybody may. */
static bool may_wake(const struct forward *fwd, const struct http_head *head,
                     const struct lifecycle_route *route)
{
    char envd_token[SHA256_HEX_SIZE];
    const struct http_header *token;
    bool ok;

    if (fwd->port != ENVD_PORT) {
        token = http_head_find(head, "e2b-traffic-access-token");
        return !route->private_traffic ||
               (token != NULL &&
                hash_equal_str(token->value, token->value_len, route->traffic_token));
    }
    if (!route->secure)
        return true;
    token = http_head_find(head, "x-access-token");
    lifecycle_envd_token(fwd->proxy->config.lifecycle, fwd->id, envd_token);
    ok = token != NULL && hash_equal_str(token->value, token->value_len, envd_token);
    secret_wipe(envd_token, sizeof(envd_token));
    return ok;
}

enum step wake_begin(struct forward *fwd, const struct http_head *head,
                     const struct lifecycle_route *route)
{
    if (!route->wakes)
        return forward_answer(fwd, RESPOND_NOT_FOUND);
    if (!may_wake(fwd, head, route))
        return forward_answer(fwd, RESPOND_RESUME_REFUSED);
    fwd->wake = find(fwd->proxy, fwd->id);
    if (fwd->wake == NULL)
        fwd->wake = begin(fwd->proxy, fwd->id);
    if (fwd->wake == NULL)
        return forward_answer(fwd, RESPOND_TRANSITION);
    fwd->wake_result = WAKE_PENDING;
    fwd->wake_next = fwd->wake->waiting;
    fwd->wake->waiting = fwd;
    return forward_jump(fwd, FWD_WAKE);
}

void wake_leave(struct forward *fwd)
{
    struct forward **at;

    if (fwd->wake == NULL)
        return;
    at = &fwd->wake->waiting;
    while (*at != fwd)
        at = &(*at)->wake_next;
    *at = fwd->wake_next;
    fwd->wake = NULL;
}

enum step wake_run(struct forward *fwd, struct err *err)
{
    (void)err;
    if (fwd->up.failed) /* the sandbox is resumed all the same */
        return STEP_CLOSE;
    switch (fwd->wake_result) {
    case WAKE_PENDING:
        return STEP_WAIT;
    case WAKE_RUNS:
        fwd->head_scanned = 0; /* the same head once more */
        fwd->woken = true;
        return forward_jump(fwd, FWD_HEAD);
    case WAKE_BUSY:
        return forward_answer(fwd, RESPOND_TRANSITION);
    case WAKE_LIMIT:
        return forward_answer(fwd, RESPOND_LIMIT);
    default:
        return forward_answer(fwd, RESPOND_NOT_FOUND);
    }
}

enum step wake_expire(struct forward *fwd)
{
    wake_leave(fwd);
    return forward_answer(fwd, RESPOND_TRANSITION);
}
