/*
 * When sandboxes end, pause and come back; restarts; many operations at once.
 */
#include "tests/unit/lifecycle/harness.h"

#include "server/lifecycle/deadline.h"

static void a_sandbox_ends_at_its_timeout(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    char id[SANDBOX_ID_SIZE], longer[SANDBOX_ID_SIZE];
    struct lifecycle_stats stats;
    int64_t begun = time_mono_ms();

    request.timeout_s = 1;
    make(h, &plain, longer);
    make(h, &request, id);
    usleep(500000);
    assert_int_equal(look(h, "team", id, NULL), ERR_NONE);
    wait_for(test_engine_count(&h->test) == 1);
    assert_true(time_mono_ms() - begun >= 1000);
    wait_for(stored_rows(h) == 1);
    wait_for((lifecycle_stats_get(h->lifecycle, &stats), stats.ended[SANDBOX_END_TIMEOUT] == 1));
    assert_int_equal(stats.running, 1);
    assert_int_equal(look(h, "team", longer, NULL), ERR_NONE);
}

#define DUE_AT_ONCE 40

static void many_that_are_due_do_not_take_every_worker(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};
    unsigned stalled;

    test_engine_stall(&h->test, CALL_DESTROY, true);
    for (int i = 0; i < DUE_AT_ONCE; i++) {
        make(h, &plain, id);
        assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 1, false, &err), 0);
    }
    test_engine_wait_stalled(&h->test, CALL_DESTROY);
    usleep(100000);
    pthread_mutex_lock(&h->test.lock);
    stalled = h->test.stalled[CALL_DESTROY];
    pthread_mutex_unlock(&h->test.lock);
    assert_in_range(stalled, 1, 4); /* of the 8 workers of the harness */
    assert_int_equal(work_pool_waiting(h->pool), 0);
    test_engine_stall(&h->test, CALL_DESTROY, false);
    wait_for(test_engine_count(&h->test) == 0);
    wait_for(stored_rows(h) == 0);
}

static int64_t left_ms(struct harness *h, const char *id)
{
    _cleanup_sandbox_ struct sandbox seen = {0};

    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    return seen.end_unix_ms - time_unix_ms();
}

static void a_timeout_can_be_moved(void **state)
{
    static const struct {
        int64_t timeout_ms;
        bool extend_only;
        int64_t min_ms, max_ms; /* of what is left then */
    } cases[] = {
        {600000, false, 595000, 600000},        {60000, true, 590000, 600000}, /* never earlier */
        {60000, false, 55000, 60000},                                          /* earlier */
        {120000, true, 115000, 120000},                                        /* later */
        {INT64_MAX, false, 86395000, 86400000},
    };
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    for (size_t i = 0; i < array_size(cases); i++) {
        assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, cases[i].timeout_ms,
                                               cases[i].extend_only, &err),
                         0);
        assert_in_range(left_ms(h, id), cases[i].min_ms, cases[i].max_ms);
    }
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "other", id, 1000, false, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void a_timeout_of_zero_ends_it_at_once(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 0, false, &err), 0);
    assert_int_equal(look(h, "team", id, NULL), ERR_NOT_FOUND);
}

static void connect_only_extends(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox out = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};
    bool resumed = true;

    make(h, &plain, id);
    assert_int_equal(lifecycle_connect(h->lifecycle, "team", id, 1000, &resumed, &out, &err), 0);
    assert_false(resumed);
    assert_string_equal(out.id, id);
    assert_in_range(left_ms(h, id), 290000, 300000);
    sandbox_clear(&out);
    assert_int_equal(lifecycle_connect(h->lifecycle, "team", id, 900000, &resumed, &out, &err), 0);
    assert_in_range(left_ms(h, id), 890000, 900000);
    assert_int_equal(lifecycle_connect(h->lifecycle, "team", id, 86401000, &resumed, &out, &err),
                     -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void auto_pause_keeps_it_until_a_connect(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    _cleanup_sandbox_ struct sandbox paused = {0}, back = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};
    bool resumed = false;

    request.auto_pause = true;
    make(h, &request, id);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 50, false, &err), 0);
    wait_for(test_engine_calls(&h->test, CALL_FREEZE) == 1);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err),
                     -1); /* waits for the pause */
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(look(h, "team", id, &paused), ERR_NONE);
    assert_int_equal(paused.state, SANDBOX_PAUSED);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 50, false, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(lifecycle_connect(h->lifecycle, "team", id, 60000, &resumed, &back, &err), 0);
    assert_true(resumed);
    assert_int_equal(back.state, SANDBOX_RUNNING);
    assert_true(back.started_unix_ms > paused.started_unix_ms);
    assert_in_range(left_ms(h, id), 55000, 60000);
    assert_int_equal(test_engine_calls(&h->test, CALL_THAW), 1);
}

