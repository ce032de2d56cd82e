#include "server/proxy/pool.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/model/sandbox.h"
#include "server/proxy/sock.h"

struct pool_idle {
    struct pool_host *host;
    h2o_socket_t *sock;
    struct timer timer;
};

struct pool_host {
    char id[SANDBOX_ID_SIZE]; /* the map's key */
    int64_t run;
    struct pool *pool;
    struct pool_idle *idle[POOL_IDLE_MAX]; /* oldest first */
    size_t count;
};

void pool_init(struct pool *pool, struct loop *loop)
{
    pool->loop = loop;
    map_init(&pool->hosts);
}

/* Take entry AT out of HOST; the socket is the caller's. HOST is freed when it was the last. */
static h2o_socket_t *detach(struct pool_host *host, size_t at)
{
    struct pool_idle *idle = host->idle[at];
    h2o_socket_t *sock = idle->sock;

    timer_cancel(&idle->timer);
    free(idle);
    host->count--;
    memmove(&host->idle[at], &host->idle[at + 1], (host->count - at) * sizeof(struct pool_idle *));
    if (host->count == 0) {
        map_remove(&host->pool->hosts, host->id);
        free(host);
    }
    return sock;
}

static void discard(struct pool_idle *idle)
{
    struct pool_host *host = idle->host;
    h2o_socket_t *sock;
    size_t at = 0;

    while (host->idle[at] != idle)
        at++;
    sock = detach(host, at);
    sock_close(&sock);
}

/* envd closed it, or spoke out of turn: either way of no more use */
static void on_idle_readable(h2o_socket_t *sock, const char *h2o_err)
{
    (void)h2o_err;
    discard(sock->data);
}

static void on_idle_timeout(struct timer *timer)
{
    discard(container_of(timer, struct pool_idle, timer));
}

void pool_drop(struct pool *pool, const char *id)
{
    struct pool_host *host = map_get(&pool->hosts, id);

    if (host == NULL)
        return;
    for (size_t left = host->count; left > 0; left--)
        discard(host->idle[left - 1]);
}

void pool_clear(struct pool *pool)
{
    size_t at = 0;
    void *host;

    while (map_next(&pool->hosts, &at, &host)) {
        pool_drop(pool, ((struct pool_host *)host)->id);
        at = 0; /* the table changed */
    }
    map_clear(&pool->hosts);
}

h2o_socket_t *pool_take(struct pool *pool, const char *id, int64_t run)
{
    struct pool_host *host = map_get(&pool->hosts, id);
    h2o_socket_t *sock;

    if (host == NULL)
        return NULL;
    if (host->run != run) {
        pool_drop(pool, id);
        return NULL;
    }
    sock = detach(host, host->count - 1);
    h2o_socket_read_stop(sock);
    return sock;
}

static struct pool_host *host_of(struct pool *pool, const char *id, int64_t run)
{
    struct pool_host *host = map_get(&pool->hosts, id);

    if (host != NULL && host->run != run) {
        pool_drop(pool, id);
        host = NULL;
    }
    if (host == NULL) {
        host = mem_zalloc(sizeof(*host));
        memcpy(host->id, id, strlen(id) + 1); /* its length was checked by host_parse */
        host->run = run;
        host->pool = pool;
        map_put(&pool->hosts, host->id, host);
    }
    return host;
}

void pool_put(struct pool *pool, const char *id, int64_t run, h2o_socket_t *sock)
{
    struct pool_host *host = host_of(pool, id, run);
    struct pool_idle *idle;

    if (host->count == POOL_IDLE_MAX) {
        sock_close(&sock);
        return;
    }
    idle = mem_zalloc(sizeof(*idle));
    idle->host = host;
    idle->sock = sock;
    sock->data = idle;
    host->idle[host->count++] = idle;
    timer_arm(pool->loop, &idle->timer, POOL_IDLE_TIMEOUT_MS, on_idle_timeout);
    h2o_socket_read_stop(sock); /* the callback is another one from now on */
    h2o_socket_read_start(sock, on_idle_readable);
}
