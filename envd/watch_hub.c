#include "envd/watch_hub.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "envd/fs.h"
#include "envd/thread.h"
#include "envd/watch_tree.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define STACK_BYTES (512 << 10)
#define READ_BYTES 16384
#define SOAK_EVERY 256 /* events that are handled before the kernel's queue is emptied again */
#define RETRY_MS 50
#define RENAME_WAIT_MS 200 /* between the two events of a rename: its thread may be held up */

/* ---- Reading; the hub's thread ---- */

/* Move at most READ_BYTES from the kernel's queue to pending. False when there was nothing. */
static bool read_some(struct watch_hub *hub)
{
    ssize_t len;

    if (hub->at > 0 && hub->at * 2 >= hub->pending.len) {
        buf_consume(&hub->pending, hub->at);
        hub->at = 0;
    }
    if (hub->pending.len + READ_BYTES > hub->pending.max)
        return false; /* the kernel's queue has to hold the rest */
    len = read(hub->fd, buf_reserve(&hub->pending, READ_BYTES), READ_BYTES);
    if (len <= 0)
        return false;
    buf_commit(&hub->pending, (size_t)len);
    hub->read_bytes += (uint64_t)len;
    return true;
}

uint64_t watch_hub_horizon(const struct watch_hub *hub)
{
    int queued = 0;

    ioctl(hub->fd, FIONREAD, &queued);
    return hub->read_bytes + (uint64_t)queued;
}

void watch_hub_soak(struct watch_hub *hub)
{
    /* no more than there is now: somebody may be filling it faster than we read */
    for (uint64_t until = watch_hub_horizon(hub); hub->read_bytes < until;)
        if (!read_some(hub))
            return;
}

/* The event at AT of what is pending, and its size; NULL at the end. */
static const struct inotify_event *event_at(const struct watch_hub *hub, size_t at, size_t *size)
{
    const struct inotify_event *event = (const void *)(hub->pending.data + at);

    if (at >= hub->pending.len)
        return NULL;
    *size = sizeof(*event) + event->len;
    return event;
}

/* In what is pending from *AT: 1 and *OUT the target, -1: there is none, 0: not there yet. */
static int look_for_target(const struct watch_hub *hub, size_t *at, uint32_t cookie, int wd,
                           union watch_hub_event *out)
{
    const struct inotify_event *event;
    size_t size;

    for (; (event = event_at(hub, *at, &size)) != NULL; *at += size) {
        if (event->mask & IN_Q_OVERFLOW || (event->mask & IN_MOVE_SELF && event->wd == wd))
            return -1;
        if (event->mask & IN_MOVED_TO && event->cookie == cookie && size <= sizeof(*out)) {
            memcpy(out, event, size);
            return 1;
        }
    }
    return 0;
}

bool watch_hub_find_target(struct watch_hub *hub, uint32_t cookie, int wd,
                           union watch_hub_event *out)
{
    int64_t end = time_mono_ms() + RENAME_WAIT_MS;
    size_t at = hub->at;

    for (;;) {
        struct pollfd pfd = {.fd = hub->fd, .events = POLLIN};
        int found = look_for_target(hub, &at, cookie, wd, out);
        uint64_t before = hub->read_bytes;
        size_t seen = at - hub->at;

        if (found != 0)
            return found > 0;
        watch_hub_soak(hub); /* may move what is pending */
        at = hub->at + seen;
        if (hub->read_bytes > before)
            continue;
        if (time_mono_ms() >= end || hub->pending.len + READ_BYTES > hub->pending.max)
            return false;
        poll(&pfd, 1, 5);
    }
}

/* Every watch here has missed something. */
static void lose_events(struct watch_hub *hub)
{
    struct err err;

    err_set(&err, ERR_INTERNAL, "watcher error: fsnotify: queue or buffer overflow");
    for (struct watch *watch = hub->watches; watch != NULL; watch = watch->hub_next) {
        watch_tree_close(watch);
        watch_fail(watch, &err);
    }
}

/* Handle what the kernel has queued by now. */
static void handle_events(struct watch_hub *hub)
{
    uint64_t until;
    unsigned count = 0;
    size_t size;
    const struct inotify_event *event;

    watch_hub_soak(hub);
    until = hub->read_bytes;
    while (hub->done_bytes < until && (event = event_at(hub, hub->at, &size)) != NULL) {
        union watch_hub_event copy; /* pending may move meanwhile */

        hub->at += size;
        hub->done_bytes += size;
        if (event->mask & IN_Q_OVERFLOW) {
            lose_events(hub);
        } else if (size <= sizeof(copy)) {
            memcpy(&copy, event, size);
            watch_tree_event(hub, &copy.event);
        }
        watch_told_expire(&hub->index, hub->done_bytes);
        watch_tree_reap(hub);
        if (++count % SOAK_EVERY == 0)
            watch_hub_soak(hub);
    }
    watch_tree_retry(hub);
    watch_tree_reap(hub);
    if (hub->at == hub->pending.len) {
        buf_clear(&hub->pending);
        hub->at = 0;
    }
}

