/*
 * server/proxy/upgrade.c - after 101: a pipe for raw bytes, each side ended on its own.
 *
 * No idle timeout (routing.md section 7): a quiet WebSocket stays.
 */
#include <string.h>
#include <strings.h>

#include "server/proxy/forward.h"

bool upgrade_agrees(const struct forward *fwd, struct slice upgrade)
{
    return fwd->upgrade != NULL && upgrade.len == strlen(fwd->upgrade) &&
           strncasecmp(upgrade.data, fwd->upgrade, upgrade.len) == 0;
}

/* All that FROM has sent is written, and it has ended: pass the end on, once. */
static void pass_end(struct flow *flow, const h2o_socket_t *from, h2o_socket_t *to)
{
    if (!flow->eof || flow->shut || flow->writing || from->input->size > 0)
        return;
    sock_shutdown(to);
    flow->shut = true;
}

enum step upgrade_tunnel(struct forward *fwd, struct err *err)
{
    struct flow *up = &fwd->up, *down = &fwd->down;

    if (up->failed || down->failed || up->blocked)
        return STEP_RESET;
    if (flow_pump(up, fwd->client, fwd->upstream, connection_upstream_written, err) < 0 ||
        flow_pump(down, fwd->upstream, fwd->client, connection_client_written, err) < 0)
        return STEP_RESET;
    pass_end(up, fwd->client, fwd->upstream);
    /* TLS cannot be ended on one side without looking cut; then both sides end */
    if (fwd->client->ssl != NULL && down->eof && !down->writing && fwd->upstream->input->size == 0)
        return STEP_CLOSE;
    pass_end(down, fwd->upstream, fwd->client);
    return up->shut && down->shut ? STEP_CLOSE : STEP_WAIT;
}
