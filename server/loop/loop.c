/*
 * server/loop/loop.c - the run loop and its posts; see loop.h.
 */
#include "server/loop/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/loop/loop_private.h"

static __thread struct loop *current;

static void on_wake(h2o_socket_t *sock, const char *h2o_err)
{
    struct loop *loop = sock->data;
    uint64_t count;
    ssize_t n;

    (void)h2o_err;
    /* Only to make the descriptor unreadable; loop_run looks at the list itself. */
    n = read(loop->wake_fd, &count, sizeof(count));
    (void)n;
}

struct loop *loop_new(void)
{
    struct loop *loop = mem_zalloc(sizeof(*loop));

    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        log_error("cannot make an eventfd for an event loop");
        abort(); /* start-up only: no descriptors left */
    }
    pthread_mutex_init(&loop->lock, NULL);
    loop->tail = &loop->head;
    loop->evloop = h2o_evloop_create();
    loop->wake = h2o_evloop_socket_create(loop->evloop, loop->wake_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->wake->data = loop;
    h2o_socket_read_start(loop->wake, on_wake);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    /* A loop_post that is still writing to wake_fd holds the lock. */
    pthread_mutex_lock(&loop->lock);
    pthread_mutex_unlock(&loop->lock);
    h2o_socket_close(loop->wake);
    h2o_evloop_run(loop->evloop, 0); /* h2o frees closed sockets in its next round */
    h2o_evloop_destroy(loop->evloop);
    pthread_mutex_destroy(&loop->lock);
    free(loop->timers.slots);
    free(loop);
}

static void wake_up(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n;

    if (loop == current)
        return; /* loop_run looks at the list before it sleeps */
    do {
        n = write(loop->wake_fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
}

void loop_post(struct loop *loop, struct loop_msg *msg)
{
    bool was_empty;

    msg->next = NULL;
    pthread_mutex_lock(&loop->lock);
    was_empty = loop->head == NULL;
    *loop->tail = msg;
    loop->tail = &msg->next;
    if (was_empty)
        wake_up(loop);
    pthread_mutex_unlock(&loop->lock);
}

void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    wake_up(loop);
    pthread_mutex_unlock(&loop->lock);
}

static struct loop_msg *take_messages(struct loop *loop, bool *stopping)
{
    struct loop_msg *head;

    pthread_mutex_lock(&loop->lock);
    head = loop->head;
    loop->head = NULL;
    loop->tail = &loop->head;
    *stopping = loop->stopping;
    pthread_mutex_unlock(&loop->lock);
    return head;
}

/* Run what was posted up to now; posts made meanwhile wait for the next round. */
static bool run_messages(struct loop *loop, bool *stopping)
{
    struct loop_msg *msg = take_messages(loop, stopping);
    bool any = msg != NULL;

    while (msg != NULL) {
        struct loop_msg *next = msg->next; /* the callback owns and may free MSG */

        msg->run(msg);
        msg = next;
    }
    return any;
}

void loop_run(struct loop *loop)
{
    bool stopping = false;
    bool busy;

    current = loop;
    for (;;) {
        int32_t wait_ms;

        busy = run_messages(loop, &stopping);
        if (stopping && !busy)
            break;
        timer_heap_run(&loop->timers, time_mono_ms());
        /*
         * Writes that completed at once inside those: h2o would call back for them only after its
         * next poll, and would poll for the write that is over. It notices neither that nor, when
         * more descriptors are ready than it takes at a time, that the callback has come: then it
         * ends the process (write_pending's assertion).
         */
        h2o_timeout__do_post_callback(loop->evloop);
        /* After messages or timers ran there may be new posts of our own, for which nobody wakes.
         */
        pthread_mutex_lock(&loop->lock);
        wait_ms = loop->head != NULL || loop->stopping
                      ? 0
                      : timer_heap_wait_ms(&loop->timers, time_mono_ms());
        pthread_mutex_unlock(&loop->lock);
        if (h2o_evloop_run(loop->evloop, wait_ms) != 0 && errno != EINTR) {
            log_error("epoll_wait failed", "errno", log_num(errno));
            abort();
        }
    }
    pthread_mutex_lock(&loop->lock);
    loop->stopping = false;
    pthread_mutex_unlock(&loop->lock);
    current = NULL;
}

struct loop *loop_current(void)
{
    return current;
}

struct st_h2o_evloop_t *loop_h2o(struct loop *loop)
{
    return loop->evloop;
}

int64_t loop_now_ms(struct loop *loop)
{
    (void)loop; /* h2o's cached time follows the wall clock, so it is of no use here */
    return time_mono_ms();
}

#ifdef __SANITIZE_ADDRESS__
/*
 * h2o keeps up to 16 free chunks of each kind per thread and has no call to drop them, so those of
 * a thread that has ended look like a leak.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:h2o_mem_alloc_recycle\n";
}
#endif
