/* envd/volumes.h: what is asked of mount(2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "envd/volumes.h"
#include "server/base/mem.h"

static void the_options_are_the_platforms(void **state)
{
    struct volume volume;
    struct err err = {0};

    (void)state;
    assert_int_equal(volume_parse("10.0.0.1:/v/a b", "//mnt//v/", &volume, &err), 0);
    assert_string_equal(volume.target, "10.0.0.1:/v/a b");
    assert_string_equal(volume.path, "/mnt/v");
    assert_string_equal(volume.options,
                        "vers=3,proto=tcp,mountproto=tcp,port=2049,mountport=2049,hard,"
                        "rsize=1048576,wsize=1048576,noacl,noac,lookupcache=none,addr=10.0.0.1");
}

static void others_are_refused(void **state)
{
    static const char *const bad[][2] = {
        {"10.0.0.1:/v", "mnt"},
        {"10.0.0.1:/v", "/a/../b"},
        {"10.0.0.1:/v", "/a/."},
        {"10.0.0.1:/v", "/"},
        {"10.0.0.1:/v", ""},
        {"10.0.0.1:v", "/mnt"},
        {"10.0.0.1", "/mnt"},
        {"", "/mnt"},
        {"1.2.3.4,soft:/v", "/mnt"},
        {"server:/v", "/mnt"},
        {":/v", "/mnt"},
    };

    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        struct volume volume;
        struct err err = {0};

        assert_int_equal(volume_parse(bad[i][0], bad[i][1], &volume, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_options_are_the_platforms),
        cmocka_unit_test(others_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
