/*
 * The ways to pause, what is left after a restart of the server or of the machine, and how a
 * sandbox comes back.
 */
#include "tests/unit/lifecycle/harness.h"

#include "server/base/json.h"
#include "server/base/str.h"

/* Wake ID; what came of it. */
static int wake(struct harness *h, const char *id, bool reboot, struct lifecycle_woken *out,
                struct err *err)
{
    const struct lifecycle_wake how = {.timeout_ms = 60000, .reboot = reboot};

    return lifecycle_wake(h->lifecycle, "team", id, &how, out, err);
}

static void wake_well(struct harness *h, const char *id, bool reboot, bool booted)
{
    struct lifecycle_woken woken = {0};
    struct err err = {0};

    if (wake(h, id, reboot, &woken, &err) < 0)
        fail_msg("wake: %s (%s)", err.msg, err.detail);
    assert_true(woken.resumed);
    assert_int_equal(woken.booted, booted);
    assert_int_equal(woken.sandbox.state, SANDBOX_RUNNING);
    assert_false(woken.sandbox.paused_files);
    sandbox_clear(&woken.sandbox);
}

static void pause_well(struct harness *h, const char *id, const struct lifecycle_pause *how)
{
    struct err err = {0};

    if (lifecycle_pause(h->lifecycle, "team", id, how, &err) < 0)
        fail_msg("pause: %s (%s)", err.msg, err.detail);
}

/* State and the way of the pause, as readers see it. */
static void expect_paused(struct harness *h, const char *id, bool files)
{
    _cleanup_sandbox_ struct sandbox seen = {0};

    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_int_equal(seen.state, SANDBOX_PAUSED);
    assert_int_equal(seen.paused_files, files);
}

static void expect_env(struct harness *h, const json_t *env)
{
    struct err err = {0};
    _cleanup_json_ json_t *config =
        json_parse_object(h->test.last_config, strlen(h->test.last_config), &err);

    assert_true(json_equal(json_object_get(config, "envVars"), env));
}

static void a_pause_without_memory_boots_again_with_its_variables(void **state)
{
    struct harness *h = *state;
    _cleanup_json_ json_t *env = json_pack("{s:s}", "TOKEN", "plain-text-7");
    struct lifecycle_create request = plain;
    _cleanup_sandbox_ struct sandbox seen = {0};
    char id[SANDBOX_ID_SIZE];

    request.env = env;
    make(h, &request, id);
    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_non_null(seen.env);
    assert_null(strstr(seen.env, "plain-text-7")); /* sealed */
    pause_well(h, id, &without_memory);
    expect_paused(h, id, true);
    assert_int_equal(test_engine_calls(&h->test, CALL_FREEZE), 0);
    harness_stop(h);
    harness_start(h);
    expect_paused(h, id, true);
    h->test.last_config[0] = '\0';
    wake_well(h, id, false, true);
    expect_env(h, env);
    assert_int_equal(test_engine_calls(&h->test, CALL_THAW), 0);
}

static void a_pause_with_memory_resumes_or_reboots_as_asked(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];

    make(h, &plain, id);
    pause_well(h, id, &with_memory);
    expect_paused(h, id, false);
    wake_well(h, id, false, false);
    assert_int_equal(test_engine_calls(&h->test, CALL_START), 0);
    pause_well(h, id, &with_memory);
    wake_well(h, id, true, true);
    assert_int_equal(test_engine_calls(&h->test, CALL_START), 1);
}

static void memory_false_changes_nothing_of_one_that_runs(void **state)
{
    struct harness *h = *state;
    struct lifecycle_woken woken = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(wake(h, id, true, &woken, &err), 0);
    assert_false(woken.resumed);
    assert_int_equal(test_engine_calls(&h->test, CALL_STOP), 0);
    sandbox_clear(&woken.sandbox);
}

