#include "server/gateway/ev.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/time.h"

#define EVENTS 128 /* in one round */

int ev_init(struct ev *ev, struct err *err)
{
    ev->epoll = epoll_create1(EPOLL_CLOEXEC);
    return ev->epoll < 0 ? err_sys(err, errno, "cannot make an epoll") : 0;
}

int ev_watch(struct ev *ev, struct ev_io *io)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = io};

    return epoll_ctl(ev->epoll, EPOLL_CTL_ADD, io->fd, &event);
}

void ev_close(struct ev *ev, struct ev_io *io)
{
    (void)ev; /* nobody else has the description: closing takes it out of the epoll */
    fd_close(&io->fd);
}

void ev_run(struct ev *ev)
{
    int64_t next_tick = time_mono_ms() + EV_TICK_MS;

    while (!ev->stop) {
        struct epoll_event events[EVENTS];
        int64_t wait = ev->again ? 0 : next_tick - time_mono_ms();
        int count = epoll_wait(ev->epoll, events, EVENTS, wait > 0 ? (int)wait : 0);
        ev->again = false;
        for (int i = 0; i < count; i++) {
            struct ev_io *io = events[i].data.ptr;
            if (io->fd >= 0)
                io->fn(io);
        }
        if (time_mono_ms() >= next_tick) {
            ev->tick(ev->ctx);
            next_tick = time_mono_ms() + EV_TICK_MS;
        }
        ev->idle(ev->ctx);
    }
}
