#include "envd/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "envd/timer.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define BATCH 256 /* events fetched at once */

struct loop {
    int epoll_fd;
    bool stop;
    struct timer_heap timers;
    struct epoll_event events[BATCH];
    int event_count; /* of the batch being delivered */
    int event_at;
    struct loop_msg *soon; /* loop_soon */
    struct loop_msg **soon_last;

    struct loop_io wake; /* eventfd */
    pthread_mutex_t lock;
    struct loop_msg *first; /* guarded by lock */
    struct loop_msg **last;

    struct loop_io signals; /* signalfd */
    void (*on_signal)(void *ctx, int signo);
    void *signal_ctx;
};

int loop_add(struct loop *loop, struct loop_io *io, int fd, uint32_t events,
             void (*fn)(struct loop_io *io, uint32_t events), struct err *err)
{
    struct epoll_event event = {.events = events, .data.ptr = io};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return err_sys(err, errno, "cannot watch a descriptor");
    io->fd = fd;
    io->events = events;
    io->fn = fn;
    io->added = true;
    return 0;
}

void loop_set(struct loop *loop, struct loop_io *io, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = io};

    if (!io->added || io->events == events)
        return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event);
    io->events = events;
}

void loop_remove(struct loop *loop, struct loop_io *io)
{
    if (!io->added)
        return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    io->added = false;
    /* What is left of this batch must not reach freed memory. */
    for (int i = loop->event_at; i < loop->event_count; i++) {
        if (loop->events[i].data.ptr == io)
            loop->events[i].data.ptr = NULL;
    }
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t delay_ms,
                    void (*fn)(struct loop_timer *timer))
{
    timer_heap_remove(&loop->timers, timer);
    timer->due_mono_ms = time_mono_ms() + delay_ms;
    timer->fn = fn;
    timer_heap_add(&loop->timers, timer);
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
    timer_heap_remove(&loop->timers, timer);
}

void loop_post(struct loop *loop, struct loop_msg *msg, void (*fn)(struct loop_msg *msg))
{
    bool was_empty;

    msg->fn = fn;
    msg->next = NULL;
    pthread_mutex_lock(&loop->lock);
    was_empty = loop->first == NULL;
    *loop->last = msg;
    loop->last = &msg->next;
    pthread_mutex_unlock(&loop->lock);
    if (was_empty)
        eventfd_write(loop->wake.fd, 1);
}

void loop_soon(struct loop *loop, struct loop_msg *msg, void (*fn)(struct loop_msg *msg))
{
    msg->fn = fn;
    msg->next = NULL;
    *loop->soon_last = msg;
    loop->soon_last = &msg->next;
}

static void run_soon(struct loop *loop)
{
    struct loop_msg *msg;

    while ((msg = loop->soon) != NULL) {
        loop->soon = msg->next;
        if (loop->soon == NULL)
            loop->soon_last = &loop->soon;
        msg->fn(msg);
    }
}

static void on_wake(struct loop_io *io, uint32_t events)
{
    struct loop *loop = container_of(io, struct loop, wake);
    struct loop_msg *msg, *next;
    eventfd_t count;

    (void)events;
    eventfd_read(io->fd, &count);
    pthread_mutex_lock(&loop->lock);
    msg = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    pthread_mutex_unlock(&loop->lock);
    for (; msg != NULL; msg = next) {
        next = msg->next;
        msg->fn(msg);
    }
}

static void on_signalfd(struct loop_io *io, uint32_t events)
{
    struct loop *loop = container_of(io, struct loop, signals);
    struct signalfd_siginfo info;

    (void)events;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        loop->on_signal(loop->signal_ctx, (int)info.ssi_signo);
}

int loop_signals(struct loop *loop, const sigset_t *set, void (*fn)(void *ctx, int signo),
                 void *ctx, struct err *err)
{
    _cleanup_close_ int fd = -1;

    if (pthread_sigmask(SIG_BLOCK, set, NULL) != 0)
        return err_set(err, ERR_INTERNAL, "cannot block signals");
    fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a signalfd");
    loop->on_signal = fn;
    loop->signal_ctx = ctx;
    if (loop_add(loop, &loop->signals, fd, EPOLLIN, on_signalfd, err) < 0)
        return -1;
    steal_fd(&fd);
    return 0;
}

struct loop *loop_new(struct err *err)
{
    struct loop *loop = mem_zalloc(sizeof(*loop));
    int fd;

    pthread_mutex_init(&loop->lock, NULL);
    loop->last = &loop->first;
    loop->soon_last = &loop->soon;
    loop->wake.fd = loop->signals.fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || fd < 0) {
        err_sys(err, errno, "cannot make an event loop");
        fd_close(&fd);
        loop_free(loop);
        return NULL;
    }
    if (loop_add(loop, &loop->wake, fd, EPOLLIN, on_wake, err) < 0) {
        fd_close(&fd);
        loop_free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    loop_remove(loop, &loop->wake);
    loop_remove(loop, &loop->signals);
    fd_close(&loop->wake.fd);
    fd_close(&loop->signals.fd);
    fd_close(&loop->epoll_fd);
    timer_heap_clear(&loop->timers);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

/* Call what is due. Returns the milliseconds to the next timer, -1 when there is none. */
static int run_timers(struct loop *loop)
{
    int64_t now = time_mono_ms();
    struct loop_timer *timer;

    while ((timer = timer_heap_first(&loop->timers)) != NULL) {
        if (timer->due_mono_ms > now)
            return timer->due_mono_ms - now < INT_MAX ? (int)(timer->due_mono_ms - now) : INT_MAX;
        timer_heap_remove(&loop->timers, timer);
        timer->fn(timer);
    }
    return -1;
}

void loop_run(struct loop *loop)
{
    while (!loop->stop) {
        int wait_ms = run_timers(loop);

        run_soon(loop);
        loop->event_count = epoll_wait(loop->epoll_fd, loop->events, BATCH, wait_ms);
        for (loop->event_at = 0; loop->event_at < loop->event_count;) {
            struct epoll_event *event = &loop->events[loop->event_at++];
            struct loop_io *io = event->data.ptr;

            if (io != NULL)
                io->fn(io, event->events);
        }
    }
}

void loop_stop(struct loop *loop)
{
    loop->stop = true;
}
