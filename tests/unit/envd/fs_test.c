#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "envd/fs.h"
#include "envd/upload.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define DEEP_LEVELS 10000
#define WIDE_FILES 2000

static const struct fs_owner owner = {4711, 4712};
static struct user_db *users;
static char base[] = "/tmp/envd-fs-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    users = user_db_parse("", 0, "", 0);
    return mkdtemp(base) != NULL && chdir(base) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err err = {0};

    (void)state;
    user_db_unref(users);
    return chdir("/") == 0 && fs_remove(base, &err) == 0 && access(base, F_OK) < 0 ? 0 : -1;
}

/* BASE "/" NAME, good until the second next call. */
static const char *at(const char *name)
{
    static char paths[2][256];
    static int turn;

    turn = !turn;
    snprintf(paths[turn], sizeof(paths[turn]), "%s/%s", base, name);
    return paths[turn];
}

static void put(const char *name, const char *text)
{
    int fd = open(at(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static void assert_content(const char *name, const char *want)
{
    _cleanup_free_ char *text = NULL;
    struct err err = {0};

    assert_int_equal(file_read(AT_FDCWD, at(name), 1 << 20, &text, NULL, &err), 0);
    assert_string_equal(text, want);
}

static void assert_owned(const char *name, mode_t mode)
{
    struct stat st;

    assert_int_equal(stat(at(name), &st), 0);
    assert_int_equal(st.st_uid, owner.uid);
    assert_int_equal(st.st_gid, owner.gid);
    assert_int_equal(st.st_mode & 07777, mode);
}

static void folders_are_made_with_parents_of_the_owner(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(fs_make_dir(at("made/a/b"), &owner, &err), 0);
    assert_owned("made", 0755);
    assert_owned("made/a", 0755);
    assert_owned("made/a/b", 0755);
    assert_int_equal(fs_make_dir(at("made/a/b"), &owner, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_true(str_starts(err.msg, "directory already exists: "));
    put("plain", "x");
    assert_int_equal(fs_make_dir(at("plain"), &owner, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_true(str_starts(err.msg, "path already exists but it is not a directory: "));
    assert_int_equal(fs_make_dir(at("plain/x"), &owner, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_true(str_ends(err.msg, "/plain/x: not a directory"));
}

static void a_listing_is_in_order_and_of_the_depth_asked(void **state)
{
    static const struct {
        uint32_t depth;
        const char *want;
    } cases[] = {
        {0, ".hidden B b l p "},
        {1, ".hidden B b l p "},
        {2, ".hidden B B/x b l p p/q p/z "},
        {9, ".hidden B B/x b l p p/q p/q/r p/q/r/s p/z "},
    };
    struct err err = {0};

    (void)state;
    assert_int_equal(fs_make_dir(at("list/p/q/r"), &owner, &err), 0);
    assert_int_equal(fs_make_dir(at("list/B"), &owner, &err), 0);
    put("list/b", "");
    put("list/B/x", "");
    put("list/.hidden", "");
    put("list/p/z", "");
    put("list/p/q/r/s", "");
    assert_int_equal(symlink("p", at("list/l")), 0);
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_fs_list_ struct fs_list list = {0};
        _cleanup_(buf_clear) struct buf seen;
        buf_init(&seen, 4096);
        assert_int_equal(fs_list(at("list/"), cases[i].depth, users, &list, &err), 0);
        for (size_t k = 0; k < list.count; k++)
            buf_printf(&seen, "%s ", list.rows[k].path + strlen(at("list/")));
        assert_string_equal(buf_str(&seen), cases[i].want);
    }
}

static void a_listing_follows_the_path_but_no_links_below(void **state)
{
    _cleanup_fs_list_ struct fs_list list = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(symlink("list", at("way")), 0);
    assert_int_equal(fs_list(at("way"), 1, users, &list, &err), 0);
    assert_string_equal(list.rows[0].path, at("way/.hidden"));
}

static void what_cannot_be_listed_is_told(void **state)
{
    static const struct {
        const char *name, *prefix;
        enum err_code code;
    } cases[] = {
        {"none", "path not found: ", ERR_NOT_FOUND},
        {"plain", "path is not a directory: ", ERR_INVALID},
        {"self", "cyclic symlink or chain >255 links at \"/tmp/", ERR_CONFLICT},
        {"plain/x", "error reading directory: ", ERR_INTERNAL},
    };
    (void)state;
    assert_int_equal(symlink("self", at("self")), 0);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct fs_list list = {.count = 7};
        struct err err = {0};
        assert_int_equal(fs_list(at(cases[i].name), 1, users, &list, &err), -1);
        assert_int_equal(err.code, cases[i].code);
        if (!str_starts(err.msg, cases[i].prefix))
            fail_msg("%s", err.msg);
        assert_int_equal(list.count, 7);
    }
}

static void a_wide_folder_is_listed_whole(void **state)
{
    _cleanup_fs_list_ struct fs_list list = {0};
    struct err err = {0};
    char name[64];

    (void)state;
    assert_int_equal(fs_make_dir(at("wide"), &owner, &err), 0);
    for (int i = 0; i < WIDE_FILES; i++) {
        snprintf(name, sizeof(name), "wide/%05d", i);
        put(name, "");
    }
    assert_int_equal(fs_list(at("wide"), 1, users, &list, &err), 0);
    assert_int_equal(list.count, WIDE_FILES);
    assert_string_equal(list.rows[WIDE_FILES - 1].name, "01999");
}

static void a_move_makes_parents_and_replaces(void **state)
{
    struct err err = {0};

    (void)state;
    put("from", "new");
    assert_int_equal(fs_move(at("from"), at("to/sub/there"), &owner, &err), 0);
    assert_owned("to/sub", 0755);
    put("from", "newer");
    assert_int_equal(fs_move(at("from"), at("to/sub/there"), &owner, &err), 0);
    assert_content("to/sub/there", "newer");
    assert_int_equal(fs_move(at("from"), at("elsewhere/x"), &owner, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_true(str_starts(err.msg, "source file not found: "));
    assert_int_equal(access(at("elsewhere"), F_OK), -1); /* nothing was made for it */
    assert_int_equal(fs_move(at("to"), at("to/sub/inside"), &owner, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_true(str_starts(err.msg, "error renaming: "));
}

static void removal_takes_links_themselves_and_missing_paths(void **state)
{
    struct err err = {0};

    (void)state;
    put("kept", "x");
    assert_int_equal(mkdir(at("kept.d"), 0700), 0);
    put("kept.d/x", "x");
    assert_int_equal(symlink("kept", at("l1")), 0);
    assert_int_equal(symlink("kept.d", at("l2")), 0);
    assert_int_equal(fs_remove(at("l1"), &err), 0);
    assert_int_equal(fs_remove(at("l2/"), &err), 0);
    assert_int_equal(fs_remove(at("never"), &err), 0);
    assert_int_equal(access(at("kept"), F_OK), 0);
    assert_int_equal(access(at("kept.d/x"), F_OK), 0);
    assert_int_equal(access(at("l2"), F_OK), -1);
    assert_int_equal(symlink("../kept", at("kept.d/up")), 0);
    assert_int_equal(fs_remove(at("kept.d"), &err), 0);
    assert_int_equal(access(at("kept.d"), F_OK), -1);
    assert_int_equal(access(at("kept"), F_OK), 0);
}

static void a_very_deep_tree_is_removed(void **state)
{
    struct err err = {0};
    int fd;

    (void)state;
    assert_int_equal(mkdir(at("deep"), 0700), 0);
    fd = open(at("deep"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEEP_LEVELS; i++) {
        int next;
        assert_int_equal(mkdirat(fd, "d", 0700), 0);
        assert_int_equal(mkdirat(fd, "e", 0700), 0);
        next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(fd);
        fd = next;
    }
    close(fd);
    assert_int_equal(fs_remove(at("deep"), &err), 0);
    assert_int_equal(access(at("deep"), F_OK), -1);
}

static void upload(const char *name, const char *text, bool commit)
{
    struct upload up;
    struct err err = {0};

    assert_int_equal(upload_begin(&up, at(name), &owner, -1, &err), 0);
    assert_int_equal(upload_write(&up, text, strlen(text), &err), 0);
    if (commit && upload_commit(&up, NULL, 0, &err) < 0)
        fail_msg("%s", err.msg);
    upload_clear(&up);
}

/* Nothing but the names given is in the folder NAME. */
static void assert_names(const char *name, const char *want)
{
    _cleanup_fs_list_ struct fs_list list = {0};
    _cleanup_(buf_clear) struct buf seen;
    struct err err = {0};

    buf_init(&seen, 4096);
    assert_int_equal(fs_list(at(name), 1, users, &list, &err), 0);
    for (size_t i = 0; i < list.count; i++)
        buf_printf(&seen, "%s ", list.rows[i].name);
    assert_string_equal(buf_str(&seen), want);
}

static void an_upload_appears_when_it_is_complete(void **state)
{
    struct stat st;

    (void)state;
    upload("up/sub/new", "first", false);
    assert_names("up/sub", "");
    upload("up/sub/new", "first", true);
    assert_owned("up/sub", 0755);
    assert_owned("up/sub/new", 0644);
    assert_content("up/sub/new", "first");
    assert_int_equal(chmod(at("up/sub/new"), 0751), 0);
    upload("up/sub/new", "cut", false);
    assert_content("up/sub/new", "first");
    upload("up/sub/new", "second", true);
    assert_content("up/sub/new", "second");
    assert_owned("up/sub/new", 0751);
    assert_names("up/sub", "new ");
    assert_int_equal(stat(at("up/sub/new"), &st), 0);
    assert_int_equal(st.st_nlink, 1);
}

static void an_upload_keeps_hard_links_and_follows_symlinks(void **state)
{
    struct stat a, b;

    (void)state;
    put("one", "old");
    assert_int_equal(link(at("one"), at("two")), 0);
    upload("one", "through both", true);
    assert_content("two", "through both");
    assert_owned("two", 0600);
    assert_int_equal(symlink("two", at("three")), 0);
    assert_int_equal(symlink("three", at("four")), 0);
    upload("four", "x", true);
    assert_content("one", "x");
    assert_int_equal(symlink("dangling/target", at("five")), 0);
    upload("five", "made", true);
    assert_content("dangling/target", "made");
    assert_int_equal(stat(at("one"), &a), 0);
    assert_int_equal(stat(at("two"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
}

static void what_is_no_place_for_a_file_is_refused(void **state)
{
    static const struct {
        const char *name, *part;
        enum err_code code;
    } cases[] = {
        {"up", "path is a directory: ", ERR_INVALID},
        {"newdir/", "path is a directory: ", ERR_INVALID},
        {"pipe", "path is not a regular file: ", ERR_INVALID},
        {"plain/x", "error ensuring directories: path is a file: ", ERR_INTERNAL},
        {"self", "error opening file: ", ERR_INTERNAL},
    };
    (void)state;
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct upload up;
        struct err err = {0};
        assert_int_equal(upload_begin(&up, at(cases[i].name), &owner, -1, &err), -1);
        assert_int_equal(err.code, cases[i].code);
        if (!str_starts(err.msg, cases[i].part))
            fail_msg("%s", err.msg);
    }
}

static void an_upload_that_cannot_fit_is_refused_at_once(void **state)
{
    struct upload up;
    struct err err = {0};

    (void)state;
    assert_int_equal(upload_begin(&up, at("huge"), &owner, INT64_MAX, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.msg, "attempted to write 9223372036854775807 bytes: "
                                 "not enough disk space available");
    assert_int_equal(access(at("huge"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_made_with_parents_of_the_owner),
        cmocka_unit_test(a_listing_is_in_order_and_of_the_depth_asked),
        cmocka_unit_test(a_listing_follows_the_path_but_no_links_below),
        cmocka_unit_test(what_cannot_be_listed_is_told),
        cmocka_unit_test(a_wide_folder_is_listed_whole),
        cmocka_unit_test(a_move_makes_parents_and_replaces),
        cmocka_unit_test(removal_takes_links_themselves_and_missing_paths),
        cmocka_unit_test(a_very_deep_tree_is_removed),
        cmocka_unit_test(an_upload_appears_when_it_is_complete),
        cmocka_unit_test(an_upload_keeps_hard_links_and_follows_symlinks),
        cmocka_unit_test(what_is_no_place_for_a_file_is_refused),
        cmocka_unit_test(an_upload_that_cannot_fit_is_refused_at_once),
    };
    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, set_up, tear_down);
}
