/* The whole of it on an engine in memory whose sandboxes' pipes and figures the test holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/time.h"
#include "server/observe/observe.h"
#include "tests/unit/lifecycle/test_engine.h"

#define BOXES 2
#define FLOOD_LINES 20000

struct world {
    char dir[64];
    struct test_engine test;
    struct engine_ops ops;
    struct store *store;
    struct work_pool *pool;
    struct lifecycle *lifecycle;
    struct observe *observe;
    pthread_mutex_t lock; /* of ids, which the reader looks for while they are made */
    char ids[BOXES][SANDBOX_ID_SIZE];
    int pipes[BOXES][2];
    _Atomic uint64_t cpu_us;
};

static struct world *the; /* engine functions get no context of ours */

static int open_log(struct engine *engine, const char *id, int *fd, struct err *err)
{
    (void)engine;
    *fd = -1;
    pthread_mutex_lock(&the->lock);
    for (size_t i = 0; i < BOXES; i++) {
        if (strcmp(the->ids[i], id) == 0)
            *fd = fcntl(the->pipes[i][0], F_DUPFD_CLOEXEC, 3);
    }
    pthread_mutex_unlock(&the->lock);
    return *fd >= 0 ? 0 : err_set(err, ERR_NOT_FOUND, "none");
}

static int sample(struct engine *engine, struct engine_sample *samples, size_t count,
                  struct err *err)
{
    (void)engine, (void)err;
    for (size_t i = 0; i < count; i++) {
        samples[i].ok = true;
        samples[i].cpu_us = atomic_load(&the->cpu_us);
        samples[i].memory_bytes = 100;
        samples[i].cache_bytes = 40;
    }
    return 0;
}

static void start(struct world *w)
{
    const struct secret master = {.bytes = "0123456789abcdef0123456789abcdef", .len = 32};
    struct observe_config observing = {
        .state_dir = w->dir, .engine = &w->test.engine, .master = &master, .sample_ms = 50};
    struct lifecycle_config config = {
        .engine = &w->test.engine, .master = master, .on_event = observe_event};
    struct err err = {0};

    assert_int_equal(store_open(w->dir, &w->store, &err), 0);
    assert_int_equal(observe_new(&observing, &w->observe, &err), 0);
    w->pool = work_pool_new("test", 4, 64);
    config.store = w->store;
    config.workers = w->pool;
    config.on_event_ctx = w->observe;
    assert_int_equal(lifecycle_new(&config, &w->lifecycle, &err), 0);
    assert_int_equal(observe_start(w->observe, w->lifecycle, &err), 0);
}

static void stop(struct world *w)
{
    lifecycle_stop(w->lifecycle);
    work_pool_free(w->pool);
    observe_stop(w->observe);
    lifecycle_free(w->lifecycle);
    observe_free(w->observe);
    store_close(w->store);
}

static void make(struct world *w, size_t at)
{
    const struct lifecycle_create request = {.namespace_ = "team",
                                             .client = "tester",
                                             .template_ref = "base",
                                             .timeout_s = 300,
                                             .internet = true};
    _cleanup_sandbox_ struct sandbox made = {0};
    struct err err = {0};

    assert_int_equal(pipe2(w->pipes[at], O_CLOEXEC | O_NONBLOCK), 0);
    if (lifecycle_create(w->lifecycle, &request, &made, &err) < 0)
        fail_msg("create: %s", err.msg);
    pthread_mutex_lock(&w->lock);
    memcpy(w->ids[at], made.id, sizeof(w->ids[at]));
    pthread_mutex_unlock(&w->lock);
    /* the reader asks by id: it is known only now */
    observe_event(w->observe, LIFECYCLE_RESUMED, &made, SANDBOX_END_NONE);
}

/* How many lines of box AT have WORDS in their message; *LAST is the newest of all. */
static size_t count_lines(struct world *w, size_t at, const char *words, int64_t *last)
{
    const struct journal_log_query query = {
        .sandbox_id = w->ids[at], .to_unix_ms = INT64_MAX, .search = words, .limit = 1000000};
    struct journal_line *lines = NULL;
    struct err err = {0};
    size_t count = 0;
    int64_t before = 0;

    assert_int_equal(observe_logs(w->observe, &query, &lines, &count, &err), 0);
    for (size_t i = 0; i < count; i++) {
        assert_true(lines[i].at_unix_ms > before); /* no two alike */
        before = lines[i].at_unix_ms;
    }
    if (last != NULL)
        *last = before;
    journal_lines_free(lines, count);
    return count;
}

static void say(struct world *w, size_t at, const char *text)
{
    assert_int_equal(write(w->pipes[at][1], text, strlen(text)), strlen(text));
}

static void wait_lines(struct world *w, size_t at, const char *words, size_t count)
{
    int64_t deadline = time_mono_ms() + 10000;

    while (count_lines(w, at, words, NULL) < count) {
        if (time_mono_ms() > deadline)
            fail_msg("%zu lines of '%s', not %zu", count_lines(w, at, words, NULL), words, count);
        usleep(5000);
    }
}

static int set_up(void **state)
{
    struct world *w = mem_zalloc(sizeof(*w));

    the = w;
    pthread_mutex_init(&w->lock, NULL);
    snprintf(w->dir, sizeof(w->dir), "/tmp/observe_test.XXXXXX");
    if (mkdtemp(w->dir) == NULL)
        return -1;
    test_engine_init(&w->test);
    w->ops = *w->test.engine.ops;
    w->ops.open_log = open_log;
    w->ops.sample = sample;
    w->test.engine.ops = &w->ops;
    start(w);
    for (size_t i = 0; i < BOXES; i++)
        make(w, i);
    for (size_t i = 0; i < BOXES; i++) { /* the reader has them */
        say(w, i, "{\"msg\":\"ready\"}\n");
        wait_lines(w, i, "ready", 1);
    }
    *state = w;
    return 0;
}

