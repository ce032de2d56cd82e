/*
 * envd/watch.h - a watched folder: a thread that waits for events, a queue that the loop empties.
 *
 * Everything here is for the loop thread; it never blocks. The queue between the two threads is
 * behind one mutex in watch.c. A watch that is not emptied keeps at most WATCH_QUEUE_MAX events,
 * then fails, as it does when the kernel's own queue overflows.
 */
#ifndef SANDPIT_ENVD_WATCH_H
#define SANDPIT_ENVD_WATCH_H

#include <stdbool.h>

#include "envd/loop.h"
#include "envd/watch_tree.h"

#define WATCH_QUEUE_MAX 500000
#define WATCH_MAX 1024 /* at once; each has a thread and an inotify instance */

struct watch;

struct watch_spec {
    const char *path; /* absolute; copied */
    bool recursive;
    bool include_entry;
    bool allow_network;
};

/*
 * Begin to watch. READY(ARG) is called on the loop when watch_take has news: the watch is armed,
 * has events or has failed. *OUT is to watch_stop. ERR_LIMIT, ERR_INTERNAL.
 */
int watch_start(struct loop *loop, const struct watch_spec *spec, void (*ready)(void *arg),
                void *arg, struct watch **out, struct err *err);

/* READY is not called again. The thread ends by itself. NULL is fine. */
void watch_stop(struct watch *watch);

/* All is in place: events from now on are seen. */
bool watch_is_armed(struct watch *watch);

/*
 * Take the next event. 1: *OUT (then watch_event_clear), 0: none now, -1 with *ERR: none are left
 * and the watch has failed; the same again at every call.
 */
int watch_take(struct watch *watch, struct watch_event *out, struct err *err);

#endif
