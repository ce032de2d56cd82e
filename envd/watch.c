#include "envd/watch.h"

#include <pthread.h>
#include <string.h>

#include "envd/watch_hub.h"
#include "server/base/mem.h"

#define NEWS_BATCH 64 /* watches that are looked at before the loop sees to others */
#define QUEUE_FIRST_BYTES 128

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    size_t count; /* loop thread: watches that are not stopped */

    /* the lock */
    struct loop *loop;
    struct watch *all;
    struct watch *news, **news_last;
    struct loop_msg msg;
    bool posted;
    size_t queued_bytes; /* allocated by all queues */
} shared = {.news_last = &shared.news};

/* ---- Queues; the lock is held ---- */

static void queue_free(struct watch_queue *queue)
{
    shared.queued_bytes -= queue->cap;
    free(queue->data);
    *queue = (struct watch_queue){0};
}

static void fail_locked(struct watch *watch, const struct err *err)
{
    if (watch->failed)
        return;
    watch->failed = true;
    watch->err = mem_zalloc(sizeof(*watch->err));
    *watch->err = *err;
}

static void overflow_locked(struct watch *watch)
{
    struct err err;

    err_set(&err, ERR_INTERNAL, "watcher error: fsnotify: queue or buffer overflow");
    fail_locked(watch, &err);
}

static void tell_locked(struct watch *watch)
{
    if (watch->in_news || watch_is_stopped(watch))
        return;
    watch->in_news = true;
    watch->refs++;
    watch->news_next = NULL;
    *shared.news_last = watch;
    shared.news_last = &watch->news_next;
}

/* The memory of all queues together is at its maximum. */
static void drop_longest(void)
{
    struct watch *longest = shared.all;

    for (struct watch *at = shared.all; at != NULL; at = at->all_next)
        if (at->queue.cap > longest->queue.cap)
            longest = at;
    queue_free(&longest->queue);
    overflow_locked(longest);
    tell_locked(longest);
}

/* Room for SIZE more bytes at the end of WATCH's queue, or NULL: the watch has failed. */
static char *make_room(struct watch *watch, size_t size)
{
    struct watch_queue *queue = &watch->queue;
    size_t cap = queue->cap > 0 ? queue->cap : QUEUE_FIRST_BYTES;

    if (queue->len + size > WATCH_QUEUE_MAX_BYTES) {
        overflow_locked(watch);
        return NULL;
    }
    if (queue->first + queue->len + size > queue->cap && queue->first > queue->len) {
        memmove(queue->data, queue->data + queue->first, queue->len);
        queue->first = 0;
    }
    while (cap < queue->first + queue->len + size)
        cap *= 2;
    while (shared.queued_bytes + cap - queue->cap > WATCH_QUEUES_MAX_BYTES && !watch->failed)
        drop_longest();
    if (watch->failed)
        return NULL;
    if (cap > queue->cap) {
        shared.queued_bytes += cap - queue->cap;
        queue->data = mem_realloc_array(queue->data, cap, 1);
        queue->cap = cap;
    }
    return queue->data + queue->first + queue->len;
}

static void push_locked(struct watch *watch, const ProtobufCMessage *event)
{
    uint32_t size = (uint32_t)protobuf_c_message_get_packed_size(event);
    char *to = make_room(watch, sizeof(size) + size);

    if (to == NULL)
        return;
    memcpy(to, &size, sizeof(size));
    protobuf_c_message_pack(event, (uint8_t *)to + sizeof(size));
    watch->queue.len += sizeof(size) + size;
}

static Filesystem__FilesystemEvent *pop_locked(struct watch_queue *queue)
{
    const char *from = queue->data + queue->first;
    Filesystem__FilesystemEvent *event;
    uint32_t size;

    memcpy(&size, from, sizeof(size));
    event = filesystem__filesystem_event__unpack(NULL, size, (const uint8_t *)from + sizeof(size));
    queue->first += sizeof(size) + size;
    queue->len -= sizeof(size) + size;
    if (queue->len == 0)
        queue_free(queue);
    return event;
}

/* ---- Any thread ---- */

void watch_unref(struct watch *watch)
{
    unsigned refs;

    pthread_mutex_lock(&lock);
    refs = --watch->refs;
    if (refs == 0)
        queue_free(&watch->queue);
    pthread_mutex_unlock(&lock);
    if (refs > 0)
        return;
    free(watch->err);
    free(watch->path);
    free(watch);
}

static void on_news(struct loop_msg *msg);

/* Release the lock, and wake the loop if there is news that it has not heard of. */
static void unlock_and_wake(void)
{
    bool post = shared.news != NULL && !shared.posted;
    struct loop *loop = shared.loop;

    shared.posted = shared.posted || post;
    pthread_mutex_unlock(&lock);
    if (post)
        loop_post(loop, &shared.msg, on_news);
}

void watch_set_armed(struct watch *watch)
{
    pthread_mutex_lock(&lock);
    watch->armed = true;
    tell_locked(watch);
    unlock_and_wake();
}

void watch_fail(struct watch *watch, const struct err *err)
{
    pthread_mutex_lock(&lock);
    fail_locked(watch, err);
    tell_locked(watch);
    unlock_and_wake();
}

