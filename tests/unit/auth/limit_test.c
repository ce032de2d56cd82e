/*
 * The token bucket: as many at once as in a second, then one after the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "server/auth/limit.h"
#include "server/base/mem.h"

static struct limiter *limiter;

static int setup(void **state)
{
    (void)state;
    limiter = limiter_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    limiter_free(limiter);
    return 0;
}

static struct quotas rates(int64_t space, int64_t key)
{
    struct quotas quotas = {.space = quota_none, .key = quota_none};

    quotas.space.max[QUOTA_CREATES] = space;
    quotas.key.max[QUOTA_CREATES] = key;
    return quotas;
}

/* 0, or the seconds to wait. */
static uint32_t take(const struct quotas *quotas, const char *key, int64_t count, int64_t now_ms,
                     struct limit_state *state)
{
    struct limit_state ignored;
    struct err err = {0};

    if (limiter_take(limiter, quotas, "team", key, count, now_ms, state != NULL ? state : &ignored,
                     &err) == 0)
        return 0;
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(err.retry, ERR_RETRY_YES);
    assert_string_equal(err.msg, "Rate limit exceeded");
    assert_true(err.retry_after_s >= 1);
    return err.retry_after_s;
}

static void without_a_limit_nothing_is_counted(void **state)
{
    struct quotas none = rates(0, 0);
    struct limit_state told = {.limited = true};
    (void)state;

    for (int i = 0; i < 1000; i++)
        assert_int_equal(take(&none, "k", 1, 0, &told), 0);
    assert_false(told.limited);
}

static void a_burst_is_let_through_and_then_the_rate(void **state)
{
    struct quotas five = rates(5, 0);
    struct limit_state told;
    (void)state;

    for (int i = 0; i < 5; i++) {
        assert_int_equal(take(&five, "k", 1, 1000, &told), 0);
        assert_true(told.limited);
        assert_int_equal(told.limit, 5);
        assert_int_equal(told.remaining, 4 - i);
        assert_int_equal(told.reset_s, 1);
    }
    assert_int_equal(take(&five, "k", 1, 1000, &told), 1);
    assert_int_equal(told.remaining, 0);
    assert_int_equal(take(&five, "k", 1, 1199, NULL), 1);
    assert_int_equal(take(&five, "k", 1, 1200, NULL), 0);
    assert_int_equal(take(&five, "k", 1, 1200, NULL), 1);
    assert_int_equal(take(&five, "k", 1, 10000000, &told), 0); /* never more than a burst */
    assert_int_equal(told.remaining, 4);
}

static void a_key_s_limit_holds_as_well(void **state)
{
    struct quotas both = rates(10, 2), other = rates(10, 0);
    struct limit_state told;
    (void)state;

    assert_int_equal(take(&both, "k", 1, 0, &told), 0);
    assert_int_equal(told.limit, 2); /* the tighter one is told */
    assert_int_equal(take(&both, "k", 1, 0, NULL), 0);
    assert_int_equal(take(&both, "k", 1, 0, NULL), 1);
    for (int i = 0; i < 8; i++) /* the refusal took nothing of the namespace's */
        assert_int_equal(take(&other, "other", 1, 0, NULL), 0);
    assert_int_equal(take(&other, "other", 1, 0, NULL), 1);
}

static void more_than_the_bucket_holds_is_paid_back(void **state)
{
    struct quotas two = rates(2, 0);
    struct limit_state told;
    (void)state;

    assert_int_equal(take(&two, "k", 10, 0, &told), 0);
    assert_int_equal(told.remaining, 0);
    assert_int_equal(told.reset_s, 5);
    assert_int_equal(take(&two, "k", 1, 0, NULL), 5);
    assert_int_equal(take(&two, "k", 1, 4499, NULL), 1);
    assert_int_equal(take(&two, "k", 1, 4500, NULL), 0);
}

static void a_limit_that_is_lowered_holds_at_once(void **state)
{
    struct quotas many = rates(100, 0), one = rates(1, 0);
    (void)state;

    assert_int_equal(take(&many, "k", 1, 0, NULL), 0);
    assert_int_equal(take(&one, "k", 1, 0, NULL), 0);
    assert_int_equal(take(&one, "k", 1, 0, NULL), 1);
    assert_int_equal(take(&one, "k", 1, -5000, NULL), 1); /* a clock that goes back gives nothing */
}

static void many_keys_do_not_pile_up(void **state)
{
    struct quotas one = rates(0, 1);
    char key[32];
    (void)state;

    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof(key), "key-%d", i);
        assert_int_equal(take(&one, key, 1, i * 10, NULL), 0);
    }
    assert_int_equal(take(&one, key, 1, 199990, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_limit_nothing_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_burst_is_let_through_and_then_the_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_s_limit_holds_as_well, setup, teardown),
        cmocka_unit_test_setup_teardown(more_than_the_bucket_holds_is_paid_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_that_is_lowered_holds_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(many_keys_do_not_pile_up, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
