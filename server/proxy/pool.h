/*
 * server/proxy/pool.h - idle connections to envd, by run of a sandbox.
 *
 * Only envd's port is kept alive: guest servers restart, envd does not. A connection never serves
 * another run (id and start time) than the one it was dialled for. One pool per loop; loop thread.
 */
#ifndef SANDPIT_PROXY_POOL_H
#define SANDPIT_PROXY_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/map.h"
#include "server/loop/loop.h"

#define POOL_IDLE_MAX 8 /* per sandbox */
#define POOL_IDLE_TIMEOUT_MS 30000

struct st_h2o_socket_t;

struct pool {
    struct loop *loop;
    struct map hosts; /* sandbox id to struct pool_host */
};

void pool_init(struct pool *pool, struct loop *loop);
/* Close everything. */
void pool_clear(struct pool *pool);
/* The most recently used connection of ID's run RUN, owned by the caller; NULL when none. */
struct st_h2o_socket_t *pool_take(struct pool *pool, const char *id, int64_t run);
/* Keep SOCK (nothing pending on it) or close it when there are enough. Takes it over. */
void pool_put(struct pool *pool, const char *id, int64_t run, struct st_h2o_socket_t *sock);
/* Close those of sandbox ID. */
void pool_drop(struct pool *pool, const char *id);

#endif
