#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/path.h"
#include "server/base/mem.h"

static const struct path_base base = {.user = "user", .home = "/home/user", .workdir = NULL};
static const struct path_base with_workdir = {"user", "/home/user", "/code"};
static const struct path_base tilde_workdir = {"user", "/home/user", "~/code"};

static void path_is_expanded_by_the_rules(void **state)
{
    static const struct {
        const struct path_base *base;
        const char *path, *want;
    } cases[] = {
        {&base, "", "/home/user"},
        {&with_workdir, "", "/code"},
        {&tilde_workdir, "", "/home/user/code"},
        {&base, "~", "/home/user"},
        {&base, "~/", "/home/user"},
        {&base, "~/a/../b", "/home/user/b"},
        {&base, "/", "/"},
        {&base, "/a//b/../c/", "/a//b/../c/"}, /* absolute: untouched */
        {&base, "a", "/home/user/a"},
        {&with_workdir, "a", "/home/user/a"}, /* not the workdir */
        {&base, "./a//b/", "/home/user/a/b"},
        {&base, "../other", "/home/other"},
        {&base, "../../../etc", "/etc"},
        {&base, "a~", "/home/user/a~"},
        {&base, " ", "/home/user/ "},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *out = NULL;
        struct err err = {0};
        assert_int_equal(path_expand(cases[i].path, cases[i].base, &out, &err), 0);
        assert_string_equal(out, cases[i].want);
    }
}

static void path_of_another_users_home_is_refused(void **state)
{
    static const char *const cases[] = {"~other", "~root/x", "~~"};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        char *out = NULL;
        struct err err = {0};
        assert_int_equal(path_expand(cases[i], &base, &out, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, "failed to expand path '' for user 'user': "
                                     "cannot expand user-specific home dir");
        assert_null(out);
    }
}

static void path_clean_keeps_the_shortest_equal_path(void **state)
{
    static const struct {
        const char *path, *want;
    } cases[] = {
        {"", "."},
        {".", "."},
        {"/", "/"},
        {"//", "/"},
        {"/.", "/"},
        {"/..", "/"},
        {"/../..", "/"},
        {"..", ".."},
        {"../..", "../.."},
        {"a/..", "."},
        {"a/../..", ".."},
        {"../a/..", ".."},
        {"a/b/../../c", "c"},
        {"/a/b/../../c", "/c"},
        {"/a/./b", "/a/b"},
        {"a//b///c/", "a/b/c"},
        {"/...", "/..."},
        {"/..a/.b", "/..a/.b"},
        {"../../a", "../../a"},
        {"a/b/..", "a"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *out = path_clean(cases[i].path);
        if (strcmp(out, cases[i].want) != 0)
            fail_msg("clean %s: %s", cases[i].path, out);
    }
}

static void path_splits_into_parent_and_name(void **state)
{
    static const struct {
        const char *path, *parent, *name;
    } cases[] = {
        {"/a/b", "/a", "b"}, {"/a/b/", "/a", "b"}, {"/a", "/", "a"}, {"/", "/", "/"},
        {"//", "/", "/"},    {"a", ".", "a"},      {"", ".", "."},   {"/a//b//", "/a", "b"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *parent = path_parent(cases[i].path);
        _cleanup_free_ char *name = path_name(cases[i].path);
        assert_string_equal(parent, cases[i].parent);
        assert_string_equal(name, cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_is_expanded_by_the_rules),
        cmocka_unit_test(path_of_another_users_home_is_refused),
        cmocka_unit_test(path_clean_keeps_the_shortest_equal_path),
        cmocka_unit_test(path_splits_into_parent_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
