/*
 * tests/unit/lifecycle/test_engine.h - an engine in memory that fails or stalls at a chosen call.
 *
 * Tests only. Its world outlives a lifecycle, as real sandboxes outlive a server.
 */
#ifndef SANDPIT_TESTS_TEST_ENGINE_H
#define SANDPIT_TESTS_TEST_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/engine/engine.h"

enum call {
    CALL_CREATE,
    CALL_DESTROY,
    CALL_ADOPT,
    CALL_LIST,
    CALL_FREEZE,
    CALL_THAW,
    CALL_STOP,
    CALL_START,
    CALL_SNAPSHOT,
    CALL_SNAPSHOT_DELETE,
    CALL_SNAPSHOT_LIST,
    CALL_NETWORK,
    CALL_COUNT
};

#define WORLD_MAX 4096

struct test_engine {
    struct engine engine;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct {
        char id[SANDBOX_ID_SIZE];
        bool frozen;
        bool stopped; /* only its file system is there */
    } world[WORLD_MAX];
    size_t count;
    char snapshots[WORLD_MAX][SANDBOX_ID_SIZE];
    size_t snapshot_count;
    bool deaf; /* no envd answers */
    int last_dialled;
    unsigned calls[CALL_COUNT];
    unsigned fail[CALL_COUNT]; /* so many next calls fail */
    enum err_code fail_code;   /* of those; ERR_NONE: ERR_INTERNAL */
    bool stall[CALL_COUNT];    /* calls wait while it is set */
    unsigned stalled[CALL_COUNT];
    bool overlap; /* two calls for one id at once were seen */
    char active[WORLD_MAX][SANDBOX_ID_SIZE];
    char last_config[4096]; /* envd_config of the last create */
    bool last_internet;
    char last_network[1024];             /* rules of the last create or set_network; "" for none */
    char last_snapshot[SANDBOX_ID_SIZE]; /* what the last create began with; "" for none */
};

static inline struct test_engine *test_engine_of(struct engine *engine)
{
    return container_of(engine, struct test_engine, engine);
}

/* Under the lock. */
static inline ssize_t test_engine_find(const struct test_engine *test, const char *id)
{
    for (size_t i = 0; i < test->count; i++)
        if (strcmp(test->world[i].id, id) == 0)
            return (ssize_t)i;
    return -1;
}

static inline ssize_t test_engine_find_snapshot(const struct test_engine *test, const char *id)
{
    for (size_t i = 0; i < test->snapshot_count; i++)
        if (strcmp(test->snapshots[i], id) == 0)
            return (ssize_t)i;
    return -1;
}

static inline void test_engine_mark(struct test_engine *test, const char *id, bool begin)
{
    size_t slot = WORLD_MAX;

    for (size_t i = 0; i < WORLD_MAX; i++) {
        if (strcmp(test->active[i], begin ? "" : id) == 0)
            slot = i;
        if (begin && strcmp(test->active[i], id) == 0)
            test->overlap = true;
    }
    if (slot < WORLD_MAX)
        snprintf(test->active[slot], SANDBOX_ID_SIZE, "%s", begin ? id : "");
}

/* Enter CALL for ID: count it, stall, fail. Returns with the lock held. */
static inline int test_engine_enter(struct test_engine *test, enum call call, const char *id,
                                    struct err *err)
{
    pthread_mutex_lock(&test->lock);
    test->calls[call]++;
    test_engine_mark(test, id, true);
    while (test->stall[call]) {
        test->stalled[call]++;
        pthread_cond_broadcast(&test->changed);
        pthread_cond_wait(&test->changed, &test->lock);
        test->stalled[call]--;
    }
    if (test->fail[call] > 0) {
        test->fail[call]--;
        return err_set(err, test->fail_code != ERR_NONE ? test->fail_code : ERR_INTERNAL,
                       "the test engine was told to fail");
    }
    return 0;
}

static inline void test_engine_leave(struct test_engine *test, const char *id)
{
    test_engine_mark(test, id, false);
    pthread_mutex_unlock(&test->lock);
}

static inline int test_engine_create(struct engine *engine, const struct engine_spec *spec,
                                     struct engine_sandbox *out, struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_CREATE, spec->id, err);

    if (rc == 0 && test->count == WORLD_MAX)
        rc = err_set(err, ERR_LIMIT, "the test engine is full");
    if (rc == 0 && spec->snapshot != NULL && test_engine_find_snapshot(test, spec->snapshot) < 0)
        rc = err_set(err, ERR_NOT_FOUND, "no such snapshot in the test engine's world");
    if (rc == 0) {
        memset(&test->world[test->count], 0, sizeof(test->world[0]));
        snprintf(test->world[test->count++].id, SANDBOX_ID_SIZE, "%s", spec->id);
        snprintf(test->last_snapshot, sizeof(test->last_snapshot), "%s",
                 spec->snapshot != NULL ? spec->snapshot : "");
        snprintf(test->last_config, sizeof(test->last_config), "%s", spec->envd_config);
        test->last_internet = spec->internet;
        snprintf(test->last_network, sizeof(test->last_network), "%s",
                 spec->network != NULL ? spec->network : "");
        out->engine_data = mem_asprintf("data of %s", spec->id);
    }
    test_engine_leave(test, spec->id);
    return rc;
}

