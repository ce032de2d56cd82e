/*
 * envd/watch.h - watched folders: threads that wait for events, queues that the loop empties.
 *
 * Everything here is for the loop thread and never blocks. Watches share a few inotify instances
 * (watch_hub.h), so a watch costs memory and, beyond its folders' kernel watches, nothing else.
 * What nobody takes is kept, up to WATCH_QUEUE_MAX_BYTES a watch and WATCH_QUEUES_MAX_BYTES in all;
 * past that the longest queue is dropped and its watch fails, as it does when the kernel's own
 * queue overflows: a gap is never silent.
 * docs/internals/envd-watches.md describes the inside.
 */
#ifndef SANDPIT_ENVD_WATCH_H
#define SANDPIT_ENVD_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "envd/loop.h"
#include "openapi/filesystem.pb-c.h"
#include "server/base/err.h"

#define WATCH_MAX 32768                   /* at once, streams and polled ones */
#define WATCH_QUEUE_MAX_BYTES (4 << 20)   /* some 200,000 events */
#define WATCH_QUEUES_MAX_BYTES (32 << 20) /* of all watches together */

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

/* How many there are, streams and polled ones. */
size_t watch_count(void);

/* READY is not called again. NULL is fine. */
void watch_stop(struct watch *watch);

/* All is in place: events from now on are seen. */
bool watch_is_armed(struct watch *watch);

/*
 * Take the next event. 1: *OUT (then protobuf_c_message_free_unpacked), 0: none now, -1 with *ERR:
 * none are left and the watch has failed; the same again at every call.
 */
int watch_take(struct watch *watch, Filesystem__FilesystemEvent **out, struct err *err);

#endif
