/* server/base/log.h: a log file with a bound. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/log.h"

#define BOUND_BYTES 10000
#define LINES 1000

static void a_bounded_file_begins_anew(void **state)
{
    char path[] = "/tmp/log-test-XXXXXX", first = 0;
    int fd = mkstemp(path), before = dup(STDERR_FILENO);
    struct stat st;
    off_t largest = 0;

    (void)state;
    assert_true(fd >= 0 && before >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    dup2(fd, STDERR_FILENO);
    log_bound_file(BOUND_BYTES);
    for (int i = 0; i < LINES; i++) {
        log_info("a line", "number", log_num(i));
        if (fstat(fd, &st) == 0 && st.st_size > largest)
            largest = st.st_size;
    }
    log_bound_file(0);
    dup2(before, STDERR_FILENO);
    assert_int_equal(pread(fd, &first, 1, 0), 1);
    close(fd);
    close(before);
    unlink(path);
    assert_true(largest > BOUND_BYTES / 2 && largest < BOUND_BYTES + LOG_LINE_MAX);
    assert_int_equal(first, '{'); /* no hole */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bounded_file_begins_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
