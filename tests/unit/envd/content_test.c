#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/content.h"
#include "server/base/mem.h"

static void ranges_are_read_for_a_file_of_10_bytes(void **state)
{
    static const struct {
        const char *header;
        enum content_ranges want;
        size_t count;
        struct content_range rows[3];
    } cases[] = {
        {NULL, CONTENT_WHOLE, 0, {{0, 0}}},
        {"bytes=0-0", CONTENT_PARTS, 1, {{0, 1}}},
        {"bytes=2-5", CONTENT_PARTS, 1, {{2, 4}}},
        {"Bytes=2-", CONTENT_PARTS, 1, {{2, 8}}},
        {"bytes=-3", CONTENT_PARTS, 1, {{7, 3}}},
        {"bytes=-30", CONTENT_PARTS, 1, {{0, 10}}},
        {"bytes=5-100", CONTENT_PARTS, 1, {{5, 5}}},
        {"bytes=5-9223372036854775807", CONTENT_PARTS, 1, {{5, 5}}},
        {"bytes=0-1, 4-5 ,-1", CONTENT_PARTS, 3, {{0, 2}, {4, 2}, {9, 1}}},
        {"bytes=0-1,,20-30", CONTENT_PARTS, 1, {{0, 2}}},
        {"bytes=0-8,1-9", CONTENT_WHOLE, 0, {{0, 0}}}, /* more than the file */
        {"bytes=", CONTENT_WHOLE, 0, {{0, 0}}},
        {"bytes=10-", CONTENT_UNSATISFIABLE, 0, {{0, 0}}},
        {"bytes=-0", CONTENT_UNSATISFIABLE, 0, {{0, 0}}},
        {"bytes=11-12,13-", CONTENT_UNSATISFIABLE, 0, {{0, 0}}},
        {"bytes=5-2", CONTENT_MALFORMED, 0, {{0, 0}}},
        {"bytes=a-b", CONTENT_MALFORMED, 0, {{0, 0}}},
        {"bytes=-", CONTENT_MALFORMED, 0, {{0, 0}}},
        {"bytes=5", CONTENT_MALFORMED, 0, {{0, 0}}},
        {"bytes=0-99999999999999999999", CONTENT_MALFORMED, 0, {{0, 0}}},
        {"lines=0-1", CONTENT_MALFORMED, 0, {{0, 0}}},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct content_range rows[CONTENT_RANGES_MAX];
        size_t count = 0;
        enum content_ranges got = content_ranges_parse(cases[i].header, 10, rows, &count);
        if (got != cases[i].want || count != cases[i].count)
            fail_msg("%s: %d, %zu rows", cases[i].header, (int)got, count);
        for (size_t k = 0; k < count; k++) {
            assert_int_equal(rows[k].start, cases[i].rows[k].start);
            assert_int_equal(rows[k].length, cases[i].rows[k].length);
        }
    }
}

static void ranges_of_an_empty_file_are_ignored(void **state)
{
    static const char *const cases[] = {"bytes=0-", "bytes=0-10", "bytes=-5"};
    struct content_range rows[CONTENT_RANGES_MAX];
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        assert_int_equal(content_ranges_parse(cases[i], 0, rows, &count), CONTENT_WHOLE);
}

static void too_many_ranges_are_answered_with_the_whole(void **state)
{
    _cleanup_(buf_clear) struct buf header;
    struct content_range rows[CONTENT_RANGES_MAX];
    size_t count = 0;

    (void)state;
    buf_init(&header, 1 << 16);
    buf_add_str(&header, "bytes=");
    for (int i = 0; i < CONTENT_RANGES_MAX + 1; i++)
        buf_printf(&header, "%s%d-%d", i > 0 ? "," : "", i, i);
    assert_int_equal(content_ranges_parse(header.data, 100000, rows, &count), CONTENT_WHOLE);
}

