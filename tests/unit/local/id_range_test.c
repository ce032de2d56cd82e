#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/engine/local/id_range.h"

static char path[] = "/tmp/id-range-test-XXXXXX";

/* What another process is told: 0, or an error code. */
static int claim_elsewhere(uint32_t first, uint32_t count, char *msg, size_t size)
{
    int pipe_fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err = {0};
        int fd = id_range_claim(path, first, count, &err);
        ssize_t n = write(pipe_fds[1], err.msg, strlen(err.msg) + 1);
        _exit(fd >= 0 || n < 0 ? 0 : (int)err.code);
    }
    assert_true(read(pipe_fds[0], msg, size) > 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void overlap_is_noticed(void **state)
{
    char msg[256], who[32];
    struct err err = {0};
    int fd = id_range_claim(path, 1000, 50, &err);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(claim_elsewhere(950, 50, msg, sizeof(msg)), 0);
    assert_int_equal(claim_elsewhere(1050, 1, msg, sizeof(msg)), 0);
    assert_int_equal(claim_elsewhere(1049, 10, msg, sizeof(msg)), ERR_EXISTS);
    snprintf(who, sizeof(who), "process %d ", (int)getpid());
    assert_non_null(strstr(msg, who));
    close(fd);
    assert_int_equal(claim_elsewhere(1049, 10, msg, sizeof(msg)), 0);
}

static void a_link_is_not_followed(void **state)
{
    char link[64];
    struct err err = {0};

    (void)state;
    snprintf(link, sizeof(link), "%s.link", path);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(id_range_claim(link, 1, 1, &err), -1);
    unlink(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlap_is_noticed),
        cmocka_unit_test(a_link_is_not_followed),
    };
    int fd = mkstemp(path), failed;

    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
