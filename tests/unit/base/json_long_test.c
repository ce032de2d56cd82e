#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/base/json.h"
#include "server/base/json_long.h"
#include "server/base/mem.h"

#define LONG 20000

/* A text that has LONG x's, FIRST among them, in the place of '@'. */
static char *text_of(const char *form, char first)
{
    size_t before = strcspn(form, "@"), after = strlen(form + before + 1);
    char *text = mem_zalloc(before + LONG + after + 1);

    memcpy(text, form, before);
    memset(text + before, 'x', LONG);
    text[before + LONG / 2] = first;
    memcpy(text + before + LONG, form + before + 1, after);
    return text;
}

static void a_long_string_is_cut_out_where_it_can_be(void **state)
{
    static const struct {
        const char *form;
        char middle;
        bool cut;
    } cases[] = {
        {"\"@\"", 'y', true},
        {"{\"a\":{\"b\":[1,\"@\",\"c\"]},\"d\":\"e\"}", 'y', true},
        {"  {\"short\" : \"x\", \"a\"\n:\t\"@\" } ", '=', true},
        {"[\"@\"", 'y', true}, /* not JSON, which is found later */
        {"{\"@\":1}", 'y', false},
        {"{\"@\" \t\r\n :1}", 'y', false},
        {"[\"@\"]", '\n', false},
        {"[\"@\"]", '\xc3', false},
        {"[\"@\"]", '\\', false},
        {"[\"\\n\",\"@\"]", 'y', false},
        {"[\"@\",\"\x7f\"]", 'y', false},
        {"[\"\x7f\",\"@\"]", 'y', false},
        {"[\"@]", 'y', false},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *text = text_of(cases[i].form, cases[i].middle);
        struct json_long cut = {0};

        if (json_long_cut(text, strlen(text), &cut) != cases[i].cut)
            fail_msg("case %zu: %s", i, cases[i].form);
        if (!cases[i].cut)
            continue;
        assert_int_equal(cut.string_len, LONG);
        assert_int_equal(cut.rest_len, strlen(text) - LONG + 1);
        json_long_clear(&cut);
    }
}

static void parsing_gives_the_same_with_and_without(void **state)
{
    static const char *const forms[] = {
        "\"@\"",           "{\"a\":{\"b\":[1,\"@\",\"c\"]},\"d\":\"e\"}",
        "{\"@\":[\"@\"]}", "[\"@\",@]",
        "[\"@\"",          "{\"a\":\"@\",\"a\":\"@\"}",
        "[\"@\",1}",       "[\"\\u007f\",\"@\"]",
        "[\"@\",\"x\"] x",
    };
    static const char middles[] = {'y', '"', '\n', '\\', '\x7f', '\xff', '\x01', ' ', '~'};

    (void)state;
    for (size_t i = 0; i < array_size(forms) * sizeof(middles); i++) {
        _cleanup_free_ char *text =
            text_of(forms[i / sizeof(middles)], middles[i % sizeof(middles)]);
        struct err err = {0};
        json_error_t error;
        json_t *got = json_parse(text, strlen(text), &err);
        json_t *want =
            json_loadb(text, strlen(text), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

        if ((got == NULL) != (want == NULL) || (got != NULL && !json_equal(got, want)))
            fail_msg("case %zu", i);
        assert_int_equal(err.code, want == NULL ? ERR_INVALID : ERR_NONE);
        json_decref(got);
        json_decref(want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_string_is_cut_out_where_it_can_be),
        cmocka_unit_test(parsing_gives_the_same_with_and_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