static void an_engine_that_cannot_pause_ends_it_at_the_timeout(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    h->test.engine.ops = &test_engine_ops_no_pause;
    request.auto_pause = true;
    make(h, &request, id);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "the test engine cannot pause sandboxes");
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 0, false, &err), 0);
    assert_int_equal(look(h, "team", id, NULL), ERR_NOT_FOUND);
}

static void a_pause_or_resume_that_fails_changes_nothing(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox out = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    test_engine_fail(&h->test, CALL_FREEZE, 1);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), -1);
    assert_in_range(left_ms(h, id), 290000, 300000);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), 0);
    test_engine_fail(&h->test, CALL_THAW, 1);
    assert_int_equal(lifecycle_resume(h->lifecycle, "team", id, 1000, &out, &err), -1);
    assert_int_equal(look(h, "team", id, &out), ERR_NONE);
    assert_int_equal(out.state, SANDBOX_PAUSED);
    sandbox_clear(&out);
    assert_int_equal(lifecycle_resume(h->lifecycle, "team", id, 1000, &out, &err), 0);
    sandbox_clear(&out);
    assert_int_equal(lifecycle_resume(h->lifecycle, "team", id, 1000, &out, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
}

static void each_thing_that_happens_is_told_once(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox resumed = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 60000, false, &err), 0);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), 0);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err),
                     -1); /* no event */
    assert_int_equal(lifecycle_resume(h->lifecycle, "team", id, 60000, &resumed, &err), 0);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", id, SANDBOX_END_KILLED, &err), 0);
    for (int i = LIFECYCLE_CREATED; i < LIFECYCLE_EVENT_COUNT; i++)
        assert_int_equal(h->events[i], i == LIFECYCLE_CHECKPOINTED ? 0 : 1);
    assert_int_equal(h->why, SANDBOX_END_KILLED);
}

static void a_restart_adopts_what_lives_and_drops_what_is_lost(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox before = {0}, after = {0};
    char lives[SANDBOX_ID_SIZE], paused[SANDBOX_ID_SIZE], lost[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, lives);
    make(h, &plain, paused);
    make(h, &plain, lost);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", paused, &with_memory, &err), 0);
    assert_int_equal(look(h, "team", lives, &before), ERR_NONE);
    harness_stop(h);
    snprintf(h->test.world[2].id, SANDBOX_ID_SIZE, "istray"); /* one vanished, one appeared */
    harness_start(h);
    assert_int_equal(look(h, "team", lives, &after), ERR_NONE);
    assert_int_equal(before.end_unix_ms, after.end_unix_ms);
    assert_int_equal(look(h, "team", lost, NULL), ERR_NOT_FOUND);
    assert_int_equal(test_engine_count(&h->test), 2);
    assert_int_equal(stored_rows(h), 2);
    sandbox_clear(&after);
    assert_int_equal(look(h, "team", paused, &after), ERR_NONE);
    assert_int_equal(after.state, SANDBOX_PAUSED);
}

static void a_restart_finishes_what_was_begun(void **state)
{
    static const struct {
        enum sandbox_state stored;
        bool kept;
        enum sandbox_state then;
    } cases[] = {
        {SANDBOX_CREATING, false, SANDBOX_STATE_COUNT},
        {SANDBOX_KILLING, false, SANDBOX_STATE_COUNT},
        {SANDBOX_PAUSING, true, SANDBOX_PAUSED},
        {SANDBOX_RESUMING, true, SANDBOX_PAUSED},
        {SANDBOX_RUNNING, true, SANDBOX_RUNNING},
    };
    struct harness *h = *state;

    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_sandbox_ struct sandbox after = {0};
        char id[SANDBOX_ID_SIZE];
        struct err err = {0};
        make(h, &plain, id);
        assert_int_equal(store_sandbox_state(h->store, id, cases[i].stored, &err), 0);
        harness_stop(h);
        harness_start(h);
        assert_int_equal(look(h, "team", id, &after), cases[i].kept ? ERR_NONE : ERR_NOT_FOUND);
        if (cases[i].kept) {
            assert_int_equal(after.state, cases[i].then);
            assert_int_equal(lifecycle_kill(h->lifecycle, NULL, id, SANDBOX_END_KILLED, &err), 0);
        }
        assert_int_equal(test_engine_count(&h->test), 0);
        assert_int_equal(stored_rows(h), 0);
    }
}

static void what_expired_while_the_server_was_down_ends_at_once(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(store_sandbox_end(h->store, id, time_unix_ms() - 1000, &err), 0);
    harness_stop(h);
    harness_start(h);
    wait_for(test_engine_count(&h->test) == 0);
    wait_for(stored_rows(h) == 0);
}