static inline int test_engine_destroy(struct engine *engine, const char *id,
                                      const char *engine_data, struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_DESTROY, id, err);
    ssize_t at = test_engine_find(test, id);

    (void)engine_data;
    if (rc == 0 && at >= 0)
        test->world[at] = test->world[--test->count];
    test_engine_leave(test, id);
    return rc;
}

static inline int test_engine_adopt(struct engine *engine, const char *id, const char *engine_data,
                                    struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    _cleanup_free_ char *expected = mem_asprintf("data of %s", id);
    int rc = test_engine_enter(test, CALL_ADOPT, id, err);

    if (rc == 0 && test_engine_find(test, id) < 0)
        rc = err_set(err, ERR_NOT_FOUND, "not in the test engine's world");
    else if (rc == 0 && (engine_data == NULL || strcmp(engine_data, expected) != 0))
        rc = err_set(err, ERR_INTERNAL, "the engine's data was not kept");
    else if (rc == 0 && test->world[test_engine_find(test, id)].stopped)
        rc = err_set(err, ERR_CONFLICT, "its processes are gone");
    test_engine_leave(test, id);
    return rc;
}

static inline int test_engine_list(struct engine *engine, engine_list_fn fn, void *ctx,
                                   struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_LIST, "list", err);

    for (size_t i = 0; rc == 0 && i < test->count; i++)
        fn(ctx, test->world[i].id, "data");
    test_engine_leave(test, "list");
    return rc;
}

static inline int test_engine_set_frozen(struct engine *engine, const char *id, enum call call,
                                         bool frozen, struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, call, id, err);
    ssize_t at = test_engine_find(test, id);

    if (rc == 0 && at < 0)
        rc = err_set(err, ERR_NOT_FOUND, "not in the test engine's world");
    if (rc == 0)
        test->world[at].frozen = frozen;
    test_engine_leave(test, id);
    return rc;
}

static inline int test_engine_network(struct engine *engine, const char *id, bool internet,
                                      const char *network, struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_NETWORK, id, err);

    if (rc == 0) {
        test->last_internet = internet;
        snprintf(test->last_network, sizeof(test->last_network), "%s",
                 network != NULL ? network : "");
    }
    test_engine_leave(test, id);
    return rc;
}

static inline int test_engine_freeze(struct engine *engine, const char *id, struct err *err)
{
    return test_engine_set_frozen(engine, id, CALL_FREEZE, true, err);
}

static inline int test_engine_thaw(struct engine *engine, const char *id, struct err *err)
{
    return test_engine_set_frozen(engine, id, CALL_THAW, false, err);
}

static inline int test_engine_stop(struct engine *engine, const char *id, struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_STOP, id, err);
    ssize_t at = test_engine_find(test, id);

    if (rc == 0 && at < 0)
        rc = err_set(err, ERR_NOT_FOUND, "not in the test engine's world");
    if (rc == 0) {
        test->world[at].stopped = true;
        test->world[at].frozen = false;
    }
    test_engine_leave(test, id);
    return rc;
}

static inline int test_engine_start(struct engine *engine, const struct engine_spec *spec,
                                    struct engine_sandbox *out, struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_START, spec->id, err);
    ssize_t at = test_engine_find(test, spec->id);

    if (rc == 0 && at < 0)
        rc = err_set(err, ERR_NOT_FOUND, "not in the test engine's world");
    if (rc == 0 && !test->world[at].stopped)
        rc = err_set(err, ERR_CONFLICT, "it runs");
    if (rc == 0) {
        test->world[at].stopped = false;
        snprintf(test->last_config, sizeof(test->last_config), "%s", spec->envd_config);
        out->engine_data = mem_asprintf("data of %s", spec->id);
    }
    test_engine_leave(test, spec->id);
    return rc;
}

static inline int test_engine_snapshot(struct engine *engine, const char *id,
                                       const char *snapshot_id, uint64_t *size_bytes,
                                       struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_SNAPSHOT, id, err);

    if (rc == 0 && test_engine_find(test, id) < 0)
        rc = err_set(err, ERR_NOT_FOUND, "not in the test engine's world");
    if (rc == 0 && test_engine_find_snapshot(test, snapshot_id) >= 0)
        rc = err_set(err, ERR_EXISTS, "there is one of that id");
    if (rc == 0) {
        snprintf(test->snapshots[test->snapshot_count++], SANDBOX_ID_SIZE, "%s", snapshot_id);
        *size_bytes = 4096;
    }
    test_engine_leave(test, id);
    return rc;
}

