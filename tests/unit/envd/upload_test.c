#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "envd/upload.h"
#include "envd/upload_place.h"
#include "server/base/mem.h"

static char folder[] = "/tmp/upload-test-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void make_file(int dir_fd, const char *name, time_t mtime)
{
    struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};
    int fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void upload_removes_only_its_own_old_copies(void **state)
{
    struct upload up = {.dir_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    time_t now = time(NULL);

    (void)state;
    make_file(up.dir_fd, UPLOAD_TEMP_PREFIX "old", now - 7200);
    make_file(up.dir_fd, UPLOAD_TEMP_PREFIX "young", now - 60);
    make_file(up.dir_fd, "old", now - 7200);
    assert_int_equal(mkdirat(up.dir_fd, UPLOAD_TEMP_PREFIX "folder", 0700), 0);
    upload_remove_stale(&up);
    assert_int_equal(unlinkat(up.dir_fd, UPLOAD_TEMP_PREFIX "old", 0), -1);
    assert_int_equal(unlinkat(up.dir_fd, UPLOAD_TEMP_PREFIX "young", 0), 0);
    assert_int_equal(unlinkat(up.dir_fd, "old", 0), 0);
    assert_int_equal(unlinkat(up.dir_fd, UPLOAD_TEMP_PREFIX "folder", AT_REMOVEDIR), 0);
    close(up.dir_fd);
}

static void upload_writes_a_pipe_to_any_file(void **state)
{
    /* procfs takes no pages from a pipe */
    static const char *const files[] = {"/proc/self/comm", "/dev/null"};
    static const char text[] = "piped";
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (size_t i = 0; i < array_size(files); i++) {
        struct upload up = {.fd = open(files[i], O_WRONLY | O_CLOEXEC)};
        struct err err = {0};

        assert_int_equal(write(ends[1], text, strlen(text)), strlen(text));
        assert_int_equal(upload_write_pipe(&up, ends[0], strlen(text), &err), 0);
        assert_int_equal(up.written_bytes, strlen(text));
        close(up.fd);
    }
    close(ends[0]);
    close(ends[1]);
}

static void upload_tells_of_a_full_device(void **state)
{
    struct upload up = {.fd = open("/dev/full", O_WRONLY | O_CLOEXEC),
                        .target = mem_strdup("/dev/full"),
                        .expected_bytes = 5};
    struct err err = {0};

    (void)state;
    assert_int_equal(upload_write(&up, "12345", 5, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.msg, "attempted to write 5 bytes: not enough disk space available");
    close(up.fd);
    free(up.target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upload_removes_only_its_own_old_copies),
        cmocka_unit_test(upload_writes_a_pipe_to_any_file),
        cmocka_unit_test(upload_tells_of_a_full_device),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
