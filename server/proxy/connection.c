/*
 * server/proxy/connection.c - a client connection: its life, and what h2o reports about it and its
 * upstream.
 */
#include "server/base/mem.h"
#include "server/proxy/forward.h"

void connection_accept(struct proxy *proxy, h2o_socket_t *client)
{
    struct forward *fwd = mem_zalloc(sizeof(*fwd));

    fwd->proxy = proxy;
    fwd->client = client;
    fwd->entered = true;
    fwd->next = proxy->first;
    if (fwd->next != NULL)
        fwd->next->prev = fwd;
    proxy->first = fwd;
    proxy->count++;
    flow_init(&fwd->up);
    flow_init(&fwd->down);
    sock_prepare(client, fwd);
    forward_advance(fwd);
}

static void forget_request(struct forward *fwd)
{
    flow_reset(&fwd->up);
    flow_reset(&fwd->down);
    fwd->down.eof = fwd->down.failed = false;
    free(fwd->upgrade);
    fwd->upgrade = NULL;
    fwd->head_scanned = fwd->head_size = 0;
    fwd->to = (struct respond_to){0};
    fwd->id[0] = '\0';
    fwd->port = 0;
    fwd->reused = fwd->fresh_only = fwd->keep_upstream = fwd->woken = false;
}

void connection_next(struct forward *fwd)
{
    dial_abort(&fwd->dial);
    sock_close(&fwd->upstream);
    forget_request(fwd);
}

void connection_free(struct forward *fwd)
{
    struct proxy *proxy = fwd->proxy;

    timer_cancel(&fwd->timer);
    wake_leave(fwd);
    dial_abort(&fwd->dial);
    sock_close(&fwd->upstream);
    sock_close(&fwd->client);
    flow_clear(&fwd->up);
    flow_clear(&fwd->down);
    free(fwd->upgrade);
    if (fwd->prev != NULL)
        fwd->prev->next = fwd->next;
    else
        proxy->first = fwd->next;
    if (fwd->next != NULL)
        fwd->next->prev = fwd->prev;
    proxy->count--;
    proxy->active -= fwd->state != FWD_IDLE;
    free(fwd);
}

static void note_read(struct flow *flow, enum sock_read result)
{
    flow->eof |= result == SOCK_EOF;
    flow->failed |= result == SOCK_FAILED;
}

void connection_client_readable(h2o_socket_t *sock, const char *h2o_err)
{
    struct forward *fwd = sock->data;

    note_read(&fwd->up, sock_fill(sock, h2o_err, forward_client_limit(fwd), &fwd->up.hint));
    forward_advance(fwd);
}

void connection_upstream_readable(h2o_socket_t *sock, const char *h2o_err)
{
    struct forward *fwd = sock->data;

    note_read(&fwd->down, sock_fill(sock, h2o_err, SOCK_BUFFER_BYTES, &fwd->down.hint));
    forward_advance(fwd);
}

void connection_client_written(h2o_socket_t *sock, const char *h2o_err)
{
    struct forward *fwd = sock->data;

    if (h2o_err != NULL) {
        fwd->up.failed = true;
        fwd->down.writing = false;
    } else if (fwd->upstream != NULL) {
        stats_add_bytes(0, fwd->down.head.len + fwd->down.used);
        flow_written(&fwd->down, fwd->upstream);
    } else {
        fwd->down.writing = false;
        buf_reset(&fwd->down.head);
    }
    forward_advance(fwd);
}

void connection_upstream_written(h2o_socket_t *sock, const char *h2o_err)
{
    struct forward *fwd = sock->data;

    if (h2o_err != NULL) {
        /* what it has to say may still be readable; reading tells the rest */
        fwd->up.writing = false;
        fwd->up.blocked = true;
    } else {
        stats_add_bytes(fwd->up.head.len + fwd->up.used, 0);
        flow_written(&fwd->up, fwd->client);
    }
    forward_advance(fwd);
}
