/* envd/hosts.h: one name in a file of host names. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "envd/hosts.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

static void only_its_own_line_changes(void **state)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"", "10.0.0.9 events.e2b.local\n"},
        {"127.0.0.1 localhost\n", "127.0.0.1 localhost\n10.0.0.9 events.e2b.local\n"},
        {"127.0.0.1 localhost", "127.0.0.1 localhost\n10.0.0.9 events.e2b.local\n"},
        {"10.0.0.1 events.e2b.local\n::1 x\n10.0.0.2\tevents.e2b.local # old\n",
         "::1 x\n10.0.0.9 events.e2b.local\n"},
        {"10.0.0.1 my.events.e2b.local\n# events.e2b.local\n",
         "10.0.0.1 my.events.e2b.local\n# events.e2b.local\n10.0.0.9 events.e2b.local\n"},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        char path[] = "/tmp/hosts-test-XXXXXX", *got = NULL;
        struct err err = {0};
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_full(fd, cases[i].before, strlen(cases[i].before)), 0);
        close(fd);
        assert_int_equal(hosts_set_events(path, "10.0.0.9", &err), 0);
        assert_int_equal(file_read(AT_FDCWD, path, 4096, &got, NULL, &err), 0);
        assert_string_equal(got, cases[i].after);
        free(got);
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_its_own_line_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
