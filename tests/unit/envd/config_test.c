/* envd/config.h: what is mounted for which lifecycle, and that a next envd is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "envd/config.h"
#include "server/base/mem.h"

static void mounts_are_handed_over(void **state)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *json = NULL;
    struct err err = {0};

    (void)state;
    config_init(false);
    config_set_mounted("/mnt/a", "one");
    config_set_mounted("/mnt/b", "one");
    config_set_mounted("/mnt/b", NULL);
    text = config_export();
    config_clear();

    config_init(false);
    assert_false(config_is_mounted("/mnt/a", "one"));
    json = json_parse_object(text, strlen(text), &err);
    assert_non_null(json);
    assert_int_equal(config_apply(json, true, NULL, &err), 0);
    assert_true(config_is_mounted("/mnt/a", "one"));
    assert_false(config_is_mounted("/mnt/a", "two"));
    assert_false(config_is_mounted("/mnt/b", "one"));
    config_clear();
}

static void a_client_cannot_say_what_is_mounted(void **state)
{
    _cleanup_json_ json_t *json = json_pack("{s:{s:s}}", "sandpitMounted", "/mnt/a", "one");
    struct err err = {0};

    (void)state;
    config_init(false);
    assert_int_equal(config_apply(json, false, NULL, &err), 0);
    assert_false(config_is_mounted("/mnt/a", "one"));
    config_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mounts_are_handed_over),
        cmocka_unit_test(a_client_cannot_say_what_is_mounted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