/* ---- Commands ---- */

static struct watch *next_command(struct watch_hub *hub, bool *quit)
{
    struct watch *watch;

    pthread_mutex_lock(&hub->lock);
    watch = hub->commands;
    if (watch != NULL) {
        hub->commands = watch->command_next;
        if (hub->commands == NULL)
            hub->commands_last = &hub->commands;
        watch->commanded = false;
    }
    *quit = watch == NULL && hub->quit;
    pthread_mutex_unlock(&hub->lock);
    return watch;
}

static void detach(struct watch_hub *hub, struct watch *watch)
{
    if (watch->attached) {
        watch_tree_close(watch);
        watch_tree_reap(hub);
        if (watch->hub_prev != NULL)
            watch->hub_prev->hub_next = watch->hub_next;
        else
            hub->watches = watch->hub_next;
        if (watch->hub_next != NULL)
            watch->hub_next->hub_prev = watch->hub_prev;
    }
    watch_unref(watch);
}

static void attach(struct watch_hub *hub, struct watch *watch)
{
    struct err err = {0};

    handle_events(hub); /* what was before is not for the new one, whose folder may be known here */
    watch->attached = true;
    watch->hub_next = hub->watches;
    if (hub->watches != NULL)
        hub->watches->hub_prev = watch;
    hub->watches = watch;
    if (watch_tree_check(watch->path, watch->allow_network, &err) < 0 ||
        watch_tree_open(watch, &err) < 0) {
        watch_tree_close(watch);
        watch_fail(watch, &err);
    } else {
        watch_set_armed(watch);
    }
    watch_tree_reap(hub);
}

