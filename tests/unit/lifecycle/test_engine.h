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
#include <string.h>

#include "server/base/mem.h"
#include "server/engine/engine.h"

enum call { CALL_CREATE, CALL_DESTROY, CALL_ADOPT, CALL_LIST, CALL_FREEZE, CALL_THAW, CALL_COUNT };

#define WORLD_MAX 4096

struct test_engine {
    struct engine engine;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct {
        char id[SANDBOX_ID_SIZE];
        bool frozen;
    } world[WORLD_MAX];
    size_t count;
    unsigned calls[CALL_COUNT];
    unsigned fail[CALL_COUNT]; /* so many next calls fail */
    enum err_code fail_code;   /* of those; ERR_NONE: ERR_INTERNAL */
    bool stall[CALL_COUNT];    /* calls wait while it is set */
    unsigned stalled[CALL_COUNT];
    bool overlap; /* two calls for one id at once were seen */
    char active[WORLD_MAX][SANDBOX_ID_SIZE];
    char last_config[4096]; /* envd_config of the last create */
    bool last_internet;
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
    if (rc == 0) {
        snprintf(test->world[test->count++].id, SANDBOX_ID_SIZE, "%s", spec->id);
        snprintf(test->last_config, sizeof(test->last_config), "%s", spec->envd_config);
        test->last_internet = spec->internet;
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

static inline int test_engine_freeze(struct engine *engine, const char *id, struct err *err)
{
    return test_engine_set_frozen(engine, id, CALL_FREEZE, true, err);
}

static inline int test_engine_thaw(struct engine *engine, const char *id, struct err *err)
{
    return test_engine_set_frozen(engine, id, CALL_THAW, false, err);
}

static const struct engine_ops test_engine_ops = {
    .name = "test",
    .create = test_engine_create,
    .destroy = test_engine_destroy,
    .adopt = test_engine_adopt,
    .list = test_engine_list,
    .freeze = test_engine_freeze,
    .thaw = test_engine_thaw,
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

/* The init of ID ends by itself. */
static inline void test_engine_exit(struct test_engine *test, const char *id)
{
    test->engine.on_exit(test->engine.on_exit_ctx, id);
}

#endif
