#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/engine/local/cgroup.h"

#define V1(n, names) #n " 31 0:35 / /sys/fs/cgroup/" names " rw - cgroup cgroup rw," names "\n"

static const char *controllers;

static char *fake_controllers(const char *mount)
{
    (void)mount;
    return mem_strdup(controllers);
}

static int find(const char *text, struct cgroups *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return cgroups_find(text, fake_controllers, out, err);
}

static void version_2_is_used_when_it_has_the_controllers(void **state)
{
    struct cgroups found;
    struct err err = {0};

    (void)state;
    controllers = "cpuset cpu io memory pids\n";
    assert_int_equal(find("22 27 0:21 / /proc rw - proc proc rw\n"
                          "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
                          &found, &err),
                     0);
    assert_string_equal(found.ops->name, "v2");
    assert_string_equal(found.mounts[CGROUP_PIDS], "/sys/fs/cgroup");
    cgroups_clear(&found);
}

static void version_1_is_used_beside_an_empty_version_2(void **state)
{
    struct cgroups found;
    struct err err = {0};

    (void)state;
    controllers = "\n";
    assert_int_equal(
        find(V1(1, "memory") V1(2, "pids") V1(3, "cpu,cpuacct")
                 V1(4, "freezer") "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
             &found, &err),
        0);
    assert_string_equal(found.ops->name, "v1");
    assert_string_equal(found.mounts[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(found.mounts[CGROUP_FREEZER], "/sys/fs/cgroup/freezer");
    cgroups_clear(&found);
}

static void a_missing_controller_is_named_with_its_remedy(void **state)
{
    struct cgroups found;
    struct err err = {0};

    (void)state;
    controllers = "cpu pids\n"; /* memory is off, as on a Raspberry Pi */
    assert_int_equal(find("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", &found, &err),
                     -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "no memory controller"));
    assert_non_null(strstr(err.msg, "mount -t cgroup"));
    assert_int_equal(find(V1(1, "memory") V1(2, "pids") V1(3, "cpu"), &found, &err), -1);
    assert_non_null(strstr(err.msg, "freezer"));
    assert_int_equal(find("", &found, &err), -1);
}

static void odd_lines_of_mountinfo_do_no_harm(void **state)
{
    static const char *const texts[] = {"\n\n",
                                        " - ",
                                        "1 2 3 - cgroup",
                                        "1 2 3 / /x rw - cgroup\n",
                                        "1 2 3 / /a\\040b rw - cgroup2 none rw\n",
                                        "-\n - - -\n"};
    struct cgroups found;

    (void)state;
    controllers = "cpu memory pids\n";
    for (size_t i = 0; i < array_size(texts); i++) {
        struct err err = {0};
        if (find(texts[i], &found, &err) == 0) {
            assert_string_equal(found.mounts[0], "/a b");
            cgroups_clear(&found);
        }
    }
}

/* A folder with files in the place of a kernel's. */
static int fake_group(char *path)
{
    assert_non_null(mkdtemp(path));
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    return dir;
}

static void touch(int dir, const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void assert_content(int dir, const char *name, const char *text)
{
    struct err err = {0};
    char *got = NULL;

    assert_int_equal(file_read(dir, name, 100, &got, NULL, &err), 0);
    assert_string_equal(got, text);
    free(got);
    unlinkat(dir, name, 0);
}

static const struct cgroup_limits limits = {.cpu_count = 3, .memory_mb = 512, .pids_max = 77};

static void version_2_limits_are_written(void **state)
{
    char path[] = "/tmp/cgroup-test-XXXXXX";
    static const char *const names[] = {
        "memory.max",       "memory.swap.max",       "pids.max",      "cpu.max",
        "guest/memory.max", "guest/memory.swap.max", "guest/pids.max"};
    struct cgroup group = CGROUP_NONE;
    struct err err = {0};

    (void)state;
    group.fds[0] = fake_group(path);
    assert_int_equal(mkdirat(group.fds[0], "guest", 0700), 0);
    for (size_t i = 0; i < array_size(names); i++)
        touch(group.fds[0], names[i]);
    assert_int_equal(cgroup_v2_ops.limit(&group, &limits, &err), 0);
    assert_content(group.fds[0], "memory.max", "536870912");
    assert_content(group.fds[0], "memory.swap.max", "0");
    assert_content(group.fds[0], "pids.max", "77");
    assert_content(group.fds[0], "cpu.max", "300000 100000");
    assert_content(group.fds[0], "guest/memory.max", "469762048"); /* an eighth is envd's */
    assert_content(group.fds[0], "guest/memory.swap.max", "0");
    assert_content(group.fds[0], "guest/pids.max", "68");
    assert_int_equal(cgroup_v2_ops.limit(&group, &limits, &err), -1); /* no such files now */
    unlinkat(group.fds[0], "guest", AT_REMOVEDIR);
    cgroup_close(&group);
    rmdir(path);
}

static void version_1_limits_are_written(void **state)
{
    char path[] = "/tmp/cgroup-test-XXXXXX";
    static const char *const names[] = {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
                                        "pids.max", "cpu.cfs_period_us", "cpu.cfs_quota_us",
                                        "guest/memory.limit_in_bytes",
                                        "guest/memory.memsw.limit_in_bytes", "guest/pids.max"};
    struct cgroup group = CGROUP_NONE;
    struct err err = {0};

    (void)state;
    group.fds[0] = fake_group(path); /* all mounted together: one folder */
    assert_int_equal(mkdirat(group.fds[0], "guest", 0700), 0);
    for (size_t i = 0; i < array_size(names); i++)
        touch(group.fds[0], names[i]);
    assert_int_equal(cgroup_v1_ops.limit(&group, &limits, &err), 0);
    assert_content(group.fds[0], "memory.limit_in_bytes", "536870912");
    assert_content(group.fds[0], "memory.memsw.limit_in_bytes", "536870912");
    assert_content(group.fds[0], "pids.max", "77");
    assert_content(group.fds[0], "cpu.cfs_period_us", "100000");
    assert_content(group.fds[0], "cpu.cfs_quota_us", "300000");
    assert_content(group.fds[0], "guest/memory.limit_in_bytes", "469762048");
    assert_content(group.fds[0], "guest/memory.memsw.limit_in_bytes", "469762048");
    assert_content(group.fds[0], "guest/pids.max", "68");
    unlinkat(group.fds[0], "guest", AT_REMOVEDIR);
    cgroup_close(&group);
    rmdir(path);
}

static void the_guest_leaves_an_eighth_and_never_more_than_it_takes(void **state)
{
    static const struct {
        uint32_t memory_mb, pids_max, guest_mb, guest_pids;
    } cases[] = {
        {512, 64, 448, 56},
        {1024, 256, 896, 224},
        {1025, 257, 897, 225}, /* 128 MiB and 32 at most */
        {65536, 4096, 65408, 4064},
        {8, 7, 7, 7},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        const struct cgroup_limits whole = {.memory_mb = cases[i].memory_mb,
                                            .pids_max = cases[i].pids_max};
        assert_true(cgroup_guest_bytes(&whole) == (uint64_t)cases[i].guest_mb << 20);
        assert_int_equal(cgroup_guest_pids(&whole), cases[i].guest_pids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_2_is_used_when_it_has_the_controllers),
        cmocka_unit_test(version_1_is_used_beside_an_empty_version_2),
        cmocka_unit_test(a_missing_controller_is_named_with_its_remedy),
        cmocka_unit_test(odd_lines_of_mountinfo_do_no_harm),
        cmocka_unit_test(version_2_limits_are_written),
        cmocka_unit_test(version_1_limits_are_written),
        cmocka_unit_test(the_guest_leaves_an_eighth_and_never_more_than_it_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
