/*
 * server/api/rate.c - how fast sandboxes may be made, and the headers that say so.
 */
#include <stdio.h>

#include "server/api/handlers.h"
#include "server/base/time.h"

static void put_number(struct reply *reply, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    reply_header(reply, name, text);
}

int api_rate_limit(struct request *req, int64_t count, struct err *err)
{
    struct api *api = request_api(req);
    struct reply *reply = request_reply(req);
    struct limit_state state;
    int rc =
        auth_take_creates(api->auth, request_identity(req), count, time_mono_ms(), &state, err);

    if (state.limited) {
        put_number(reply, "ratelimit-limit", state.limit);
        put_number(reply, "ratelimit-remaining", state.remaining);
        put_number(reply, "ratelimit-reset", state.reset_s);
    }
    return rc;
}
