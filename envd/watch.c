#include "envd/watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"

#define STACK_BYTES (512 << 10)

struct watch {
    char *path;
    bool recursive, include_entry, allow_network;
    struct loop *loop;
    int stop_fd; /* eventfd */

    /* loop thread */
    void (*ready)(void *arg);
    void *arg;
    bool stopped;

    pthread_mutex_t lock; /* guards what follows */
    unsigned refs;        /* the owner, the thread, a posted message */
    struct loop_msg msg;
    bool posted;
    bool armed;
    bool failed;
    struct err err;
    struct watch_event *events; /* a queue: from `first`, `count` of them */
    size_t first, count, cap;
};

static unsigned watch_count; /* loop thread: watches that are not stopped */

static void watch_unref(struct watch *watch)
{
    unsigned refs;

    pthread_mutex_lock(&watch->lock);
    refs = --watch->refs;
    pthread_mutex_unlock(&watch->lock);
    if (refs > 0)
        return;
    for (size_t i = 0; i < watch->count; i++)
        watch_event_clear(&watch->events[watch->first + i]);
    pthread_mutex_destroy(&watch->lock);
    fd_close(&watch->stop_fd);
    free(watch->events);
    free(watch->path);
    free(watch);
}

static void on_message(struct loop_msg *msg)
{
    struct watch *watch = container_of(msg, struct watch, msg);

    pthread_mutex_lock(&watch->lock);
    watch->posted = false;
    pthread_mutex_unlock(&watch->lock);
    if (!watch->stopped)
        watch->ready(watch->arg);
    watch_unref(watch);
}

/* Watch thread: wake the loop, once until it has come. */
static void tell(struct watch *watch)
{
    bool post;

    pthread_mutex_lock(&watch->lock);
    post = !watch->posted;
    watch->posted = true;
    if (post)
        watch->refs++;
    pthread_mutex_unlock(&watch->lock);
    if (post)
        loop_post(watch->loop, &watch->msg, on_message);
}

static void fail(struct watch *watch, const struct err *err)
{
    pthread_mutex_lock(&watch->lock);
    watch->failed = true;
    watch->err = *err;
    pthread_mutex_unlock(&watch->lock);
    tell(watch);
}

/* Room for one more at the end of the queue; the lock is held. */
static void make_room(struct watch *watch)
{
    if (watch->first + watch->count < watch->cap)
        return;
    if (watch->first > watch->count) { /* more than half is free in front */
        memmove(watch->events, watch->events + watch->first, watch->count * sizeof(*watch->events));
        watch->first = 0;
        return;
    }
    watch->cap = watch->cap > 0 ? watch->cap * 2 : 64;
    watch->events = mem_realloc_array(watch->events, watch->cap, sizeof(*watch->events));
}

static void on_emit(void *arg, struct watch_event *event)
{
    struct watch *watch = arg;
    bool full;

    pthread_mutex_lock(&watch->lock);
    full = watch->count >= WATCH_QUEUE_MAX;
    if (full && !watch->failed) {
        watch->failed = true;
        err_set(&watch->err, ERR_INTERNAL, "watcher error: fsnotify: queue or buffer overflow");
    } else if (!full && !watch->failed) {
        make_room(watch);
        watch->events[watch->first + watch->count++] = *event;
        *event = (struct watch_event){0};
    }
    pthread_mutex_unlock(&watch->lock);
    watch_event_clear(event);
}

static bool has_news(struct watch *watch, bool *failed)
{
    bool news;

    pthread_mutex_lock(&watch->lock);
    news = watch->count > 0 || watch->failed;
    *failed = watch->failed;
    pthread_mutex_unlock(&watch->lock);
    return news;
}

/* Until told to stop, or a failure. */
static int follow(struct watch *watch, struct watch_tree *tree, struct err *err)
{
    struct pollfd pfds[2] = {{.fd = tree->fd, .events = POLLIN},
                             {.fd = watch->stop_fd, .events = POLLIN}};
    bool failed = false;

    while (!failed) {
        if (poll(pfds, 2, -1) < 0 && errno != EINTR)
            return err_sys(err, errno, "watcher error: poll");
        if (pfds[1].revents != 0)
            return 0;
        if (watch_tree_read(tree, err) < 0)
            return -1;
        if (has_news(watch, &failed))
            tell(watch);
    }
    return 0;
}

static void *run(void *arg)
{
    struct watch *watch = arg;
    struct watch_tree tree;
    struct err err = {0};

    if (watch_tree_check(watch->path, watch->allow_network, &err) < 0 ||
        watch_tree_open(&tree, watch->path, watch->recursive, watch->include_entry, on_emit, watch,
                        &err) < 0) {
        fail(watch, &err);
    } else {
        pthread_mutex_lock(&watch->lock);
        watch->armed = true;
        pthread_mutex_unlock(&watch->lock);
        tell(watch);
        if (follow(watch, &tree, &err) < 0)
            fail(watch, &err);
        watch_tree_clear(&tree);
    }
    watch_unref(watch);
    return NULL;
}

static int start_thread(struct watch *watch, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    rc = pthread_create(&thread, &attr, run, watch);
    pthread_attr_destroy(&attr);
    return rc != 0 ? err_sys(err, rc, "error creating watcher") : 0;
}

int watch_start(struct loop *loop, const struct watch_spec *spec, void (*ready)(void *arg),
                void *arg, struct watch **out, struct err *err)
{
    struct watch *watch;

    if (watch_count >= WATCH_MAX)
        return err_set(err, ERR_LIMIT, "too many watchers: at most %d at once", WATCH_MAX);
    watch = mem_zalloc(sizeof(*watch));
    *watch = (struct watch){
        .path = mem_strdup(spec->path),
        .recursive = spec->recursive,
        .include_entry = spec->include_entry,
        .allow_network = spec->allow_network,
        .loop = loop,
        .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .ready = ready,
        .arg = arg,
        .refs = 2,
    };
    pthread_mutex_init(&watch->lock, NULL);
    if (watch->stop_fd < 0)
        err_sys(err, errno, "error creating watcher");
    if (watch->stop_fd < 0 || start_thread(watch, err) < 0) {
        watch->refs = 1;
        watch_unref(watch);
        return -1;
    }
    watch_count++;
    *out = watch;
    return 0;
}

void watch_stop(struct watch *watch)
{
    if (watch == NULL)
        return;
    watch->stopped = true;
    watch_count--;
    eventfd_write(watch->stop_fd, 1);
    watch_unref(watch);
}

bool watch_is_armed(struct watch *watch)
{
    bool armed;

    pthread_mutex_lock(&watch->lock);
    armed = watch->armed;
    pthread_mutex_unlock(&watch->lock);
    return armed;
}

int watch_take(struct watch *watch, struct watch_event *out, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&watch->lock);
    if (watch->count > 0) {
        *out = watch->events[watch->first++];
        if (--watch->count == 0)
            watch->first = 0;
        rc = 1;
    } else if (watch->failed) {
        *err = watch->err;
        rc = -1;
    }
    pthread_mutex_unlock(&watch->lock);
    return rc;
}
