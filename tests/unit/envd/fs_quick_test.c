#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>

#include "envd/fs.h"
#include "envd/fs_quick.h"
#include "envd/mounts.h"
#include "server/base/mem.h"
#include "server/base/str.h"

static struct user_db *users;
static char base[] = "/tmp/envd-quick-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    users = user_db_parse("root:x:0:0::/root:/bin/sh\n", 26, "", 0);
    return mkdtemp(base) != NULL && chdir(base) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err err = {0};

    (void)state;
    user_db_unref(users);
    return chdir("/") == 0 ? fs_remove(base, &err) : -1;
}

static const char *at(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", base, name);
    return path;
}

static void touch(const char *name)
{
    int fd = open(at(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0640);

    assert_true(fd >= 0);
    close(fd);
}

/* The kernel may decline at any time (a mount made elsewhere disturbs the walk): ask again. */
static bool quick_entry(const char *name, struct entry *out)
{
    for (int i = 0; i < 200; i++) {
        if (fs_stat_quick(at(name), users, out))
            return true;
        usleep(1000);
    }
    return false;
}

static bool quick(const char *name)
{
    struct entry entry;

    if (!quick_entry(name, &entry))
        return false;
    entry_clear(&entry);
    return true;
}

static void slow(const char *name)
{
    struct entry entry;
    struct err err;

    assert_int_equal(fs_stat(at(name), users, &entry, &err), 0);
    entry_clear(&entry);
}

static void assert_same(const char *name)
{
    struct entry a, b;
    struct err err;

    assert_int_equal(fs_stat(at(name), users, &a, &err), 0);
    assert_true(quick_entry(name, &b));
    assert_string_equal(a.name, b.name);
    assert_string_equal(a.path, b.path);
    assert_int_equal(a.type, b.type);
    assert_int_equal(a.is_symlink, b.is_symlink);
    assert_int_equal(a.size_bytes, b.size_bytes);
    assert_int_equal(a.mode, b.mode);
    assert_string_equal(a.permissions, b.permissions);
    assert_string_equal(a.owner, b.owner);
    assert_string_equal(a.group, b.group);
    assert_int_equal(a.mtime_s, b.mtime_s);
    assert_int_equal(a.mtime_ns, b.mtime_ns);
    assert_int_equal(b.meta_count, 0);
    assert_null(b.symlink_target);
    entry_clear(&a);
    entry_clear(&b);
}

static void quick_answers_are_those_of_a_worker(void **state)
{
    static const char *const fresh[] = {"file", "dir", "tagged"};

    (void)state;
    touch("file");
    touch("tagged");
    assert_int_equal(mkdir(at("dir"), 0711), 0);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    assert_int_equal(symlink("file", at("link")), 0);
    mounts_refresh();
    for (size_t i = 0; i < array_size(fresh); i++) {
        slow(fresh[i]);
        assert_false(quick(fresh[i])); /* too new: its change time may not be the last */
    }
    sleep(3);
    if (!quick("fifo"))
        skip(); /* the kernel is older than 5.12, or the folder is on a network mount */
    assert_false(quick("file")); /* nobody has looked at its attributes */
    assert_same("file");
    assert_same("dir");
    assert_same("fifo");
    assert_same("dir/");
    assert_false(quick("file/"));
    assert_false(quick("link"));
    assert_false(quick("missing"));

    slow("tagged");
    assert_true(quick("tagged"));
    assert_int_equal(setxattr(at("tagged"), "user.e2b.k", "v", 1, 0), 0);
    assert_false(quick("tagged"));
    assert_int_equal(chmod(at("file"), 0600), 0);
    assert_false(quick("file"));
    sleep(3);
    slow("tagged");
    assert_false(quick("tagged")); /* it has metadata */
    assert_same("file");
}

static void other_file_systems_are_left_to_workers(void **state)
{
    struct entry entry;

    (void)state;
    mounts_refresh();
    assert_false(fs_stat_quick("/proc/self/status", users, &entry));
    assert_false(fs_stat_quick("/proc/self/cwd", users, &entry));
    assert_false(mounts_is_local(UINT64_MAX));
}

static void mountinfo_names_the_local_mounts(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        uint64_t last;
    } cases[] = {
        {"", 0, 0},
        {"36 35 98:0 / / rw - ext4 /dev/root rw\n", 1, 36},
        {"36 35 98:0 / /a\\040b rw,noatime master:1 shared:2 - tmpfs none rw", 1, 36},
        {"36 35 0:1 / /p rw - nfs4 host:/x rw\n37 35 0:2 / /q rw - overlay o rw\n", 1, 37},
        {"36 35 0:1 / /p rw - fuse.ext4 x rw\n", 0, 0},
        {"36 35 0:1 / /p rw - ext", 0, 0},
        {"x 35 0:1 / /p rw - ext4 x rw\n", 0, 0},
        {"\n\n - \n36\n36 - ext4\n - ext4 x\n", 0, 0},
        {"99999999999999999999 35 0:1 / /p rw - ext4 x rw\n", 0, 0},
    };
    uint64_t ids[4];

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        size_t count = mounts_parse(cases[i].text, strlen(cases[i].text), ids, array_size(ids));
        assert_int_equal(count, cases[i].count);
        if (count > 0)
            assert_int_equal(ids[count - 1], cases[i].last);
    }
    assert_int_equal(mounts_parse("1 - ext4 \n2 - ext4 \n3 - xfs \n", 30, ids, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quick_answers_are_those_of_a_worker),
        cmocka_unit_test(other_file_systems_are_left_to_workers),
        cmocka_unit_test(mountinfo_names_the_local_mounts),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
