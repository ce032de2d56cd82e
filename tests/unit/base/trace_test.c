#include "server/base/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/base/mem.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static void a_valid_header_gives_its_trace(void **state)
{
    static const char *const good[] = {
        "00-" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN "-00",
        "00-" TRACE "-" SPAN "-ff",
        "01-" TRACE "-" SPAN "-01", /* a later version, with or without more */
        "cc-" TRACE "-" SPAN "-01-what-the-future-will-be-like",
    };

    (void)state;
    for (size_t i = 0; i < array_size(good); i++) {
        char out[TRACE_ID_SIZE] = "";
        if (trace_parse(good[i], strlen(good[i]), out) != 0)
            fail_msg("refused: %s", good[i]);
        assert_string_equal(out, TRACE);
    }
}

static void what_is_not_one_leaves_the_old_trace(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01x",
        "ff-" TRACE "-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
        "0x-" TRACE "-" SPAN "-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-" TRACE "-" SPAN "-0g",
        "cc-" TRACE "-" SPAN "-01.more",
        " 0-" TRACE "-" SPAN "-01",
    };

    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        char out[TRACE_ID_SIZE] = "before";
        if (trace_parse(bad[i], strlen(bad[i]), out) != -1)
            fail_msg("accepted: %s", bad[i]);
        assert_string_equal(out, "before");
    }
}

static void new_ones_differ_and_can_be_parsed(void **state)
{
    char a[TRACE_ID_SIZE], b[TRACE_ID_SIZE], text[64], out[TRACE_ID_SIZE];

    (void)state;
    trace_new(a);
    trace_new(b);
    assert_string_not_equal(a, b);
    memcpy(text, "00-", 3);
    memcpy(text + 3, a, 32);
    memcpy(text + 35, "-" SPAN "-01", 21);
    assert_int_equal(trace_parse(text, 55, out), 0);
    assert_string_equal(out, a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_valid_header_gives_its_trace),
        cmocka_unit_test(what_is_not_one_leaves_the_old_trace),
        cmocka_unit_test(new_ones_differ_and_can_be_parsed),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