static void names_are_put_into_a_disposition(void **state)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"a.txt", "inline; filename=a.txt"},
        {"a b.txt", "inline; filename=\"a b.txt\""},
        {"a\"b\\c", "inline; filename=\"a\\\"b\\\\c\""},
        {"a;b=c", "inline; filename=\"a;b=c\""},
        {"gr\xc3\xbc n.txt", "inline; filename*=utf-8''gr%C3%BC%20n.txt"},
        {"a\r\nX: y", "inline; filename*=utf-8''a%0D%0AX%3A%20y"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_(buf_clear) struct buf out;
        buf_init(&out, 1024);
        content_disposition(cases[i].name, &out);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void dates_go_both_ways(void **state)
{
    static const struct {
        const char *text;
        time_t when;
    } cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    };
    static const char *const bad[] = {"", "yesterday", "Sun, 06 Nov 1994 08:49:37 CET",
                                      "Sun, 06 Nov 1994 08:49:37 GMT and more"};
    char text[CONTENT_DATE_SIZE];
    time_t when = 7;

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        assert_true(content_date_parse(cases[i].text, &when));
        assert_int_equal(when, cases[i].when);
    }
    content_date(784111777, text);
    assert_string_equal(text, cases[0].text);
    when = 7;
    for (size_t i = 0; i < array_size(bad); i++)
        assert_false(content_date_parse(bad[i], &when));
    assert_int_equal(when, 7);
}

static void types_come_from_the_extension(void **state)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"a.txt", "text/plain; charset=utf-8"},
        {"a.JSON", "application/json"},
        {"a.tar.gz", "application/gzip"},
        {"a.7z", "application/x-7z-compressed"},
        {"a.zst", "application/zstd"},
        {".html", "text/html; charset=utf-8"},
        {"a", NULL},
        {"a.", NULL},
        {"a.unknown", NULL},
        {"a.js/b", NULL},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        const char *got = content_type_of(cases[i].name);
        if (cases[i].want == NULL)
            assert_null(got);
        else if (got == NULL || strcmp(got, cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].name, got);
    }
}

static void types_are_sniffed_from_the_first_bytes(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        const char *want;
    } cases[] = {
        {"", 0, "text/plain; charset=utf-8"},
        {"hello\n", 6, "text/plain; charset=utf-8"},
        {"a\0b", 3, "application/octet-stream"},
        {" \n<html>", 8, "text/html; charset=utf-8"},
        {"<!doctype html>", 15, "text/html; charset=utf-8"},
        {"<bold", 5, "text/plain; charset=utf-8"},
        {"<?xml ", 6, "text/xml; charset=utf-8"},
        {"\x89PNG\r\n\x1a\n", 8, "image/png"},
        {"RIFF....WEBPVP8", 15, "image/webp"},
        {"\x1f\x8b\x08", 3, "application/x-gzip"},
        {"\x1b[0mcolour", 10, "text/plain; charset=utf-8"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        assert_string_equal(content_sniff(cases[i].data, cases[i].len), cases[i].want);
}

static void identity_is_answered_wherever_it_is_allowed(void **state)
{
    static const struct {
        const char *accept;
        enum content_encoding want;
    } cases[] = {
        {NULL, CONTENT_IDENTITY},
        {"", CONTENT_IDENTITY},
        {"gzip, deflate, br", CONTENT_IDENTITY},
        {"gzip;q=1.0, *;q=0.5", CONTENT_IDENTITY},
        {"identity;q=0.001, *;q=0", CONTENT_IDENTITY},
        {"gzip, identity;q=0", CONTENT_GZIP},
        {"gzip, *;q=0", CONTENT_GZIP},
        {"identity;q=0, *", CONTENT_GZIP},
        {"br, identity;q=0", CONTENT_NONE},
        {"*;q=0", CONTENT_NONE},
        {"gzip;q=0, identity; q=0.000", CONTENT_NONE},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        if (content_encoding_of(cases[i].accept) != cases[i].want)
            fail_msg("%s", cases[i].accept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_read_for_a_file_of_10_bytes),
        cmocka_unit_test(ranges_of_an_empty_file_are_ignored),
        cmocka_unit_test(too_many_ranges_are_answered_with_the_whole),
        cmocka_unit_test(names_are_put_into_a_disposition),
        cmocka_unit_test(dates_go_both_ways),
        cmocka_unit_test(types_come_from_the_extension),
        cmocka_unit_test(types_are_sniffed_from_the_first_bytes),
        cmocka_unit_test(identity_is_answered_wherever_it_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
