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
#include "server/base/mem.h"
#include "server/engine/local/remove.h"

#define DEEP 3000 /* folders inside each other: more than PATH_MAX allows to name */

static int top_new(char *path)
{
    assert_non_null(mkdtemp(path));
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    return dir;
}

static void put(int dir, const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool there(int dir, const char *name)
{
    return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void a_tree_goes_with_all_that_is_in_it(void **state)
{
    char path[] = "/tmp/remove-test-XXXXXX";
    int dir = top_new(path);
    struct err err = {0};

    (void)state;
    assert_int_equal(mkdirat(dir, "t", 0700), 0);
    assert_int_equal(mkdirat(dir, "t/a", 0700), 0);
    assert_int_equal(mkdirat(dir, "t/a/b", 0700), 0);
    put(dir, "t/a/b/f");
    put(dir, "t/.hidden");
    assert_int_equal(mkfifoat(dir, "t/fifo", 0600), 0);
    assert_int_equal(mkdirat(dir, "t/none", 0000), 0);
    put(dir, "other");
    assert_int_equal(remove_tree(dir, "t", &err), 0);
    assert_false(there(dir, "t"));
    assert_true(there(dir, "other"));
    assert_int_equal(remove_tree(dir, "t", &err), 0); /* not there: no error */
    assert_int_equal(remove_tree(dir, "other", &err), 0);
    close(dir);
    assert_int_equal(rmdir(path), 0);
}

static void links_are_removed_and_not_followed(void **state)
{
    char path[] = "/tmp/remove-test-XXXXXX";
    int dir = top_new(path);
    struct err err = {0};

    (void)state;
    assert_int_equal(mkdirat(dir, "keep", 0700), 0);
    put(dir, "keep/file");
    assert_int_equal(mkdirat(dir, "t", 0700), 0);
    assert_int_equal(symlinkat("../keep", dir, "t/link"), 0);
    assert_int_equal(symlinkat("/", dir, "t/root"), 0);
    assert_int_equal(symlinkat("keep", dir, "s"), 0);
    assert_int_equal(remove_tree(dir, "t", &err), 0);
    assert_int_equal(remove_tree(dir, "s", &err), 0);
    assert_true(there(dir, "keep/file"));
    assert_false(there(dir, "s"));
    assert_int_equal(remove_tree(dir, "keep", &err), 0);
    close(dir);
    assert_int_equal(rmdir(path), 0);
}

static void a_tree_deeper_than_descriptors_goes_too(void **state)
{
    char path[] = "/tmp/remove-test-XXXXXX";
    int dir = top_new(path), at = dup(dir);
    struct err err = {0};

    (void)state;
    for (int i = 0; i < DEEP; i++) {
        int next;
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        if (i % 100 == 0) {
            put(next, ".deep-0"); /* in the way of where deep folders are moved to */
            put(next, ".deep-1");
        }
        close(at);
        at = next;
    }
    close(at);
    assert_int_equal(remove_tree(dir, "d", &err), 0);
    assert_false(there(dir, "d"));
    close(dir);
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_goes_with_all_that_is_in_it),
        cmocka_unit_test(links_are_removed_and_not_followed),
        cmocka_unit_test(a_tree_deeper_than_descriptors_goes_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
