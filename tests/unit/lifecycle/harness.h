/*
 * tests/unit/lifecycle/harness.h - a lifecycle on the test engine and a real store.
 */
#ifndef SANDPIT_TESTS_LIFECYCLE_HARNESS_H
#define SANDPIT_TESTS_LIFECYCLE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/auth/auth.h"
#include "server/base/log.h"
#include "server/base/time.h"
#include "server/lifecycle/lifecycle.h"
#include "server/model/limits.h"
#include "tests/unit/lifecycle/test_engine.h"

#define WAIT_MS 5000 /* for what another thread does */

struct harness {
    char dir[64];
    struct store *store;
    struct work_pool *pool;
    struct lifecycle *lifecycle;
    struct quota quota; /* of every namespace; with `limited`, from the next start on */
    bool limited;
    uint32_t volume_count_max; /* from the next start on */
    struct auth *auth; /* NULL unless `limited` */
    struct test_engine test;
    atomic_int ended; /* on_end calls */
    atomic_int events[LIFECYCLE_EVENT_COUNT];
    _Atomic(enum sandbox_end) why; /* of the last event */
};

static void on_end(void *ctx, const char *id)
{
    (void)id;
    atomic_fetch_add(&((struct harness *)ctx)->ended, 1);
}

static void on_event(void *ctx, enum lifecycle_event event, const struct sandbox *sandbox,
                     enum sandbox_end why)
{
    struct harness *h = ctx;

    (void)sandbox;
    atomic_store(&h->why, why);
    atomic_fetch_add(&h->events[event], 1);
}

static void harness_start(struct harness *h)
{
    struct lifecycle_config config = {
        .engine = &h->test.engine,
        .on_end = on_end,
        .on_end_ctx = h,
        .on_event = on_event,
        .on_event_ctx = h,
        .master = {.bytes = "0123456789abcdef0123456789abcdef", .len = 32},
    };
    struct err err = {0};

    assert_int_equal(store_open(h->dir, &h->store, &err), 0);
    h->pool = work_pool_new("test", 8, 256);
    config.store = h->store;
    config.volume_count_max = h->volume_count_max;
    config.workers = h->pool;
    if (h->limited) {
        assert_int_equal(auth_new(h->store, &h->auth, &err), 0);
        auth_set_default_quota(h->auth, &h->quota);
        config.auth = h->auth;
    }
    if (lifecycle_new(&config, &h->lifecycle, &err) < 0)
        fail_msg("lifecycle_new: %s", err.msg);
}

static void harness_stop(struct harness *h)
{
    lifecycle_stop(h->lifecycle);
    work_pool_free(h->pool);
    lifecycle_free(h->lifecycle);
    auth_free(h->auth);
    h->auth = NULL;
    store_close(h->store);
}

static int harness_setup(void **state)
{
    struct harness *h = mem_zalloc(sizeof(*h));

    snprintf(h->dir, sizeof(h->dir), "/tmp/lifecycle_test.XXXXXX");
    if (mkdtemp(h->dir) == NULL)
        return -1;
    test_engine_init(&h->test);
    harness_start(h);
    *state = h;
    return 0;
}

static int remove_path(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int harness_teardown(void **state)
{
    struct harness *h = *state;

    assert_false(h->test.overlap);
    harness_stop(h);
    if (h->test.last_dialled > 0)
        close(h->test.last_dialled);
    nftw(h->dir, remove_path, 8, FTW_DEPTH | FTW_PHYS);
    free(h);
    return 0;
}

static const struct lifecycle_create plain = {
    .namespace_ = "team",
    .client = "tester",
    .template_ref = "base",
    .timeout_s = 300,
    .internet = true,
};

static const struct lifecycle_pause with_memory = {.files_only = false};
static const struct lifecycle_pause without_memory = {.files_only = true};

/* A sandbox as REQUEST wants it; its id. */
static inline void make(struct harness *h, const struct lifecycle_create *request,
                        char id[SANDBOX_ID_SIZE])
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct err err = {0};

    if (lifecycle_create(h->lifecycle, request, &sandbox, &err) < 0)
        fail_msg("create: %s (%s)", err.msg, err.detail);
    memcpy(id, sandbox.id, SANDBOX_ID_SIZE);
}

/* The code of lifecycle_get; *OUT may be NULL. */
static inline enum err_code look(struct harness *h, const char *namespace_, const char *id,
                                 struct sandbox *out)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct err err = {0};

    if (lifecycle_get(h->lifecycle, namespace_, id, &sandbox, &err) < 0)
        return err.code;
    if (out != NULL) {
        *out = sandbox;
        sandbox = (struct sandbox){0};
    }
    return ERR_NONE;
}

static inline size_t stored_rows(struct harness *h)
{
    struct sandbox *rows = NULL;
    struct err err = {0};
    size_t count = 0;

    assert_int_equal(store_sandbox_list(h->store, &rows, &count, &err), 0);
    sandbox_list_free(rows, count);
    return count;
}

/* Within WAIT_MS, CONDITION becomes true. */
#define wait_for(condition)                                                                        \
    do {                                                                                           \
        int64_t until_ = time_mono_ms() + WAIT_MS;                                                 \
        while (!(condition) && time_mono_ms() < until_)                                            \
            usleep(2000);                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

static int harness_main(const struct CMUnitTest *tests, size_t count)
{
    if (hash_init() < 0)
        return 1;
    log_set_level(LOG_ERROR + 1); /* failures are provoked on purpose */
    return _cmocka_run_group_tests("lifecycle", tests, count, NULL, NULL);
}

#define life_test(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

#endif
