#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/api/host_stats.h"

static void meminfo_is_read_by_whole_keys(void **state)
{
    static const char text[] = "MemTotal:       16 kB\nMemAvailable:    5 kB\nHugePages_Total:   7";

    (void)state;
    assert_int_equal(meminfo_number(text, "MemTotal"), 16);
    assert_int_equal(meminfo_number(text, "MemAvailable"), 5);
    assert_int_equal(meminfo_number(text, "HugePages_Total"), 7);
    assert_int_equal(meminfo_number(text, "Mem"), 0);
    assert_int_equal(meminfo_number(text, "SwapTotal"), 0);
    assert_int_equal(meminfo_number("", "MemTotal"), 0);
}

static void cpu_share_is_of_the_time_between(void **state)
{
    const struct host_cpu before = {.busy = 100, .total = 1000};

    (void)state;
    assert_int_equal(host_cpu_percent(&before, &(struct host_cpu){150, 1100}), 50);
    assert_int_equal(host_cpu_percent(&before, &(struct host_cpu){100, 1100}), 0);
    assert_int_equal(host_cpu_percent(&before, &(struct host_cpu){200, 1100}), 100);
    assert_int_equal(host_cpu_percent(&before, &before), 0);
    assert_int_equal(host_cpu_percent(&before, &(struct host_cpu){90, 1100}), 0); /* went back */
}

static void mount_of_a_device_is_found_its_root_first(void **state)
{
    static const char text[] = "22 1 8:1 /sub /a rw - ext4 /dev/sda1 rw\n"
                               "23 1 8:11 / /x rw shared:1 - xfs /dev/sdb rw\n"
                               "24 1 8:1 / /b rw,noatime master:2 - ext4 /dev/sda1 rw\n"
                               "25 1 0:40 /deep /c rw - tmpfs none rw\n"
                               "broken\n";
    struct host_mount mount;

    (void)state;
    assert_true(mountinfo_find(text, 8, 1, &mount));
    assert_string_equal(mount.point, "/b");
    assert_string_equal(mount.type, "ext4");
    assert_string_equal(mount.device, "/dev/sda1");
    assert_true(mountinfo_find(text, 0, 40, &mount));
    assert_string_equal(mount.point, "/c");
    assert_string_equal(mount.device, "none");
    assert_false(mountinfo_find(text, 8, 2, &mount));
    assert_false(mountinfo_find("", 8, 2, &mount));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(meminfo_is_read_by_whole_keys),
        cmocka_unit_test(cpu_share_is_of_the_time_between),
        cmocka_unit_test(mount_of_a_device_is_found_its_root_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
