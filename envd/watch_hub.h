/*
 * envd/watch_hub.h - an inotify instance and the thread that reads it, for many watches.
 *
 * There are at most WATCH_HUBS of them (the kernel allows a user 128), made when they are needed
 * and ended with their last watch. A watch goes to the one with the fewest, so a few watches have
 * one each and the overflow of a busy folder does not touch the others. Watches that may lie on
 * network mounts, where a call can hang, have instances of their own.
 * Source: inotify(7).
 */
#ifndef SANDPIT_ENVD_WATCH_HUB_H
#define SANDPIT_ENVD_WATCH_HUB_H

#include <pthread.h>
#include <sys/inotify.h>

#include "envd/watch_inner.h"

#define WATCH_HUBS 12
#define WATCH_HUBS_NETWORK 4
#define WATCH_PATH_MAX_BYTES (1 << 20)        /* below a watched folder; PATH_MAX is no limit */
#define WATCH_HUB_PENDING_MAX_BYTES (8 << 20) /* read from the kernel, not yet looked at */

/* A folder that could not be reached by its path: something above it was moved meanwhile. */
struct watch_retry {
    struct watch_node *parent;
    char *name;
    bool report;
    unsigned tries; /* while not even the watched folder could be reached */
};

/* A folder was moved inside a tree, and its watch has been told already. */
struct watch_rename {
    struct watch *watch;
    uint32_t cookie;
};

#define WATCH_UPLOADS 16 /* renames of uploads to their names that are remembered */

struct watch_hub {
    int fd;      /* inotify, non-blocking */
    int wake_fd; /* eventfd: commands */

    /* loop thread */
    size_t watch_count;

    /* the thread */
    struct watch_index index;
    struct watch *watches;
    struct buf pending; /* inotify events, whole ones */
    size_t at;          /* of pending, what has been looked at */
    uint64_t read_bytes, done_bytes;
    struct watch_retry *retries;
    size_t retry_count, retry_cap;
    struct watch_rename *renames;
    size_t rename_count, rename_cap;
    uint32_t uploads[WATCH_UPLOADS]; /* cookies; 0: none */
    unsigned upload_next;
    struct buf path; /* scratch */

    pthread_mutex_t lock; /* guards what follows */
    struct watch *commands, **commands_last;
    bool quit;
    bool held;   /* the thread is to touch nothing once its commands are done … */
    bool parked; /* … and does not */
};

/* Loop thread: start watching WATCH, or stop it. */
int watch_hub_start(struct watch *watch, struct err *err);
void watch_hub_stop(struct watch *watch);

/* ---- Loop thread, for watch_handover.c ---- */

#define WATCH_HUBS_ALL (WATCH_HUBS + WATCH_HUBS_NETWORK)

/* The instance at that place; NULL: there is none. */
struct watch_hub *watch_hub_at(size_t place);
/* Let the threads stop, or go on. */
void watch_hub_hold(bool held);
/* All have stopped: their tables are the caller's until they go on. */
bool watch_hub_parked(void);
/* One with the inotify instance FD, which it owns, and no thread yet. NULL with *ERR. */
struct watch_hub *watch_hub_restore(size_t place, int fd, struct err *err);
/* Start its thread. -1 with *ERR: its watches have failed. */
int watch_hub_go_on(struct watch_hub *hub, struct err *err);

/* ---- The thread's side, for watch_tree.c ---- */

/* Take events from the kernel's queue, so that it does not overflow during a long walk. */
void watch_hub_soak(struct watch_hub *hub);
/* What read_bytes will be when all that has happened by now has been read. */
uint64_t watch_hub_horizon(const struct watch_hub *hub);

/*
 * Where the folder WD of the IN_MOVED_FROM event with COOKIE went: fills *OUT and returns true when
 * it is a folder that is watched here. Waits for the rest of the rename, which is on its way.
 */
union watch_hub_event {
    struct inotify_event event;
    char bytes[sizeof(struct inotify_event) + 256];
};
bool watch_hub_find_target(struct watch_hub *hub, uint32_t cookie, int wd,
                           union watch_hub_event *out);

#endif
