/*
 * server/gateway/ev.h - the gateway's loop: one thread, one epoll.
 *
 * Descriptors are watched for edges: a callback does all that can be done now. Whoever stops before
 * that asks for ev_again.
 */
#ifndef SANDPIT_GATEWAY_EV_H
#define SANDPIT_GATEWAY_EV_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"

#define EV_TICK_MS 250

struct ev_io {
    int fd; /* owned by the user; -1: not watched */
    void (*fn)(struct ev_io *io);
};

struct ev {
    int epoll;
    bool again;
    bool stop;
    void (*tick)(void *ctx); /* about each EV_TICK_MS */
    void (*idle)(void *ctx); /* after each round of callbacks */
    void *ctx;
};

int ev_init(struct ev *ev, struct err *err);
/* Watch IO->fd, for what can be read and written. -1 with errno. */
int ev_watch(struct ev *ev, struct ev_io *io);
/* Stop and close IO->fd. Its callback may come once more in this round: with fd -1. */
void ev_close(struct ev *ev, struct ev_io *io);
/* The next round comes at once, not when something happens. */
static inline void ev_again(struct ev *ev)
{
    ev->again = true;
}
/* Until `stop`. */
void ev_run(struct ev *ev);

#endif
