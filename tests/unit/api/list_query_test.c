/*
 * Filters, order and page tokens of GET /v2/sandboxes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/api/list_query.h"
#include "server/base/buf.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

static void metadata_is_decoded_twice_more_after_the_query(void **state)
{
    static const struct {
        const char *in, *json; /* json NULL: refused */
    } cases[] = {
        {"a%2520b=c%2526d%253D%25C3%25A9", "{\"a b\":\"c&d=\xc3\xa9\"}"}, /* as both SDKs send it */
        {"a=b", "{\"a\":\"b\"}"},                                         /* as a hand sends it */
        {"a=b&c=d", "{\"a\":\"b\",\"c\":\"d\"}"},
        {"a%20b=c+d", "{\"a b\":\"c d\"}"},
        {"a%3Db", "{\"a\":\"b\"}"}, /* the split comes after the first decoding */
        {"a=", "{\"a\":\"\"}"},
        {"=b", "{\"\":\"b\"}"},
        {"", "{}"},
        {"a", NULL},
        {"a=b=c", NULL},
        {"a=b&", NULL},
        {"&a=b", NULL},
        {"a%", NULL},
        {"a=%25zz", NULL},
        {"a=%2500", NULL}, /* NUL */
        {"a=%25ff", NULL}, /* not UTF-8 */
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_json_ json_t *out = NULL;
        struct err err = {0};
        int rc = list_metadata_parse(cases[i].in, &out, &err);
        if (cases[i].json == NULL) {
            if (rc != -1)
                fail_msg("accepted: %s", cases[i].in);
            assert_int_equal(err.code, ERR_INVALID);
            assert_true(str_starts(err.msg, "Error parsing metadata"));
        } else {
            _cleanup_free_ char *text = NULL;
            if (rc != 0)
                fail_msg("refused: %s", cases[i].in);
            text = json_text(out);
            assert_string_equal(text, cases[i].json);
        }
    }
}

static void states_are_joined_by_commas(void **state)
{
    static const struct {
        const char *in;
        int rc;
        bool running, paused;
    } cases[] = {
        {NULL, 0, true, true},
        {"", 0, true, true},
        {"running", 0, true, false},
        {"paused", 0, false, true},
        {"running,paused", 0, true, true},
        {"paused,running", 0, true, true},
        {"Running", -1, false, false},
        {"running,", 0, true, false}, /* an empty word says nothing */
        {",", 0, true, true},
        {",killed", -1, false, false},
        {"running,killed", -1, false, false},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct list_query query = {0};
        struct err err = {0};
        assert_int_equal(list_states_parse(cases[i].in, &query, &err), cases[i].rc);
        assert_int_equal(query.running, cases[i].running);
        assert_int_equal(query.paused, cases[i].paused);
    }
}

static void started_after_compares_microseconds(void **state)
{
    static const struct {
        const char *after;
        bool matches; /* a start at 2026-01-02T03:04:05.678Z */
    } cases[] = {
        {"2026-01-02T03:04:05.678Z", true},      {"2026-01-02T03:04:05.677Z", true},
        {"2026-01-02T03:04:05.679Z", false},     {"2026-01-02T03:04:05.678001Z", false},
        {"2026-01-02T03:04:05.6780009Z", true}, /* below a microsecond */
        {"2026-01-02T04:04:05.678+01:00", true}, {"2026-01-02T03:04:05.678+00:00", true},
    };
    struct sandbox sandbox = {.id = "i1"};

    (void)state;
    assert_int_equal(
        time_parse_rfc3339("2026-01-02T03:04:05.678Z", 24, &sandbox.started_unix_ms, NULL), 0);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct list_query query = {0};
        struct err err = {0};
        assert_int_equal(list_started_after_parse(cases[i].after, &query.started_after_us, &err),
                         0);
        if (list_matches(&query, &sandbox) != cases[i].matches)
            fail_msg("%s", cases[i].after);
    }
}

static void dates_and_orders_that_are_none_are_refused(void **state)
{
    struct err err = {0};
    bool ascending = true;
    int64_t us;

    (void)state;
    assert_int_equal(list_started_after_parse("yesterday", &us, &err), -1);
    assert_int_equal(list_started_after_parse("", &us, &err), -1);
    assert_int_equal(list_order_parse("up", &ascending, &err), -1);
    assert_int_equal(list_order_parse(NULL, &ascending, &err), 0);
    assert_false(ascending);
    assert_int_equal(list_order_parse("asc", &ascending, &err), 0);
    assert_true(ascending);
}

