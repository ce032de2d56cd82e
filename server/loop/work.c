/*
 * server/loop/work.c - worker threads with a bounded queue; see work.h.
 */
#include "server/loop/work.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/log.h"
#include "server/base/mem.h"

#define THREAD_NAME_SIZE 16 /* the kernel's limit, with the NUL */

struct work_pool {
    pthread_mutex_t lock; /* guards all that follows but `threads` */
    pthread_cond_t wanted;
    struct work *head;
    struct work **tail;
    size_t waiting;
    size_t queue_max;
    unsigned busy; /* threads inside run() */
    bool stopping;
    unsigned thread_count;
    pthread_t *threads;
    char name[THREAD_NAME_SIZE];
};

static void on_done_msg(struct loop_msg *msg)
{
    struct work *work = container_of(msg, struct work, msg);

    log_context_set(&work->context);
    work->done(work);
    log_context_set(NULL);
}

static void work_finish(struct work *work, void (*done)(struct work *work), struct loop *loop)
{
    if (done == NULL)
        return; /* run() owned the work and may have freed it */
    if (loop == NULL) {
        done(work);
        return;
    }
    work->msg.run = on_done_msg;
    loop_post(loop, &work->msg);
}

/* The next entry, or NULL when the pool is stopping and nothing waits. Lock held. */
static struct work *take(struct work_pool *pool)
{
    struct work *work;

    while (pool->head == NULL && !pool->stopping)
        pthread_cond_wait(&pool->wanted, &pool->lock);
    work = pool->head;
    if (work == NULL)
        return NULL;
    pool->head = work->next;
    if (pool->head == NULL)
        pool->tail = &pool->head;
    pool->waiting--;
    pool->busy++;
    return work;
}

static void *worker_main(void *arg)
{
    struct work_pool *pool = arg;
    struct work *work;

    pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->lock);
    while ((work = take(pool)) != NULL) {
        void (*done)(struct work * work) = work->done;
        struct loop *loop = work->loop;

        pthread_mutex_unlock(&pool->lock);
        log_context_set(&work->context);
        work->run(work);
        work_finish(work, done, loop);
        log_context_set(NULL);
        pthread_mutex_lock(&pool->lock);
        pool->busy--;
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void start_threads(struct work_pool *pool, unsigned threads)
{
    sigset_t all;
    sigset_t old;

    /* Signals are read from a signalfd on a loop; a worker must never take one. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (unsigned i = 0; i < threads; i++) {
        int rc = pthread_create(&pool->threads[i], NULL, worker_main, pool);

        if (rc != 0) {
            log_error("cannot start a worker thread", "errno", log_num(rc));
            abort(); /* start-up only */
        }
        pool->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

struct work_pool *work_pool_new(const char *name, unsigned threads, size_t queue_max)
{
    struct work_pool *pool = mem_zalloc(sizeof(*pool));

    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wanted, NULL);
    pool->tail = &pool->head;
    pool->queue_max = queue_max;
    pool->threads = mem_calloc(threads, sizeof(*pool->threads));
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    start_threads(pool, threads);
    return pool;
}

void work_pool_free(struct work_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wanted);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wanted);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

/* Entries that an idle thread is about to take do not count as waiting. Lock held. */
static bool is_full(const struct work_pool *pool)
{
    size_t idle = pool->thread_count - pool->busy;

    return pool->waiting >= idle && pool->waiting - idle >= pool->queue_max;
}

int work_submit(struct work_pool *pool, struct work *work, void (*run)(struct work *work),
                void (*done)(struct work *work), struct err *err)
{
    bool stopping;
    bool full;

    work->run = run;
    work->done = done;
    work->loop = loop_current();
    work->next = NULL;
    log_context_get(&work->context);
    pthread_mutex_lock(&pool->lock);
    stopping = pool->stopping;
    full = is_full(pool);
    if (!stopping && !full) {
        *pool->tail = work;
        pool->tail = &work->next;
        pool->waiting++;
        pthread_cond_signal(&pool->wanted);
    }
    pthread_mutex_unlock(&pool->lock);
    if (stopping)
        return err_set(err, ERR_BUSY, "the server is stopping");
    if (full)
        return err_set(err, ERR_BUSY, "the server is busy: too much work is waiting; try again");
    return 0;
}

size_t work_pool_waiting(struct work_pool *pool)
{
    size_t waiting;

    pthread_mutex_lock(&pool->lock);
    waiting = pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}
