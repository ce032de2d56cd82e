/*
 * What a namespace and a key may have, in lifecycle's hands.
 */
#include "tests/unit/lifecycle/harness.h"

#include <pthread.h>

#include "server/base/str.h"

#define KEY "7c1f0000-0000-4000-8000-000000000001"

static void limit(struct harness *h, enum quota_kind kind, int64_t max)
{
    harness_stop(h);
    h->limited = true;
    h->quota = quota_none;
    h->quota.max[kind] = max;
    harness_start(h);
}

static enum err_code try(struct harness *h, const struct lifecycle_create *request,
                         char id[SANDBOX_ID_SIZE], struct err *err)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};

    *err = (struct err){0};
    if (lifecycle_create(h->lifecycle, request, &sandbox, err) < 0)
        return err->code;
    memcpy(id, sandbox.id, SANDBOX_ID_SIZE);
    return ERR_NONE;
}

static enum err_code connect_to(struct harness *h, const char *id, int64_t timeout_ms,
                                struct err *err)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    bool resumed;

    *err = (struct err){0};
    lifecycle_connect(h->lifecycle, "team", id, timeout_ms, &resumed, &sandbox, err);
    return err->code;
}

static void pause_it(struct harness *h, const char *id)
{
    const struct lifecycle_pause how = {.files_only = false};
    struct err err = {0};

    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &how, &err), 0);
}

static void so_many_run_and_paused_ones_do_not_count(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create other = plain;
    char a[SANDBOX_ID_SIZE], b[SANDBOX_ID_SIZE], c[SANDBOX_ID_SIZE];
    struct err err;

    limit(h, QUOTA_SANDBOXES, 2);
    other.namespace_ = "other";
    assert_int_equal(try(h, &plain, a, &err), ERR_NONE);
    assert_int_equal(try(h, &plain, b, &err), ERR_NONE);
    assert_int_equal(try(h, &plain, c, &err), ERR_LIMIT);
    assert_true(str_starts(err.msg, "you have reached the maximum number of concurrent E2B "
                                    "sandboxes (2)"));
    assert_int_equal(stored_rows(h), 2);
    assert_int_equal(try(h, &other, c, &err), ERR_NONE);
    pause_it(h, a);
    assert_int_equal(try(h, &plain, c, &err), ERR_NONE);
    assert_int_equal(connect_to(h, a, 60000, &err), ERR_LIMIT);
    assert_int_equal(connect_to(h, b, 60000, &err), ERR_NONE); /* that runs already */
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", c, SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(connect_to(h, a, 60000, &err), ERR_NONE);
    assert_int_equal(try(h, &plain, c, &err), ERR_LIMIT);
}

static void a_key_has_its_own_number(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create mine = plain;
    struct quota two = quota_unset;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    limit(h, QUOTA_SANDBOXES, 3);
    two.max[QUOTA_SANDBOXES] = 2;
    assert_int_equal(store_quota_set(h->store, QUOTA_OF_KEY, KEY, &two, &err), 0);
    assert_int_equal(auth_refresh(h->auth, &err), 0);
    mine.key_id = KEY;
    assert_int_equal(try(h, &mine, id, &err), ERR_NONE);
    assert_int_equal(try(h, &mine, id, &err), ERR_NONE);
    assert_int_equal(try(h, &mine, id, &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "(2) of this API key"));
    harness_stop(h);
    harness_start(h); /* whose they are is stored */
    assert_int_equal(try(h, &mine, id, &err), ERR_LIMIT);
    assert_int_equal(try(h, &plain, id, &err), ERR_NONE);
    assert_int_equal(try(h, &plain, id, &err), ERR_LIMIT);
}

