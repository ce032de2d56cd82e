#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "server/base/date.h"

#define DAY_S 86400

/* 400 years hold every kind of year; libc says what is right. */
static void every_day_of_an_era_is_what_libc_says(void **state)
{
    (void)state;
    for (int64_t at = -200ll * 366 * DAY_S + 12345; at < 200ll * 366 * DAY_S; at += DAY_S - 7) {
        time_t when = (time_t)at;
        struct date date;
        struct tm tm;

        date_from_unix(at, &date);
        assert_non_null(gmtime_r(&when, &tm));
        assert_int_equal(date.year, tm.tm_year + 1900);
        assert_int_equal(date.month, tm.tm_mon + 1);
        assert_int_equal(date.day, tm.tm_mday);
        assert_int_equal(date.hour, tm.tm_hour);
        assert_int_equal(date.minute, tm.tm_min);
        assert_int_equal(date.second, tm.tm_sec);
        assert_int_equal(date.weekday, tm.tm_wday);
        assert_int_equal(date_to_unix(&date), at);
    }
}

static void far_dates_go_there_and_back(void **state)
{
    static const int64_t times[] = {-62135596801, -62167219201, 253402300800, 1ll << 55,
                                    -(1ll << 55), 951782400,    951868799};
    struct date date;

    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        date_from_unix(times[i], &date);
        assert_int_equal(date_to_unix(&date), times[i]);
    }
}

static void dates_are_written_as_the_standards_say(void **state)
{
    char http[DATE_HTTP_SIZE], iso[DATE_ISO_SIZE];

    (void)state;
    date_http(784111777, http);
    assert_string_equal(http, "Sun, 06 Nov 1994 08:49:37 GMT");
    date_iso(784111777, iso);
    assert_string_equal(iso, "1994-11-06T08:49:37");
    date_http(-62135596800, http);
    assert_string_equal(http, "Mon, 01 Jan 0001 00:00:00 GMT");
    date_http(253402300800, http); /* year 10000 */
    assert_string_equal(http, "Thu, 01 Jan 1970 00:00:00 GMT");
}

static void the_three_forms_of_http_are_read_and_no_other(void **state)
{
    static const char *const good[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                       "Sunday, 06-Nov-94 08:49:37 GMT",
                                       "Sun Nov  6 08:49:37 1994"};
    static const char *const bad[] = {"",
                                      "Sun",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Nov 1994 08:49:37 GMT ",
                                      "Sun, 06 Nov 1994 08:49:37 UTC",
                                      "Sun, 06 Nov 1994 24:49:37 GMT",
                                      "Sun, 00 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nob 1994 08:49:37 GMT",
                                      "Sun, -6 Nov 1994 08:49:37 GMT",
                                      "Xun, 06 Nov 1994 08:49:37 GMT",
                                      "Sun Nov 16 08:49:37 1994 GMT",
                                      "1994-11-06T08:49:37Z"};
    int64_t unix_s;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        unix_s = 0;
        assert_int_equal(date_parse_http(good[i], &unix_s), 0);
        assert_int_equal(unix_s, 784111777);
    }
    assert_int_equal(date_parse_http("Sun Nov 16 08:49:37 1994", &unix_s), 0);
    assert_int_equal(unix_s, 784111777 + 10 * DAY_S);
    assert_int_equal(date_parse_http("Friday, 01-Jan-21 00:00:00 GMT", &unix_s), 0);
    assert_int_equal(unix_s, 1609459200);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(date_parse_http(bad[i], &unix_s), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_day_of_an_era_is_what_libc_says),
        cmocka_unit_test(far_dates_go_there_and_back),
        cmocka_unit_test(dates_are_written_as_the_standards_say),
        cmocka_unit_test(the_three_forms_of_http_are_read_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
