#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "envd/files_meta.h"
#include "envd/usage.h"
#include "server/base/mem.h"

static void a_field_is_found_by_its_whole_key(void **state)
{
    static const char text[] = "MemTotal:       8123456 kB\nSwapCached: 5 kB\nCached:  77 kB\n"
                               "usage_usec 123\nnegative -4\nnumber none\nlast 9";
    static const struct {
        const char *key;
        bool found;
        int64_t want;
    } cases[] = {
        {"MemTotal", true, 8123456}, {"Cached", true, 77},  {"usage_usec", true, 123},
        {"negative", true, -4},      {"last", true, 9},     {"Mem", false, 7},
        {"number", false, 7},        {"nothing", false, 7}, {"kB", false, 7},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        int64_t value = 7;
        if (usage_field(text, cases[i].key, &value) != cases[i].found)
            fail_msg("%s", cases[i].key);
        assert_int_equal(value, cases[i].want);
    }
}

static void a_number_past_its_range_is_no_number(void **state)
{
    int64_t value = 7;

    (void)state;
    assert_false(usage_field("big 9223372036854775808", "big", &value));
    assert_true(usage_field("big 9223372036854775807", "big", &value));
    assert_int_equal(value, INT64_MAX);
}

static void use_is_below_what_there_is(void **state)
{
    struct usage before, after;
    volatile unsigned long work = 0;

    (void)state;
    usage_read(0, 0, &before);
    for (unsigned long i = 0; i < 200000000; i++)
        work += i;
    usage_read(0, 0, &after);
    assert_int_equal(before.cpu_count, sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(before.mem_used_bytes > 0 && before.mem_used_bytes < before.mem_total_bytes);
    assert_true(after.cpu_us > before.cpu_us);
    assert_true(after.cpu_age_us > before.cpu_age_us);
}

static void limits_of_the_platform_are_what_there_is(void **state)
{
    struct usage usage;

    (void)state;
    usage_read(3, 64 << 20, &usage);
    assert_int_equal(usage.cpu_count, 3);
    assert_int_equal(usage.mem_total_bytes, 64 << 20);
    assert_true(usage.mem_used_bytes > 0);
}

static void metadata_must_be_printable_and_short(void **state)
{
    static const struct {
        const char *key, *value;
        bool ok;
    } cases[] = {
        {"key", "value", true}, {"k", "", true},       {"", "value", false},
        {"k", "a\tb", false},   {"k\x7f", "a", false}, {"k", "gr\xc3\xbcn", false},
        {"k", " ~", true},
    };
    char key[FILES_META_KEY_MAX_BYTES + 2] = {0};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        if ((files_meta_check(cases[i].key, cases[i].value, &err) == 0) != cases[i].ok)
            fail_msg("row %zu", i);
    memset(key, 'k', FILES_META_KEY_MAX_BYTES);
    assert_int_equal(files_meta_check(key, "v", &err), 0);
    key[FILES_META_KEY_MAX_BYTES] = 'k';
    assert_int_equal(files_meta_check(key, "v", &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_field_is_found_by_its_whole_key),
        cmocka_unit_test(a_number_past_its_range_is_no_number),
        cmocka_unit_test(use_is_below_what_there_is),
        cmocka_unit_test(limits_of_the_platform_are_what_there_is),
        cmocka_unit_test(metadata_must_be_printable_and_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