static int remove_path(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    struct world *w = *state;

    stop(w);
    for (size_t i = 0; i < BOXES; i++) {
        fd_close(&w->pipes[i][0]);
        fd_close(&w->pipes[i][1]);
    }
    nftw(w->dir, remove_path, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static void lines_come_whole_whatever_way_they_are_cut(void **state)
{
    struct world *w = *state;
    char *large = mem_calloc(20001, 1);

    say(w, 0, "{\"level\":\"info\",\"msg\":\"one");
    usleep(20000);
    say(w, 0, "line\"}\n{\"msg\":\"two\"}\n\n{\"msg\":\"thr");
    wait_lines(w, 0, "two", 1);
    say(w, 0, "ee\"}\n");
    wait_lines(w, 0, "three", 1);
    assert_int_equal(count_lines(w, 0, "oneline", NULL), 1);
    memset(large, 'x', 20000); /* longer than any line may be: several */
    say(w, 0, large);
    say(w, 0, "\n{\"msg\":\"after\"}\n");
    wait_lines(w, 0, "after", 1);
    assert_int_equal(count_lines(w, 0, "xxxx", NULL), 3);
    free(large);
}

static void a_flood_of_one_does_not_drown_another(void **state)
{
    static const char line[] = "{\"level\":\"error\",\"msg\":\"flood\"}\n";
    struct world *w = *state;
    size_t sent = 0;
    int64_t begun = time_mono_ms();

    for (int i = 0; i < FLOOD_LINES; i++) /* as envd does: what does not fit is lost */
        sent += write(w->pipes[0][1], line, sizeof(line) - 1) > 0;
    say(w, 1, "{\"msg\":\"calm\"}\n");
    wait_lines(w, 1, "calm", 1);
    assert_true(time_mono_ms() - begun < 8000);
    assert_true(sent < FLOOD_LINES);
    /* what fits at once, and what one read brings over it */
    assert_true(count_lines(w, 0, "flood", NULL) <= 2000 + 2 * 65536 / sizeof(line) + 1000);
    assert_true(count_lines(w, 0, "flood", NULL) > 1000);
}

static void last_words_are_heard_and_nothing_is_after_them(void **state)
{
    struct world *w = *state;
    struct err err = {0};

    say(w, 0, "{\"msg\":\"last words\"}\nand a part");
    assert_int_equal(lifecycle_kill(w->lifecycle, "team", w->ids[0], SANDBOX_END_KILLED, &err), 0);
    wait_lines(w, 0, "last words", 1);
    wait_lines(w, 0, "and a part", 1);
    assert_int_equal(count_lines(w, 0, "Sandbox ended", NULL), 1);
    assert_int_equal(observe_may_see(w->observe, "team", w->ids[0], &err), 0);
    assert_int_equal(observe_may_see(w->observe, "other", w->ids[0], &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(observe_may_see(w->observe, "other", w->ids[1], &err), -1);
}

static void samples_are_kept_also_after_the_end(void **state)
{
    struct world *w = *state;
    struct journal_sample newest, *rows = NULL;
    int64_t deadline = time_mono_ms() + 10000;
    struct err err = {0};
    size_t count = 0;

    while (!observe_newest(w->observe, "team", w->ids[0], &newest)) {
        assert_true(time_mono_ms() < deadline);
        atomic_fetch_add(&w->cpu_us, 20000);
        usleep(10000);
    }
    assert_int_equal(newest.memory_used, 60);
    assert_int_equal(newest.memory_cache, 40);
    assert_true(newest.cpu_centi > 0 && newest.cpu_centi <= 10000);
    assert_false(observe_newest(w->observe, "other", w->ids[0], &newest));
    assert_int_equal(lifecycle_kill(w->lifecycle, "team", w->ids[0], SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(
        observe_samples(w->observe, w->ids[0], 0, INT64_MAX / 2000, &rows, &count, &err), 0);
    assert_true(count >= 1);
    free(rows);
}

static void a_restart_tells_what_was_not_told(void **state)
{
    struct world *w = *state;
    struct journal_event_query query = {
        .namespace_ = "team", .types = 1u << LIFECYCLE_KILLED, .limit = 10};
    struct journal_event *events = NULL;
    struct err err = {0};
    size_t count = 0;

    /* its row is gone and nobody was told: as if killed between the two */
    assert_int_equal(store_sandbox_delete(w->store, w->ids[0], &err), 0);
    stop(w);
    start(w);
    query.sandbox_id = w->ids[0];
    assert_int_equal(journal_event_list(observe_journal(w->observe), &query, &events, &count, &err),
                     0);
    assert_int_equal(count, 1);
    assert_non_null(strstr(events[0].data, "\"lost\""));
    journal_events_free(events, count);
    assert_int_equal(count_lines(w, 1, "Sandbox created", NULL), 1);
}

#define observe_test(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        observe_test(lines_come_whole_whatever_way_they_are_cut),
        observe_test(a_flood_of_one_does_not_drown_another),
        observe_test(last_words_are_heard_and_nothing_is_after_them),
        observe_test(samples_are_kept_also_after_the_end),
        observe_test(a_restart_tells_what_was_not_told),
    };

    log_set_level(LOG_ERROR);
    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
