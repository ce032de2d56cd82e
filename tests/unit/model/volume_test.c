#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/mem.h"
#include "server/model/volume.h"

static void names_are_letters_digits_and_two_marks(void **state)
{
    char longest[VOLUME_NAME_SIZE + 1];
    static const char *const good[] = {"a", "A-b_9", "-", "_"};
    static const char *const bad[] = {"", "a b", "a/b", "a.b", "ä", "a\n", "..", "a\x7f"};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(good); i++)
        assert_int_equal(volume_name_check(good[i], strlen(good[i]), &err), 0);
    for (size_t i = 0; i < array_size(bad); i++) {
        if (volume_name_check(bad[i], strlen(bad[i]), &err) != -1)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, "Invalid volume name");
    }
    assert_int_equal(volume_name_check("a\0b", 3, &err), -1);
    memset(longest, 'x', sizeof(longest));
    assert_int_equal(volume_name_check(longest, VOLUME_NAME_SIZE - 1, &err), 0);
    assert_int_equal(volume_name_check(longest, VOLUME_NAME_SIZE, &err), -1);
}

static void ids_are_uuids_in_lower_case(void **state)
{
    static const char *const bad[] = {
        "",
        "0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a1",
        "0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a111",
        "0b6e5f0e-7f6a-4b53-9d0c_6a1f4f4f2a11",
        "0b6e5f0eg7f6a-4b53-9d0c-6a1f4f4f2a11",
        "../e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11",
    };
    char out[UUID_SIZE] = "before";
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        if (volume_id_parse(bad[i], out, &err) != -1)
            fail_msg("accepted: %s", bad[i]);
        assert_string_equal(out, "before");
    }
    assert_int_equal(volume_id_parse("0B6E5F0E-7f6a-4b53-9d0c-6a1f4f4f2a11", out, &err), 0);
    assert_string_equal(out, "0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11");
}

static void mounts_go_where_nothing_else_must_be(void **state)
{
    char deep[VOLUME_MOUNT_PATH_SIZE + 2];
    static const char *const good[] = {"/mnt",         "/mnt/data", "/home/user/a b",
                                       "/usr/share/x", "/etc/x",    "/process",
                                       "/system",      "/devices",  "/var/lib"};
    static const char *const bad[] = {
        "",     "mnt",   "/",      "//mnt", "/mnt/",   "/mnt//a", "/mnt/./a",   "/mnt/..",
        "/..",  "/proc", "/sys",   "/dev",  "/proc/1", "/sys/fs", "/dev/shm/x", "/usr",
        "/etc", "/bin",  "/lib64", "/run",  "/var",    "/a\nb",   "/a\x80",     "/a\x7f",
    };
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(good); i++) {
        if (volume_mount_path_check(good[i], &err) != 0)
            fail_msg("refused: %s: %s", good[i], err.msg);
    }
    for (size_t i = 0; i < array_size(bad); i++) {
        if (volume_mount_path_check(bad[i], &err) != -1)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof(deep); i++)
        deep[i] = i % 100 == 0 ? '/' : 'x';
    deep[VOLUME_MOUNT_PATH_SIZE - 1] = '\0';
    assert_int_equal(volume_mount_path_check(deep, &err), 0);
    deep[VOLUME_MOUNT_PATH_SIZE - 1] = 'x';
    deep[VOLUME_MOUNT_PATH_SIZE] = '\0';
    assert_int_equal(volume_mount_path_check(deep, &err), -1);
}

static void paths_become_clean_and_never_go_up(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"/", ""},
        {"a", "a"},
        {"/a/b", "a/b"},
        {"//a///b/", "a/b"},
        {"./a/./b/.", "a/b"},
        {"/...", "..."},
        {"/.a/b..", ".a/b.."},
    };
    static const char *const bad[] = {"..", "/..", "a/../b", "a/..", "/../../x"};
    char out[VOLUME_PATH_SIZE], text[VOLUME_PATH_SIZE + 300];
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        assert_int_equal(volume_path_clean(cases[i][0], out, &err), 0);
        assert_string_equal(out, cases[i][1]);
    }
    for (size_t i = 0; i < array_size(bad); i++)
        assert_int_equal(volume_path_clean(bad[i], out, &err), -1);
    memset(text, 'x', sizeof(text));
    text[VOLUME_FILE_NAME_MAX] = '\0';
    assert_int_equal(volume_path_clean(text, out, &err), 0);
    text[VOLUME_FILE_NAME_MAX] = 'x';
    text[VOLUME_FILE_NAME_MAX + 1] = '\0';
    assert_int_equal(volume_path_clean(text, out, &err), -1);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = i % 2 == 0 ? '/' : 'x';
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(volume_path_clean(text, out, &err), -1);
}

static void mounts_are_kept_as_text(void **state)
{
    static const struct volume_mount mounts[] = {
        {"0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11", "data", "/mnt/\"x\""},
        {"1b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11", "more", "/y"},
    };
    _cleanup_free_ char *text = volume_mounts_text(mounts, 2);
    _cleanup_free_ struct volume_mount *back = NULL;
    struct err err = {0};
    size_t count = 0;

    (void)state;
    assert_null(volume_mounts_text(mounts, 0));
    assert_int_equal(volume_mounts_parse(text, &back, &count, &err), 0);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(back[i].volume_id, mounts[i].volume_id);
        assert_string_equal(back[i].name, mounts[i].name);
        assert_string_equal(back[i].path, mounts[i].path);
    }
    assert_true(volume_mounts_have(text, mounts[1].volume_id));
    assert_false(volume_mounts_have(text, "2b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11"));
    assert_false(volume_mounts_have(NULL, mounts[1].volume_id));
    assert_true(volume_mounts_have("not json", mounts[1].volume_id)); /* kept, to be safe */
}

static void a_text_that_is_no_list_of_mounts_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[1]",
        "[{}]",
        "[{\"name\":\"a\",\"path\":\"/a\"}]",
        "[{\"name\":\"a\",\"path\":\"/a\",\"volumeID\":\"x\"}]",
    };
    struct volume_mount *out = NULL;
    struct err err = {0};
    size_t count = 7;

    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        if (volume_mounts_parse(bad[i], &out, &count, &err) != -1)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_INTERNAL);
        assert_int_equal(count, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_letters_digits_and_two_marks),
        cmocka_unit_test(ids_are_uuids_in_lower_case),
        cmocka_unit_test(mounts_go_where_nothing_else_must_be),
        cmocka_unit_test(paths_become_clean_and_never_go_up),
        cmocka_unit_test(mounts_are_kept_as_text),
        cmocka_unit_test(a_text_that_is_no_list_of_mounts_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