static void a_token_comes_back_in_its_own_order_alone(void **state)
{
    const struct list_key key = {.started_unix_ms = 1767323045678, .id = "iabc0123456789abcdef0"};
    struct list_key out = {0};
    char token[LIST_TOKEN_SIZE];
    struct err err = {0};

    (void)state;
    for (int ascending = 0; ascending < 2; ascending++) {
        list_token_format(&key, ascending, token);
        assert_int_equal(list_token_parse(token, ascending, &out, &err), 0);
        assert_int_equal(out.started_unix_ms, key.started_unix_ms);
        assert_string_equal(out.id, key.id);
        assert_int_equal(list_token_parse(token, !ascending, &out, &err), -1);
        assert_string_equal(err.msg, "Invalid next token");
    }
}

static void foreign_tokens_are_refused(void **state)
{
    static const char *const texts[] = {
        "",           "x",           "1__i1",       "__i1__asc", "1____asc",
        "1__I1__asc", "1__i1__asc ", "-1__i1__asc", "1__i1__",   "99999999999999999999__i1__asc",
    };
    struct list_key out;
    struct err err = {0};
    char token[LIST_TOKEN_SIZE];

    (void)state;
    for (size_t i = 0; i < array_size(texts); i++) {
        base64_encode(BASE64_URL_RAW, texts[i], strlen(texts[i]), token);
        if (list_token_parse(token, true, &out, &err) != -1)
            fail_msg("accepted: %s", texts[i]);
    }
    assert_int_equal(list_token_parse("%%%", true, &out, &err), -1);
    memset(token, 'A', sizeof(token) - 1);
    token[sizeof(token) - 1] = '\0';
    assert_int_equal(list_token_parse(token, true, &out, &err), -1);
}

#define SANDBOXES 7
#define PAGE 2

/* Walk all pages; every sandbox once, in order. Some share a start. */
static void walk(bool ascending)
{
    struct sandbox all[SANDBOXES] = {0};
    struct list_query query = {.ascending = ascending, .limit = PAGE};
    size_t seen = 0;

    for (size_t i = 0; i < SANDBOXES; i++) { /* ascending by (start, id) */
        all[i].started_unix_ms = 1000 + (int64_t)(i / 3);
        snprintf(all[i].id, sizeof(all[i].id), "i%zu", i);
    }
    for (size_t pages = 0; seen < SANDBOXES; pages++) {
        size_t on_page = 0;
        assert_true(pages < SANDBOXES);
        for (size_t i = 0; i < SANDBOXES && on_page < PAGE; i++) {
            const struct sandbox *sandbox = &all[ascending ? i : SANDBOXES - 1 - i];
            if (!list_is_after(&query, sandbox))
                continue;
            assert_ptr_equal(sandbox, &all[ascending ? seen : SANDBOXES - 1 - seen]);
            query.after.started_unix_ms = sandbox->started_unix_ms;
            memcpy(query.after.id, sandbox->id, sizeof(query.after.id));
            on_page++;
            seen++;
            if (on_page == PAGE)
                break;
        }
        query.after_set = true;
    }
}

static void pages_show_each_sandbox_once_in_both_orders(void **state)
{
    (void)state;
    walk(false);
    walk(true);
}

static void all_metadata_pairs_must_match(void **state)
{
    static const struct {
        const char *wanted;
        bool matches;
    } cases[] = {
        {"a=1", true}, {"a=1&b=2", true}, {"a=2", false}, {"a=1&c=3", false}, {"", true},
    };
    struct sandbox sandbox = {.metadata = (char *)"{\"a\":\"1\",\"b\":\"2\"}"}, bare = {0};

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct list_query query = {.started_after_us = INT64_MIN};
        struct err err = {0};
        assert_int_equal(list_metadata_parse(cases[i].wanted, &query.metadata, &err), 0);
        assert_int_equal(list_matches(&query, &sandbox), cases[i].matches);
        assert_int_equal(list_matches(&query, &bare), cases[i].wanted[0] == '\0');
        list_query_clear(&query);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_is_decoded_twice_more_after_the_query),
        cmocka_unit_test(states_are_joined_by_commas),
        cmocka_unit_test(started_after_compares_microseconds),
        cmocka_unit_test(dates_and_orders_that_are_none_are_refused),
        cmocka_unit_test(a_token_comes_back_in_its_own_order_alone),
        cmocka_unit_test(foreign_tokens_are_refused),
        cmocka_unit_test(pages_show_each_sandbox_once_in_both_orders),
        cmocka_unit_test(all_metadata_pairs_must_match),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