void watch_push(struct watch *watch, const Filesystem__FilesystemEvent *event)
{
    pthread_mutex_lock(&lock);
    if (!watch->failed && !watch_is_stopped(watch)) {
        push_locked(watch, &event->base);
        tell_locked(watch);
    }
    unlock_and_wake();
}

/* ---- Loop thread ---- */

/* The next watch with news; its reference passes to the caller. */
static struct watch *take_news(void)
{
    struct watch *watch;

    pthread_mutex_lock(&lock);
    watch = shared.news;
    if (watch != NULL) {
        shared.news = watch->news_next;
        if (shared.news == NULL)
            shared.news_last = &shared.news;
        watch->in_news = false;
    }
    pthread_mutex_unlock(&lock);
    return watch;
}

static void on_news(struct loop_msg *msg)
{
    struct watch *watch;
    size_t left = NEWS_BATCH;

    (void)msg;
    while (left-- > 0 && (watch = take_news()) != NULL) {
        if (!watch_is_stopped(watch))
            watch->ready(watch->arg);
        watch_unref(watch);
    }
    pthread_mutex_lock(&lock);
    shared.posted = false;
    unlock_and_wake();
}

static void list(struct loop *loop, struct watch *watch)
{
    pthread_mutex_lock(&lock);
    shared.loop = loop;
    watch->all_next = shared.all;
    if (shared.all != NULL)
        shared.all->all_prev = watch;
    shared.all = watch;
    pthread_mutex_unlock(&lock);
}

static void unlist(struct watch *watch)
{
    pthread_mutex_lock(&lock);
    queue_free(&watch->queue);
    if (watch->all_prev != NULL)
        watch->all_prev->all_next = watch->all_next;
    else
        shared.all = watch->all_next;
    if (watch->all_next != NULL)
        watch->all_next->all_prev = watch->all_prev;
    pthread_mutex_unlock(&lock);
}

int watch_start(struct loop *loop, const struct watch_spec *spec, void (*ready)(void *arg),
                void *arg, struct watch **out, struct err *err)
{
    struct watch *watch;

    if (shared.count >= WATCH_MAX)
        return err_set(err, ERR_LIMIT, "too many watchers: at most %d at once", WATCH_MAX);
    watch = mem_zalloc(sizeof(*watch));
    *watch = (struct watch){
        .path = mem_strdup(spec->path),
        .recursive = spec->recursive,
        .include_entry = spec->include_entry,
        .allow_network = spec->allow_network,
        .ready = ready,
        .arg = arg,
        .refs = 2, /* the caller's and the hub's */
    };
    list(loop, watch);
    if (watch_hub_start(watch, err) < 0) {
        unlist(watch);
        watch->refs = 1;
        watch_unref(watch);
        return -1;
    }
    shared.count++;
    *out = watch;
    return 0;
}

void watch_stop(struct watch *watch)
{
    if (watch == NULL)
        return;
    __atomic_store_n(&watch->stopped, true, __ATOMIC_RELEASE);
    shared.count--;
    unlist(watch);
    watch_hub_stop(watch);
    watch_unref(watch);
}

size_t watch_count(void)
{
    return shared.count;
}

bool watch_is_armed(struct watch *watch)
{
    bool armed;

    pthread_mutex_lock(&lock);
    armed = watch->armed;
    pthread_mutex_unlock(&lock);
    return armed;
}

int watch_take(struct watch *watch, Filesystem__FilesystemEvent **out, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&lock);
    if (watch->queue.len > 0) {
        *out = pop_locked(&watch->queue);
        rc = 1;
    } else if (watch->failed) {
        *err = *watch->err;
        rc = -1;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- Handed over ---- */

static void attach(struct watch_hub *hub, struct watch *watch)
{
    watch->hub = hub;
    hub->watch_count++;
    watch->attached = true;
    watch->hub_next = hub->watches;
    if (hub->watches != NULL)
        hub->watches->hub_prev = watch;
    hub->watches = watch;
}

struct watch *watch_restore(struct loop *loop, const struct watch_spec *spec, struct watch_hub *hub,
                            const void *queue, size_t len)
{
    struct watch *watch = mem_zalloc(sizeof(*watch));
    char *to;

    *watch = (struct watch){
        .path = mem_strdup(spec->path),
        .recursive = spec->recursive,
        .include_entry = spec->include_entry,
        .allow_network = spec->allow_network,
        .refs = 2,
    };
    list(loop, watch);
    attach(hub, watch);
    shared.count++;
    pthread_mutex_lock(&lock);
    to = len > 0 ? make_room(watch, len) : NULL;
    if (to != NULL) {
        memcpy(to, queue, len);
        watch->queue.len = len;
    }
    pthread_mutex_unlock(&lock);
    return watch;
}

const void *watch_queued(const struct watch *watch, size_t *len)
{
    *len = watch->queue.len;
    return watch->queue.data + watch->queue.first;
}

void watch_tell(struct watch *watch)
{
    pthread_mutex_lock(&lock);
    tell_locked(watch);
    unlock_and_wake();
}