static void after_a_reboot_of_the_machine_files_are_kept(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create keeps = plain;
    char frozen[SANDBOX_ID_SIZE], stopped[SANDBOX_ID_SIZE], ran[SANDBOX_ID_SIZE],
        ran_auto[SANDBOX_ID_SIZE];

    keeps.auto_pause = true;
    make(h, &plain, frozen);
    make(h, &plain, stopped);
    make(h, &plain, ran);
    make(h, &keeps, ran_auto);
    pause_well(h, frozen, &with_memory);
    pause_well(h, stopped, &without_memory);
    harness_stop(h);
    test_engine_reboot(&h->test);
    harness_start(h);
    expect_paused(h, frozen, true);
    expect_paused(h, stopped, true);
    expect_paused(h, ran_auto, true); /* it was to be paused at its end: this was its end */
    assert_int_equal(look(h, "team", ran, NULL), ERR_NOT_FOUND);
    assert_int_equal(test_engine_count(&h->test), 3); /* nothing is left of the one that ended */
    wake_well(h, frozen, false, true);
    wake_well(h, stopped, false, true);
    wake_well(h, ran_auto, false, true);
}

static void a_crash_during_a_pause_or_resume_leaves_it_paused(void **state)
{
    static const struct {
        enum sandbox_state stored;
        bool files;
        bool stopped; /* the engine had acted */
    } cases[] = {
        {SANDBOX_PAUSING, false, false}, {SANDBOX_PAUSING, true, false},
        {SANDBOX_PAUSING, true, true},   {SANDBOX_RESUMING, false, false},
        {SANDBOX_RESUMING, true, true},  {SANDBOX_RESUMING, true, false},
        {SANDBOX_PAUSING, false, true},
    };
    struct harness *h = *state;

    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_sandbox_ struct sandbox row = {0};
        char id[SANDBOX_ID_SIZE];
        struct err err = {0};
        make(h, &plain, id);
        assert_int_equal(look(h, "team", id, &row), ERR_NONE);
        row.state = cases[i].stored;
        row.paused_files = cases[i].files;
        assert_int_equal(store_sandbox_put(h->store, &row, &err), 0);
        harness_stop(h);
        h->test.world[0].stopped = cases[i].stopped;
        harness_start(h);
        expect_paused(h, id, cases[i].files || cases[i].stopped);
        assert_int_equal(h->test.world[0].stopped, cases[i].files || cases[i].stopped);
        wake_well(h, id, false, cases[i].files || cases[i].stopped);
        assert_int_equal(lifecycle_kill(h->lifecycle, NULL, id, SANDBOX_END_KILLED, &err), 0);
    }
}

static void a_pause_that_wants_a_healthy_envd_is_refused_without_one(void **state)
{
    const struct lifecycle_pause strict = {.require_healthy = true};
    const struct lifecycle_pause strict_files = {.files_only = true, .require_healthy = true};
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox seen = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    h->test.deaf = true;
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &strict, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &strict_files, &err), -1);
    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_int_equal(seen.state, SANDBOX_RUNNING);
    assert_int_equal(h->ended, 0); /* its connections were not cut */
    h->test.deaf = false;
    pause_well(h, id, &strict);
}

static void one_that_was_deaf_resumes_when_it_hears_or_reboots(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox seen = {0};
    struct lifecycle_woken woken = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    h->test.deaf = true;
    pause_well(h, id, &with_memory);
    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_true(seen.paused_deaf);
    harness_stop(h);
    harness_start(h); /* it is known after a restart, too */
    assert_int_equal(wake(h, id, false, &woken, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_string_equal(err.error_code, "sandbox_snapshot_guest_agent_unresponsive");
    expect_paused(h, id, false);
    assert_true(h->test.world[0].frozen);
    wake_well(h, id, true, true);
    pause_well(h, id, &with_memory);
    h->test.deaf = false;
    wake_well(h, id, false, false);
    sandbox_clear(&seen);
    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_false(seen.paused_deaf);
}

static bool has_no_memory(struct harness *h, const char *id)
{
    _cleanup_sandbox_ struct sandbox seen = {0};

    return look(h, "team", id, &seen) == ERR_NONE && seen.paused_files;
}

static void one_whose_memory_is_lost_while_paused_keeps_its_files(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];

    make(h, &plain, id);
    pause_well(h, id, &with_memory);
    test_engine_reboot(&h->test);
    test_engine_exit(&h->test, id);
    wait_for(has_no_memory(h, id));
    wake_well(h, id, false, true);
    test_engine_exit(&h->test, id); /* now it runs: this is its end */
    wait_for(look(h, "team", id, NULL) == ERR_NOT_FOUND);
}

static void a_failing_engine_leaves_it_as_it_was_or_without_memory(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox seen = {0};
    struct lifecycle_woken woken = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    test_engine_fail(&h->test, CALL_STOP, 1);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &without_memory, &err), -1);
    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_int_equal(seen.state, SANDBOX_RUNNING);
    pause_well(h, id, &with_memory);
    test_engine_fail(&h->test, CALL_START, 1);
    assert_int_equal(wake(h, id, true, &woken, &err), -1); /* stopped, and not started */
    expect_paused(h, id, true);
    harness_stop(h);
    harness_start(h);
    expect_paused(h, id, true);
    wake_well(h, id, false, true);
}