#define STRESS_THREADS 8
#define STRESS_SANDBOXES 4
#define STRESS_STEPS 150

struct stress {
    pthread_t thread;
    struct harness *h;
    char (*ids)[SANDBOX_ID_SIZE];
    unsigned seed;
};

static void stress_step(struct stress *stress)
{
    struct lifecycle *lifecycle = stress->h->lifecycle;
    const char *id = stress->ids[(unsigned)rand_r(&stress->seed) % STRESS_SANDBOXES];
    _cleanup_sandbox_ struct sandbox out = {0};
    struct lifecycle_route route;
    struct err err = {0};
    struct sandbox *list;
    size_t count;
    bool resumed;

    switch ((unsigned)rand_r(&stress->seed) % 8) {
    case 0:
        lifecycle_pause(lifecycle, "team", id, &with_memory, &err);
        break;
    case 1:
    case 2:
        lifecycle_connect(lifecycle, "team", id, 60000, &resumed, &out, &err);
        break;
    case 3:
        lifecycle_set_timeout(lifecycle, "team", id, 60000, true, &err);
        break;
    case 4:
        lifecycle_list(lifecycle, NULL, &list, &count, &err);
        sandbox_list_free(list, count);
        break;
    case 5:
        lifecycle_route(lifecycle, id, &route, &err);
        break;
    case 6:
        lifecycle_get(lifecycle, "team", id, &out, &err);
        break;
    default:
        if (lifecycle_create(lifecycle, &plain, &out, &err) == 0)
            lifecycle_kill(lifecycle, "team", out.id, SANDBOX_END_KILLED, &err);
    }
}

static void *stress_main(void *arg)
{
    for (int i = 0; i < STRESS_STEPS; i++)
        stress_step(arg);
    return NULL;
}

static void many_operations_at_once_leave_a_consistent_state(void **state)
{
    struct harness *h = *state;
    char ids[STRESS_SANDBOXES][SANDBOX_ID_SIZE];
    struct stress threads[STRESS_THREADS];
    struct err err = {0};

    for (size_t i = 0; i < STRESS_SANDBOXES; i++)
        make(h, &plain, ids[i]);
    for (size_t i = 0; i < STRESS_THREADS; i++) {
        threads[i] = (struct stress){.h = h, .ids = ids, .seed = (unsigned)i + 1};
        pthread_create(&threads[i].thread, NULL, stress_main, &threads[i]);
    }
    for (size_t i = 0; i < STRESS_THREADS; i++)
        pthread_join(threads[i].thread, NULL);
    assert_int_equal(test_engine_count(&h->test), STRESS_SANDBOXES);
    for (size_t i = 0; i < STRESS_SANDBOXES; i++)
        assert_int_equal(lifecycle_kill(h->lifecycle, "team", ids[i], SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(test_engine_count(&h->test), 0);
    assert_int_equal(stored_rows(h), 0);
}

#define HEAP_ITEMS 200

static void the_heap_agrees_with_a_search(void **state)
{
    struct deadline_heap heap = {0};
    struct deadline items[HEAP_ITEMS] = {0};
    unsigned seed = 7;

    (void)state;
    for (int step = 0; step < 5000; step++) {
        struct deadline *item = &items[(unsigned)rand_r(&seed) % HEAP_ITEMS];
        int64_t earliest = INT64_MAX;
        if ((unsigned)rand_r(&seed) % 3 == 0)
            deadline_cancel(&heap, item);
        else
            deadline_set(&heap, item, (unsigned)rand_r(&seed) % 1000);
        for (size_t i = 0; i < HEAP_ITEMS; i++)
            if (items[i].index != 0 && items[i].when_mono_ms < earliest)
                earliest = items[i].when_mono_ms;
        if (earliest == INT64_MAX)
            assert_null(deadline_first(&heap));
        else
            assert_int_equal(deadline_first(&heap)->when_mono_ms, earliest);
    }
    deadline_heap_clear(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heap_agrees_with_a_search),
        life_test(a_sandbox_ends_at_its_timeout),
        life_test(many_that_are_due_do_not_take_every_worker),
        life_test(a_timeout_can_be_moved),
        life_test(a_timeout_of_zero_ends_it_at_once),
        life_test(connect_only_extends),
        life_test(auto_pause_keeps_it_until_a_connect),
        life_test(an_engine_that_cannot_pause_ends_it_at_the_timeout),
        life_test(a_pause_or_resume_that_fails_changes_nothing),
        life_test(each_thing_that_happens_is_told_once),
        life_test(a_restart_adopts_what_lives_and_drops_what_is_lost),
        life_test(a_restart_finishes_what_was_begun),
        life_test(what_expired_while_the_server_was_down_ends_at_once),
        life_test(many_operations_at_once_leave_a_consistent_state),
    };

    return harness_main(tests, array_size(tests));
}
