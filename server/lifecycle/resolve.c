#include "server/lifecycle/resolve.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "server/base/mem.h"

/* Freed by whoever lets go of it last. */
struct lookup {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    int holders;
    bool done;
    char *host;
    struct addrinfo *found;
};

static void lookup_unref(struct lookup *lookup)
{
    bool last;

    pthread_mutex_lock(&lookup->lock);
    last = --lookup->holders == 0;
    pthread_mutex_unlock(&lookup->lock);
    if (!last)
        return;
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    pthread_mutex_destroy(&lookup->lock);
    pthread_cond_destroy(&lookup->done_cond);
    free(lookup->host);
    free(lookup);
}

static void *run(void *arg)
{
    static const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct lookup *lookup = arg;
    struct addrinfo *found = NULL;

    if (getaddrinfo(lookup->host, NULL, &hints, &found) != 0)
        found = NULL;
    pthread_mutex_lock(&lookup->lock);
    lookup->found = found;
    lookup->done = true;
    pthread_cond_signal(&lookup->done_cond);
    pthread_mutex_unlock(&lookup->lock);
    lookup_unref(lookup);
    return NULL;
}

static struct lookup *lookup_new(const char *host)
{
    struct lookup *lookup = mem_zalloc(sizeof(*lookup));
    pthread_condattr_t attr;

    pthread_mutex_init(&lookup->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&lookup->done_cond, &attr);
    pthread_condattr_destroy(&attr);
    lookup->host = mem_strdup(host);
    lookup->holders = 1;
    return lookup;
}

static int begin(struct lookup *lookup)
{
    pthread_attr_t attr;
    pthread_t thread;
    int failed;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    lookup->holders++;
    failed = pthread_create(&thread, &attr, run, lookup);
    if (failed != 0)
        lookup->holders--;
    pthread_attr_destroy(&attr);
    return failed;
}

struct addrinfo *resolve_name(const char *host, int wait_s)
{
    struct lookup *lookup = lookup_new(host);
    struct addrinfo *found = NULL;
    struct timespec until;
    int rc = begin(lookup);

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_s;
    pthread_mutex_lock(&lookup->lock);
    while (rc == 0 && !lookup->done)
        rc = pthread_cond_timedwait(&lookup->done_cond, &lookup->lock, &until);
    if (lookup->done)
        found = steal_ptr(&lookup->found);
    pthread_mutex_unlock(&lookup->lock);
    lookup_unref(lookup);
    return found;
}
