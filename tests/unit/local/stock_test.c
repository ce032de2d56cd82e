#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "server/engine/local/stock.h"

static struct stock stock;

static int descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void put(const char *id, int fd)
{
    stock_put(&stock, id, &fd, 1);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int setup(void **state)
{
    (void)state;
    stock_init(&stock);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stock_clear(&stock);
    return 0;
}

static void what_was_put_is_taken_once_and_by_its_own_sandbox(void **state)
{
    int fd = descriptor();

    (void)state;
    assert_int_equal(stock_take(&stock, "a", 0), -1);
    assert_int_equal(stock_want(&stock, "a", 0), 1);
    put("a", fd);
    assert_int_equal(stock_take(&stock, "b", 1), -1);
    assert_int_equal(stock_take(&stock, "a", 1), fd);
    assert_int_equal(stock_take(&stock, "a", 1), -1);
    close(fd);
}

static void batches_grow_while_it_is_busy_and_begin_anew(void **state)
{
    int64_t now = 1000;

    (void)state;
    assert_int_equal(stock_want(&stock, "a", now), 1);
    assert_int_equal(stock_want(&stock, "a", now += STOCK_BUSY_MS - 1), 2);
    assert_int_equal(stock_want(&stock, "a", now), 4);
    assert_int_equal(stock_want(&stock, "a", now), 8);
    assert_int_equal(stock_want(&stock, "a", now), STOCK_BATCH_MAX);
    assert_int_equal(stock_want(&stock, "a", now), 1); /* enough are on their way */
    assert_int_equal(stock_want(&stock, "a", now + STOCK_BUSY_MS), 1);
    stock_drop(&stock, "a");
    assert_int_equal(stock_want(&stock, "a", now), 1);
}

static void an_ended_sandbox_keeps_no_socket_and_gets_none(void **state)
{
    int before = descriptor(), late = descriptor();

    (void)state;
    stock_want(&stock, "a", 0);
    put("a", before);
    stock_drop(&stock, "a");
    assert_false(is_open(before));
    put("a", late); /* asked for before its end */
    assert_false(is_open(late));
    assert_int_equal(stock_take(&stock, "a", 0), -1);
}

static void what_nobody_uses_is_closed(void **state)
{
    int old = descriptor(), used = descriptor();

    (void)state;
    stock_want(&stock, "old", 0);
    put("old", old);
    stock_want(&stock, "used", STOCK_KEEP_MS / 2);
    put("used", used);
    assert_true(stock_sweep(&stock, STOCK_KEEP_MS));
    assert_false(is_open(old));
    assert_true(is_open(used));
    assert_false(stock_sweep(&stock, 2 * STOCK_KEEP_MS));
    assert_false(is_open(used));
    assert_int_equal(stock.total, 0);
}

static void there_is_an_end_to_what_waits(void **state)
{
    int fds[STOCK_KEPT_MAX + 1];

    (void)state;
    for (int i = 0; i <= STOCK_KEPT_MAX; i++)
        fds[i] = descriptor();
    stock_want(&stock, "a", 0);
    stock_put(&stock, "a", fds, STOCK_KEPT_MAX + 1);
    assert_int_equal(stock.total, STOCK_KEPT_MAX);
    assert_false(is_open(fds[STOCK_KEPT_MAX]));
    stock.total += STOCK_TOTAL_MAX; /* as if others held them */
    assert_int_equal(stock_want(&stock, "b", 0), 1);
    assert_int_equal(stock_want(&stock, "b", 0), 1);
    stock.total -= STOCK_TOTAL_MAX;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_put_is_taken_once_and_by_its_own_sandbox, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(batches_grow_while_it_is_busy_and_begin_anew, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_ended_sandbox_keeps_no_socket_and_gets_none, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_nobody_uses_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_an_end_to_what_waits, setup, teardown),
    };

    if (hash_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