static void a_namespace_s_own_value_replaces_the_default(void **state)
{
    struct harness *h = *state;
    struct quota own = quota_unset;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    limit(h, QUOTA_SANDBOXES, 1);
    own.max[QUOTA_SANDBOXES] = QUOTA_NONE;
    assert_int_equal(store_quota_set(h->store, QUOTA_OF_NAMESPACE, "team", &own, &err), 0);
    assert_int_equal(auth_refresh(h->auth, &err), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(try(h, &plain, id, &err), ERR_NONE);
    assert_int_equal(store_quota_clear(h->store, QUOTA_OF_NAMESPACE, "team", &err), 0);
    assert_int_equal(auth_refresh(h->auth, &err), 0);
    assert_int_equal(try(h, &plain, id, &err), ERR_LIMIT);
}

static void sizes_have_a_maximum(void **state)
{
    static const enum quota_kind kinds[] = {QUOTA_CPU, QUOTA_MEMORY, QUOTA_DISK};
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err;

    for (size_t i = 0; i < array_size(kinds); i++) {
        limit(h, kinds[i], 1);
        assert_int_equal(try(h, &plain, id, &err), ERR_INVALID);
        limit(h, kinds[i], 1 << 20);
        assert_int_equal(try(h, &plain, id, &err), ERR_NONE);
    }
}

/* Milliseconds of a sandbox's run, from its start to its end. */
static int64_t run_ms(struct harness *h, const char *id)
{
    _cleanup_sandbox_ struct sandbox seen = {0};

    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    return seen.end_unix_ms - seen.started_unix_ms;
}

static void a_run_has_a_longest_from_its_start(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    char id[SANDBOX_ID_SIZE];
    struct err err;

    limit(h, QUOTA_LIFETIME, 3600);
    request.timeout_s = 3601;
    assert_int_equal(try(h, &request, id, &err), ERR_INVALID);
    assert_string_equal(err.msg, "Timeout cannot be greater than 1 hours");
    request.timeout_s = 100;
    assert_int_equal(try(h, &request, id, &err), ERR_NONE);
    assert_int_equal(connect_to(h, id, 3601000, &err), ERR_INVALID);
    usleep(50000);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 86400000, false, &err), 0);
    assert_in_range(run_ms(h, id), 3600000 - 2, 3600000 + 2); /* from the start, not from now */
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 10000, false, &err), 0);
    assert_int_equal(connect_to(h, id, 3600000, &err), ERR_NONE);
    assert_in_range(run_ms(h, id), 3600000 - 2, 3600000 + 2);
    pause_it(h, id);
    assert_int_equal(connect_to(h, id, 3600000, &err), ERR_NONE); /* a resume is a new run */
    assert_in_range(run_ms(h, id), 3600000 - 2, 3600000 + 2);
}

static void a_longest_that_is_lowered_ends_nothing_early(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    int64_t before;
    struct err err;

    limit(h, QUOTA_LIFETIME, 3600);
    assert_int_equal(try(h, &plain, id, &err), ERR_NONE);
    before = run_ms(h, id);
    usleep(1100000);
    limit(h, QUOTA_LIFETIME, 1);
    assert_int_equal(lifecycle_set_timeout(h->lifecycle, "team", id, 86400000, false, &err), 0);
    assert_in_range(run_ms(h, id), before - 5, before + 5);
    assert_int_equal(connect_to(h, id, 1000, &err), ERR_INVALID);
    assert_string_equal(err.msg, "Max instance length exceeded");
}

struct racer {
    struct harness *h;
    pthread_t thread;
    char id[SANDBOX_ID_SIZE]; /* of a paused one, or "" to create */
    enum err_code code;
};

static void *race(void *arg)
{
    struct racer *racer = arg;
    struct err err;

    racer->code = racer->id[0] != '\0' ? connect_to(racer->h, racer->id, 60000, &err)
                                       : try(racer->h, &plain, racer->id, &err);
    return NULL;
}

static void creates_and_resumes_at_once_do_not_pass_the_limit(void **state)
{
    struct harness *h = *state;
    struct racer racers[16];
    size_t passed = 0;
    struct err err;

    limit(h, QUOTA_SANDBOXES, 5);
    for (size_t i = 0; i < array_size(racers); i++) {
        racers[i] = (struct racer){.h = h};
        if (i % 2 == 0)
            continue;
        assert_int_equal(try(h, &plain, racers[i].id, &err), ERR_NONE);
        pause_it(h, racers[i].id);
    }
    for (size_t i = 0; i < array_size(racers); i++)
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < array_size(racers); i++) {
        pthread_join(racers[i].thread, NULL);
        passed += racers[i].code == ERR_NONE;
        assert_true(racers[i].code == ERR_NONE || racers[i].code == ERR_LIMIT);
    }
    assert_int_equal(passed, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        life_test(so_many_run_and_paused_ones_do_not_count),
        life_test(a_key_has_its_own_number),
        life_test(a_namespace_s_own_value_replaces_the_default),
        life_test(sizes_have_a_maximum),
        life_test(a_run_has_a_longest_from_its_start),
        life_test(a_longest_that_is_lowered_ends_nothing_early),
        life_test(creates_and_resumes_at_once_do_not_pass_the_limit),
    };

    return harness_main(tests, array_size(tests));
}
