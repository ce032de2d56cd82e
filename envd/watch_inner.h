/*
 * envd/watch_inner.h - one watch, as watch.c (the loop's side), watch_hub.c (threads) and
 * watch_tree.c (folders) share it.
 *
 * Everything that is guarded by "the lock" is guarded by one mutex in watch.c.
 */
#ifndef SANDPIT_ENVD_WATCH_INNER_H
#define SANDPIT_ENVD_WATCH_INNER_H

#include "envd/watch.h"
#include "envd/watch_node.h"

struct watch_hub;

/* Packed messages, each behind its size (uint32_t): plain bytes. */
struct watch_queue {
    char *data;
    size_t first, len, cap; /* LEN bytes from FIRST */
};

struct watch {
    /* fixed */
    char *path;
    bool recursive, include_entry, allow_network;
    struct watch_hub *hub;

    /* loop thread */
    void (*ready)(void *arg);
    void *arg;
    uint32_t number; /* in a state that is handed over */

    bool stopped; /* atomic; set by the loop */

    /* the hub's thread */
    struct watch_node *root; /* NULL: nothing is watched (yet, or any more) */
    struct watch *hub_next, *hub_prev;
    bool attached; /* in that list */

    /* the hub's lock */
    struct watch *command_next;
    bool commanded; /* in its list: to be started, or ended if it is stopped by then */

    /* the lock */
    unsigned refs; /* the owner, the hub, the list of news */
    bool armed, failed, in_news;
    struct watch *news_next;
    struct watch *all_next, *all_prev;
    struct err *err; /* why it failed */
    struct watch_queue queue;
};

static inline bool watch_is_stopped(const struct watch *watch)
{
    return __atomic_load_n(&watch->stopped, __ATOMIC_ACQUIRE);
}

/* ---- watch.c; any thread ---- */

void watch_unref(struct watch *watch);
void watch_set_armed(struct watch *watch);
/* Later events are dropped. The first reason stays. */
void watch_fail(struct watch *watch, const struct err *err);
/* Loop thread: a watch of an earlier envd, in HUB's list, with QUEUE; nobody is told of it yet. */
struct watch *watch_restore(struct loop *loop, const struct watch_spec *spec, struct watch_hub *hub,
                            const void *queue, size_t len);
/* What is in its queue, borrowed while no thread touches it. */
const void *watch_queued(const struct watch *watch, size_t *len);
/* READY is due. */
void watch_tell(struct watch *watch);
/* Queue EVENT for the loop; fails the watch when there is no room. */
void watch_push(struct watch *watch, const Filesystem__FilesystemEvent *event);

#endif
