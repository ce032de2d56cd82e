#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mapper/template_id.h"

static void references_are_cut_into_namespace_name_and_tag(void **state)
{
    static const struct {
        const char *text, *namespace_, *name, *tag, *again;
    } cases[] = {
        {"base", "", "base", "", "base"},
        {" Team-A/My_App:V1.2 ", "team-a", "my_app", "v1.2", "team-a/my_app:v1.2"},
        {"a/b", "a", "b", "", "a/b"},
        {"b:default", "", "b", "default", "b:default"},
        {"b:0f8fad5b-d9cb-469f-a165-70867728950e", "", "b", "0f8fad5b-d9cb-469f-a165-70867728950e",
         "b:0f8fad5b-d9cb-469f-a165-70867728950e"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct template_id id;
        struct err err = {0};
        char text[TEMPLATE_ID_SIZE];
        if (template_id_parse(cases[i].text, strlen(cases[i].text), &id, &err) != 0)
            fail_msg("refused: %s (%s)", cases[i].text, err.msg);
        assert_string_equal(id.namespace_, cases[i].namespace_);
        assert_string_equal(id.name, cases[i].name);
        assert_string_equal(id.tag, cases[i].tag);
        assert_int_equal(template_id_format(&id, text, &err), 0);
        assert_string_equal(text, cases[i].again);
    }
}

static void bad_references_are_refused(void **state)
{
    static const char *const cases[] = {"",      " ",     "/",        "a/",  "/b",     ":t",
                                        "a:",    "a/b/",  "a/b/c",    "a b", "a\x01",  "a.b",
                                        "a:b:c", "a:b/c", "\xc3\xa9", "..",  "a/..:x", "a/b:t ag"};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct template_id id = {.name = "old"};
        struct err err = {0};
        if (template_id_parse(cases[i], strlen(cases[i]), &id, &err) != -1)
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(id.name, "old");
    }
}

static void long_references_and_nul_are_refused(void **state)
{
    char text[400];
    struct template_id id;
    struct err err = {0};

    (void)state;
    memset(text, 'a', sizeof(text));
    assert_int_equal(template_id_parse(text, 128, &id, &err), 0);
    assert_int_equal(template_id_parse(text, 129, &id, &err), -1);
    assert_int_equal(template_id_parse(text, sizeof(text), &id, &err), -1);
    assert_int_equal(template_id_parse("a\0b", 3, &id, &err), -1);
}

static void a_bare_name_is_looked_up_at_home_first(void **state)
{
    struct template_id id, out[2];
    struct err err = {0};

    (void)state;
    assert_int_equal(template_id_parse("app:v1", 6, &id, &err), 0);
    assert_int_equal(template_id_candidates(&id, "mine", out), 2);
    assert_string_equal(out[0].namespace_, "mine");
    assert_string_equal(out[0].tag, "v1");
    assert_string_equal(out[1].namespace_, "");
    assert_int_equal(template_id_parse("other/app", 9, &id, &err), 0);
    assert_int_equal(template_id_candidates(&id, "mine", out), 1);
    assert_string_equal(out[0].namespace_, "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_cut_into_namespace_name_and_tag),
        cmocka_unit_test(bad_references_are_refused),
        cmocka_unit_test(long_references_and_nul_are_refused),
        cmocka_unit_test(a_bare_name_is_looked_up_at_home_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
