#include "server/engine/local/sample.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void field_is_a_whole_word_at_the_start_of_a_line(void **state)
{
    static const char text[] = "cache 1\ntotal_cache 4096\nfile 7x\nfile_mapped 9\nusage_usec 12";
    uint64_t value = 5;

    (void)state;
    assert_true(sample_field(text, "total_cache", &value));
    assert_int_equal(value, 4096);
    assert_true(sample_field(text, "usage_usec", &value));
    assert_int_equal(value, 12);
    value = 5;
    assert_false(sample_field(text, "file", &value)); /* no number */
    assert_false(sample_field(text, "total", &value));
    assert_false(sample_field("", "cache", &value));
    assert_int_equal(value, 5);
}

static void put(int folder, const char *path, const char *text)
{
    int fd = openat(folder, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* Both versions' files, in a folder of ours. */
static void reads_both_versions_and_refuses_half_a_group(void **state)
{
    char path[] = "/tmp/sandpit-sample-XXXXXX";
    struct engine_sample v1 = {0}, v2 = {0}, half = {0};
    int fds[2];

    (void)state;
    assert_non_null(mkdtemp(path));
    fds[0] = fds[1] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int slot = 1; slot <= 3; slot++) {
        char name[32];
        snprintf(name, sizeof(name), "slot-%d", slot);
        assert_int_equal(mkdirat(fds[0], name, 0700), 0);
    }
    put(fds[0], "slot-1/cpuacct.usage", "2500000\n");
    put(fds[0], "slot-1/memory.usage_in_bytes", "8192\n");
    put(fds[0], "slot-1/memory.stat", "cache 1\ntotal_cache 4096\n");
    put(fds[0], "slot-2/cpu.stat", "usage_usec 77\nuser_usec 3\n");
    put(fds[0], "slot-2/memory.current", "100\n");
    put(fds[0], "slot-2/memory.stat", "anon 3\nfile 400\n");
    put(fds[0], "slot-3/memory.current", "100\n");
    sample_read(fds, 1, &v1);
    sample_read(fds, 2, &v2);
    sample_read(fds, 3, &half);
    assert_true(v1.ok);
    assert_int_equal(v1.cpu_us, 2500);
    assert_int_equal(v1.memory_bytes, 8192);
    assert_int_equal(v1.cache_bytes, 4096);
    assert_true(v2.ok);
    assert_int_equal(v2.cpu_us, 77);
    assert_int_equal(v2.cache_bytes, 100); /* read at another moment: never more than all */
    assert_false(half.ok);
    for (int slot = 1; slot <= 3; slot++) {
        static const char *const files[] = {"cpuacct.usage", "memory.usage_in_bytes", "memory.stat",
                                            "cpu.stat", "memory.current"};
        char name[64];
        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
            snprintf(name, sizeof(name), "slot-%d/%s", slot, files[i]);
            unlinkat(fds[0], name, 0);
        }
        snprintf(name, sizeof(name), "slot-%d", slot);
        unlinkat(fds[0], name, AT_REMOVEDIR);
    }
    close(fds[0]);
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(field_is_a_whole_word_at_the_start_of_a_line),
        cmocka_unit_test(reads_both_versions_and_refuses_half_a_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