static void hub_free(struct watch_hub *hub)
{
    watch_index_clear(&hub->index);
    buf_clear(&hub->pending);
    buf_clear(&hub->path);
    free(hub->retries);
    free(hub->renames);
    fd_close(&hub->fd);
    fd_close(&hub->wake_fd);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

/* To be held, with nothing left to do? */
static bool park(struct watch_hub *hub)
{
    bool parked;

    pthread_mutex_lock(&hub->lock);
    parked = hub->parked = hub->held && hub->commands == NULL && !hub->quit;
    pthread_mutex_unlock(&hub->lock);
    return parked;
}

static bool is_held(struct watch_hub *hub)
{
    bool held;

    pthread_mutex_lock(&hub->lock);
    held = hub->held;
    pthread_mutex_unlock(&hub->lock);
    return held;
}

static void unpark(struct watch_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    hub->parked = false;
    pthread_mutex_unlock(&hub->lock);
}

/* How long to sleep: not while events that were read ahead still wait. */
static int sleep_ms(const struct watch_hub *hub)
{
    if (hub->done_bytes < hub->read_bytes)
        return 0;
    return hub->retry_count > 0 ? RETRY_MS : -1;
}

/* Until there are events or commands; while it is parked, commands alone. */
static void wait_for_work(struct watch_hub *hub)
{
    struct pollfd pfds[2] = {{.fd = hub->wake_fd, .events = POLLIN},
                             {.fd = hub->fd, .events = POLLIN}};
    bool parked = park(hub);
    int wait_ms = parked ? -1 : sleep_ms(hub);
    eventfd_t ignored;

    if (poll(pfds, parked ? 1 : 2, wait_ms) > 0 && pfds[0].revents != 0)
        eventfd_read(hub->wake_fd, &ignored);
    if (parked)
        unpark(hub);
}

static void *run(void *arg)
{
    struct watch_hub *hub = arg;
    struct watch *watch;
    bool quit = false;

    pthread_setname_np(pthread_self(), "envd-watch");
    while (!quit) {
        wait_for_work(hub);
        while ((watch = next_command(hub, &quit)) != NULL) {
            if (watch_is_stopped(watch))
                detach(hub, watch);
            else
                attach(hub, watch);
        }
        if (!is_held(hub)) /* a late wake-up is no leave: its state may be on its way already */
            handle_events(hub);
    }
    hub_free(hub);
    return NULL;
}

/* ---- Loop thread ---- */

static struct watch_hub *hubs[WATCH_HUBS_ALL]; /* those for network mounts last */

static void on_unused(struct watch_index *index, int wd)
{
    struct watch_hub *hub = container_of(index, struct watch_hub, index);

    inotify_rm_watch(hub->fd, wd);
}

/* Everything but the inotify instance and the thread. */
static struct watch_hub *hub_alloc(void)
{
    struct watch_hub *hub = mem_zalloc(sizeof(*hub));

    watch_index_init(&hub->index, on_unused);
    buf_init(&hub->pending, WATCH_HUB_PENDING_MAX_BYTES);
    buf_init(&hub->path, WATCH_PATH_MAX_BYTES);
    pthread_mutex_init(&hub->lock, NULL);
    hub->commands_last = &hub->commands;
    hub->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    hub->fd = -1;
    return hub;
}

static struct watch_hub *hub_new(struct err *err)
{
    struct watch_hub *hub = hub_alloc();
    char text[FS_ERRNO_TEXT_SIZE];
    int failed = 0;

    hub->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (hub->fd < 0 || hub->wake_fd < 0)
        failed = errno;
    else
        failed = thread_start(STACK_BYTES, run, hub);
    if (failed == 0)
        return hub;
    err_set(err, ERR_INTERNAL, "error creating watcher: %s", fs_errno_text(failed, text));
    hub_free(hub);
    return NULL;
}

/* The instance with the fewest watches, a new one while there may be more. NULL with *ERR. */
static struct watch_hub *choose(bool network, struct err *err)
{
    size_t from = network ? WATCH_HUBS : 0;
    size_t to = network ? WATCH_HUBS + WATCH_HUBS_NETWORK : WATCH_HUBS;
    struct watch_hub *least = NULL;

    for (size_t i = from; i < to; i++) {
        if (hubs[i] == NULL) {
            hubs[i] = hub_new(err);
            if (hubs[i] != NULL)
                return hubs[i];
            break; /* the kernel gives no more: share */
        }
    }
    for (size_t i = from; i < to; i++)
        if (hubs[i] != NULL && (least == NULL || hubs[i]->watch_count < least->watch_count))
            least = hubs[i];
    return least;
}

static void command(struct watch *watch)
{
    struct watch_hub *hub = watch->hub;

    pthread_mutex_lock(&hub->lock);
    if (!watch->commanded) {
        watch->commanded = true;
        watch->command_next = NULL;
        *hub->commands_last = watch;
        hub->commands_last = &watch->command_next;
    }
    hub->quit = hub->watch_count == 0;
    eventfd_write(hub->wake_fd, 1); /* under the lock: the hub ends itself once it may */
    pthread_mutex_unlock(&hub->lock);
}

int watch_hub_start(struct watch *watch, struct err *err)
{
    watch->hub = choose(watch->allow_network, err);
    if (watch->hub == NULL)
        return -1;
    watch->hub->watch_count++;
    command(watch);
    return 0;
}

void watch_hub_stop(struct watch *watch)
{
    struct watch_hub *hub = watch->hub;

    if (--hub->watch_count == 0)
        for (size_t i = 0; i < array_size(hubs); i++)
            if (hubs[i] == hub)
                hubs[i] = NULL;
    command(watch);
}

/* ---- Handed over ---- */

struct watch_hub *watch_hub_at(size_t place)
{
    return hubs[place];
}

void watch_hub_hold(bool held)
{
    for (size_t i = 0; i < array_size(hubs); i++) {
        if (hubs[i] == NULL)
            continue;
        pthread_mutex_lock(&hubs[i]->lock);
        if (hubs[i]->held != held)
            eventfd_write(hubs[i]->wake_fd, 1);
        hubs[i]->held = held;
        pthread_mutex_unlock(&hubs[i]->lock);
    }
}

bool watch_hub_parked(void)
{
    bool parked = true;

    for (size_t i = 0; i < array_size(hubs) && parked; i++) {
        if (hubs[i] == NULL)
            continue;
        pthread_mutex_lock(&hubs[i]->lock);
        parked = hubs[i]->parked && hubs[i]->commands == NULL;
        pthread_mutex_unlock(&hubs[i]->lock);
    }
    return parked;
}

struct watch_hub *watch_hub_restore(size_t place, int fd, struct err *err)
{
    struct watch_hub *hub = hub_alloc();

    if (hub->wake_fd < 0) {
        err_sys(err, errno, "cannot make an eventfd");
        hub_free(hub);
        return NULL;
    }
    hub->fd = fd;
    hubs[place] = hub;
    return hub;
}

int watch_hub_go_on(struct watch_hub *hub, struct err *err)
{
    int failed = thread_start(STACK_BYTES, run, hub);

    if (failed == 0)
        return 0;
    lose_events(hub);
    return err_sys(err, failed, "cannot start the thread of a watch");
}