static inline int test_engine_snapshot_delete(struct engine *engine, const char *snapshot_id,
                                              struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_SNAPSHOT_DELETE, snapshot_id, err);
    ssize_t at = test_engine_find_snapshot(test, snapshot_id);

    if (rc == 0 && at >= 0)
        memmove(test->snapshots[at], test->snapshots[--test->snapshot_count], SANDBOX_ID_SIZE);
    test_engine_leave(test, snapshot_id);
    return rc;
}

static inline int test_engine_snapshot_list(struct engine *engine, engine_snapshot_fn fn, void *ctx,
                                            struct err *err)
{
    struct test_engine *test = test_engine_of(engine);
    int rc = test_engine_enter(test, CALL_SNAPSHOT_LIST, "snapshots", err);

    for (size_t i = 0; rc == 0 && i < test->snapshot_count; i++)
        fn(ctx, test->snapshots[i], 4096);
    test_engine_leave(test, "snapshots");
    return rc;
}

/* An envd that has answered before it was asked, or, when deaf, nobody. */
static inline void test_engine_dial(struct engine *engine, struct loop *loop, const char *id,
                                    uint16_t port, bool ipv6, engine_dial_fn cb, void *ctx)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
    struct test_engine *test = test_engine_of(engine);
    struct err err = {0};
    int ends[2];

    (void)loop;
    (void)id;
    (void)port;
    (void)ipv6;
    err_set(&err, ERR_CONFLICT, "nothing listens there");
    if (test->deaf || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        cb(ctx, -1, &err);
        return;
    }
    if (send(ends[1], answer, sizeof(answer) - 1, MSG_NOSIGNAL) < 0)
        abort();
    cb(ctx, ends[0], NULL);
    pthread_mutex_lock(&test->lock); /* the end stays open until the question has been written */
    if (test->last_dialled > 0)
        close(test->last_dialled);
    test->last_dialled = ends[1];
    pthread_mutex_unlock(&test->lock);
}

static const struct engine_ops test_engine_ops = {
    .name = "test",
    .create = test_engine_create,
    .destroy = test_engine_destroy,
    .adopt = test_engine_adopt,
    .list = test_engine_list,
    .dial = test_engine_dial,
    .set_network = test_engine_network,
    .freeze = test_engine_freeze,
    .thaw = test_engine_thaw,
    .stop = test_engine_stop,
    .start = test_engine_start,
    .snapshot = test_engine_snapshot,
    .snapshot_delete = test_engine_snapshot_delete,
    .snapshot_list = test_engine_snapshot_list,
};

static const struct engine_ops test_engine_ops_no_pause = {
    .name = "test",
    .create = test_engine_create,
    .destroy = test_engine_destroy,
    .adopt = test_engine_adopt,
    .list = test_engine_list,
};

static inline void test_engine_init(struct test_engine *test)
{
    memset(test, 0, sizeof(*test));
    test->engine.ops = &test_engine_ops;
    pthread_mutex_init(&test->lock, NULL);
    pthread_cond_init(&test->changed, NULL);
}

static inline size_t test_engine_count(struct test_engine *test)
{
    size_t count;

    pthread_mutex_lock(&test->lock);
    count = test->count;
    pthread_mutex_unlock(&test->lock);
    return count;
}

static inline unsigned test_engine_calls(struct test_engine *test, enum call call)
{
    unsigned calls;

    pthread_mutex_lock(&test->lock);
    calls = test->calls[call];
    pthread_mutex_unlock(&test->lock);
    return calls;
}

static inline void test_engine_fail(struct test_engine *test, enum call call, unsigned times)
{
    pthread_mutex_lock(&test->lock);
    test->fail[call] = times;
    pthread_mutex_unlock(&test->lock);
}

static inline void test_engine_stall(struct test_engine *test, enum call call, bool on)
{
    pthread_mutex_lock(&test->lock);
    test->stall[call] = on;
    pthread_cond_broadcast(&test->changed);
    pthread_mutex_unlock(&test->lock);
}

/* Wait until a call of that kind is being stalled. */
static inline void test_engine_wait_stalled(struct test_engine *test, enum call call)
{
    pthread_mutex_lock(&test->lock);
    while (test->stalled[call] == 0)
        pthread_cond_wait(&test->changed, &test->lock);
    pthread_mutex_unlock(&test->lock);
}

/* The machine starts again: file systems are all that is left. */
static inline void test_engine_reboot(struct test_engine *test)
{
    for (size_t i = 0; i < test->count; i++) {
        test->world[i].stopped = true;
        test->world[i].frozen = false;
    }
}

/* The init of ID ends by itself. */
static inline void test_engine_exit(struct test_engine *test, const char *id)
{
    test->engine.on_exit(test->engine.on_exit_ctx, id);
}

#endif
