#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/engine/local/demand.h"

#define SECOND 1000

static const struct demand_limits limits = {.min = 4, .max = 32, .idle_s = 600};

static void creates(struct demand *demand, int count, int64_t now)
{
    for (int i = 0; i < count; i++)
        demand_note(demand, now);
}

static void begins_with_the_least(void **state)
{
    struct demand demand;

    (void)state;
    demand_init(&demand, 5000 * SECOND);
    assert_int_equal(demand_target(&demand, &limits, 5000 * SECOND), 4);
    assert_int_equal(demand_target(&demand, &limits, 5599 * SECOND), 4);
}

static void follows_the_busiest_second(void **state)
{
    int64_t now = 100 * SECOND;
    struct demand demand;

    (void)state;
    demand_init(&demand, now);
    creates(&demand, 10, now);
    creates(&demand, 7, now + SECOND);
    assert_int_equal(demand_target(&demand, &limits, now + SECOND), 10);
    assert_int_equal(demand_target(&demand, &limits, now + 59 * SECOND), 10);
    assert_int_equal(demand_target(&demand, &limits, now + 60 * SECOND), 7);
    assert_int_equal(demand_target(&demand, &limits, now + 61 * SECOND), 4);
}

static void stays_below_the_most(void **state)
{
    struct demand_limits odd = {.min = 8, .max = 2};
    struct demand demand;

    (void)state;
    demand_init(&demand, 0);
    creates(&demand, 500, 10);
    assert_int_equal(demand_target(&demand, &limits, 20), 32);
    assert_int_equal(demand_target(&demand, &odd, 20), 8);
}

static void idle_scales_to_zero_and_back(void **state)
{
    int64_t now = 7 * SECOND;
    struct demand demand;

    (void)state;
    demand_init(&demand, now);
    assert_int_equal(demand_next_mono_ms(&demand, &limits, now), now + 600 * SECOND);
    now += 600 * SECOND;
    assert_int_equal(demand_target(&demand, &limits, now), 0);
    assert_int_equal(demand_next_mono_ms(&demand, &limits, now), -1);
    demand_note(&demand, now + 1);
    assert_int_equal(demand_target(&demand, &limits, now + 1), 4);
}

static void without_an_idle_limit_it_never_sleeps(void **state)
{
    struct demand_limits awake = {.min = 1, .max = 1};
    struct demand demand;

    (void)state;
    demand_init(&demand, 0);
    assert_int_equal(demand_target(&demand, &awake, INT64_C(1) << 50), 1);
    assert_int_equal(demand_next_mono_ms(&demand, &awake, INT64_C(1) << 50), -1);
}

/* While more than the least is kept, the next look is a second away. */
static void looks_again_while_it_shrinks(void **state)
{
    struct demand demand;

    (void)state;
    demand_init(&demand, 0);
    creates(&demand, 5, 0);
    assert_int_equal(demand_next_mono_ms(&demand, &limits, 500), 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_with_the_least),
        cmocka_unit_test(follows_the_busiest_second),
        cmocka_unit_test(stays_below_the_most),
        cmocka_unit_test(idle_scales_to_zero_and_back),
        cmocka_unit_test(without_an_idle_limit_it_never_sleeps),
        cmocka_unit_test(looks_again_while_it_shrinks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
