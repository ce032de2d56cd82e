/*
 * envd/loop.h - the event loop: descriptors (epoll), timers, messages from threads, signals.
 *
 * One loop, one thread; everything here but loop_post is for that thread. Callbacks may add, change
 * and remove any watch or timer, their own included, and free what embeds it after removing it.
 */
#ifndef ENVD_LOOP_H
#define ENVD_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "server/base/err.h"

struct loop;

/* A watched descriptor. Embed it; zeroed memory is "not watched". */
struct loop_io {
    int fd;
    bool added;
    uint32_t events; /* EPOLLIN, EPOLLOUT, EPOLLRDHUP; EPOLLERR and EPOLLHUP always come */
    void (*fn)(struct loop_io *io, uint32_t events);
};

/* Runs once, at its time. Embed it; zeroed memory is "not set". */
struct loop_timer {
    int64_t due_mono_ms;
    size_t slot; /* place in the heap and 1; 0: not set */
    void (*fn)(struct loop_timer *timer);
};

/* A message to the loop. Embed it; owned by the loop until its function is called. */
struct loop_msg {
    struct loop_msg *next;
    void (*fn)(struct loop_msg *msg);
};

struct loop *loop_new(struct err *err);
void loop_free(struct loop *loop);
/* Until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Watch FD. Returns 0, or -1 with *ERR. */
int loop_add(struct loop *loop, struct loop_io *io, int fd, uint32_t events,
             void (*fn)(struct loop_io *io, uint32_t events), struct err *err);
/* Change what is watched; EVENTS 0 leaves errors and hang-ups. */
void loop_set(struct loop *loop, struct loop_io *io, uint32_t events);
/* Stop watching (before the descriptor is closed). A no-op when not watched. */
void loop_remove(struct loop *loop, struct loop_io *io);

/* Call FN in DELAY_MS; replaces an earlier setting. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t delay_ms,
                    void (*fn)(struct loop_timer *timer));
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);

/* Call MSG->fn on the loop. Any thread, the loop's own included (it runs soon, not at once). */
void loop_post(struct loop *loop, struct loop_msg *msg, void (*fn)(struct loop_msg *msg));

/* The same, before the loop sleeps next; loop thread only, no system call. */
void loop_soon(struct loop *loop, struct loop_msg *msg, void (*fn)(struct loop_msg *msg));

/*
 * Block the signals of SET in this thread (and those made from it later) and call FN for each that
 * comes. Once.
 */
int loop_signals(struct loop *loop, const sigset_t *set, void (*fn)(void *ctx, int signo),
                 void *ctx, struct err *err);

#endif
