#include "envd/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "envd/thread.h"
#include "server/base/mem.h"

#define STACK_BYTES (1 << 20)
#define IDLE_SECONDS 20 /* then a thread ends */

struct pool {
    struct loop *loop;
    const char *name;
    size_t threads_max;
    size_t queue_max;
    size_t unfinished; /* loop thread: jobs whose `done` has not been called */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct job *first;
    struct job **last;
    bool held;
    size_t waiting;
    size_t threads;
    size_t idle;
};

struct pool *pool_new(struct loop *loop, const char *name, size_t threads_max, size_t queue_max)
{
    struct pool *pool = mem_zalloc(sizeof(*pool));
    pthread_condattr_t attr;

    pool->loop = loop;
    pool->name = name;
    pool->threads_max = threads_max;
    pool->queue_max = queue_max;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->wake, &attr);
    pthread_condattr_destroy(&attr);
    return pool;
}

static void job_done(struct loop_msg *msg)
{
    struct job *job = container_of(msg, struct job, msg);

    job->pool->unfinished--;
    job->done(job);
}

/* The link to the next job that may run; with the lock. */
static struct job **next_job(struct pool *pool)
{
    struct job **link = &pool->first;

    while (pool->held && *link != NULL && !(*link)->again)
        link = &(*link)->next;
    return link;
}

/* The next job, or NULL when none came for a while. With the lock. */
static struct job *take(struct pool *pool)
{
    struct timespec until;
    struct job **link, *job;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    while (*(link = next_job(pool)) == NULL) {
        int rc;

        pool->idle++;
        rc = pthread_cond_timedwait(&pool->wake, &pool->lock, &until);
        pool->idle--;
        if (rc == ETIMEDOUT && *next_job(pool) == NULL)
            return NULL;
    }
    job = *link;
    *link = job->next;
    if (*link == NULL)
        pool->last = link;
    pool->waiting--;
    return job;
}

static void *worker(void *arg)
{
    struct pool *pool = arg;
    struct job *job;

    pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->lock);
    while ((job = take(pool)) != NULL) {
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        loop_post(pool->loop, &job->msg, job_done);
        pthread_mutex_lock(&pool->lock);
    }
    pool->threads--;
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* One more thread; with the lock. */
static int add_thread(struct pool *pool)
{
    int rc = thread_start(STACK_BYTES, worker, pool);

    if (rc == 0)
        pool->threads++;
    return rc;
}

/* Add JOB to the queue, which may hold QUEUE_MAX before. Returns false when it is not taken. */
static bool enqueue(struct pool *pool, struct job *job, size_t queue_max)
{
    bool full;

    job->pool = pool;
    job->next = NULL;
    pthread_mutex_lock(&pool->lock);
    full = pool->waiting >= queue_max;
    if (!full && pool->idle <= pool->waiting && pool->threads < pool->threads_max)
        full = add_thread(pool) != 0 && pool->threads == 0;
    if (!full) {
        *pool->last = job;
        pool->last = &job->next;
        pool->waiting++;
        pool->unfinished++;
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return !full;
}

int pool_submit(struct pool *pool, struct job *job, void (*run)(struct job *job),
                void (*done)(struct job *job), struct err *err)
{
    job->run = run;
    job->done = done;
    job->again = false;
    if (!enqueue(pool, job, pool->queue_max))
        return err_set(err, ERR_BUSY, "too many file operations are waiting");
    return 0;
}

bool pool_resubmit(struct pool *pool, struct job *job, void (*run)(struct job *job),
                   void (*done)(struct job *job))
{
    job->run = run;
    job->done = done;
    return enqueue(pool, job, SIZE_MAX);
}

size_t pool_waiting(struct pool *pool)
{
    size_t waiting;

    pthread_mutex_lock(&pool->lock);
    waiting = pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}

void pool_hold(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->held = true;
    pthread_mutex_unlock(&pool->lock);
}

void pool_release(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->held = false;
    while (pool->threads < pool->waiting && pool->threads < pool->threads_max &&
           add_thread(pool) == 0)
        ; /* some may have ended meanwhile */
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

bool pool_idle(struct pool *pool)
{
    bool idle;

    pthread_mutex_lock(&pool->lock);
    idle = pool->unfinished == pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return idle;
}