static void auto_pause_keeps_what_was_asked_for(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    request.auto_pause = request.auto_pause_files = true;
    make(h, &request, id);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 0, false, &err), 0);
    expect_paused(h, id, true);
    assert_int_equal(test_engine_calls(&h->test, CALL_FREEZE), 0);
}

static void traffic_does_not_boot(void **state)
{
    const struct lifecycle_wake how = {.timeout_ms = 60000, .traffic = true};
    struct harness *h = *state;
    struct lifecycle_woken woken = {0};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    pause_well(h, id, &without_memory);
    assert_int_equal(lifecycle_wake(h->lifecycle, NULL, id, &how, &woken, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    expect_paused(h, id, true);
}

/* --- several at once ------------------------------------------------------------------------- */

#define JOINERS 6

struct joiner {
    pthread_t thread;
    struct harness *h;
    const char *id;
    bool reboot;
    int rc;
    struct lifecycle_woken woken;
    struct err err;
};

static void *join_main(void *arg)
{
    struct joiner *joiner = arg;

    joiner->rc = wake(joiner->h, joiner->id, joiner->reboot, &joiner->woken, &joiner->err);
    sandbox_clear(&joiner->woken.sandbox);
    return NULL;
}

static void many_connects_are_one_start(void **state)
{
    struct harness *h = *state;
    struct joiner joiners[JOINERS];
    char id[SANDBOX_ID_SIZE];
    unsigned resumed = 0;

    make(h, &plain, id);
    pause_well(h, id, &without_memory);
    test_engine_stall(&h->test, CALL_START, true);
    for (size_t i = 0; i < JOINERS; i++) {
        joiners[i] = (struct joiner){.h = h, .id = id};
        pthread_create(&joiners[i].thread, NULL, join_main, &joiners[i]);
    }
    test_engine_wait_stalled(&h->test, CALL_START);
    {
        struct joiner late = {.h = h, .id = id, .reboot = true};
        join_main(&late);
        assert_int_equal(late.rc, -1);
        assert_int_equal(late.err.code, ERR_CONFLICT);
        assert_string_equal(late.err.error_code, "sandbox_start_in_flight");
    }
    test_engine_stall(&h->test, CALL_START, false);
    for (size_t i = 0; i < JOINERS; i++) {
        pthread_join(joiners[i].thread, NULL);
        assert_int_equal(joiners[i].rc, 0);
        resumed += joiners[i].woken.resumed;
    }
    assert_int_equal(resumed, 1);
    assert_int_equal(test_engine_calls(&h->test, CALL_START), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        life_test(a_pause_without_memory_boots_again_with_its_variables),
        life_test(a_pause_with_memory_resumes_or_reboots_as_asked),
        life_test(memory_false_changes_nothing_of_one_that_runs),
        life_test(after_a_reboot_of_the_machine_files_are_kept),
        life_test(a_crash_during_a_pause_or_resume_leaves_it_paused),
        life_test(a_pause_that_wants_a_healthy_envd_is_refused_without_one),
        life_test(one_that_was_deaf_resumes_when_it_hears_or_reboots),
        life_test(one_whose_memory_is_lost_while_paused_keeps_its_files),
        life_test(a_failing_engine_leaves_it_as_it_was_or_without_memory),
        life_test(auto_pause_keeps_what_was_asked_for),
        life_test(traffic_does_not_boot),
        life_test(many_connects_are_one_start),
    };

    return harness_main(tests, array_size(tests));
}
