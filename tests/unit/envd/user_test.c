#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/user.h"
#include "server/base/mem.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
                             "# a remark\n"
                             "\n"
                             "short:x:1:1\n"
                             "badid:x:a:1::/:/bin/sh\n"
                             "minus:x:-1:1::/:/bin/sh\n"
                             "huge:x:4294967295:1::/:/bin/sh\n"
                             ":x:7:7::/:/bin/sh\n"
                             "+::::::\n"
                             "user:x:1000:1000:U,,,:/home/user:/bin/bash\n"
                             "user:x:1:1::/again:/bin/sh\n"
                             "last:*:2:3::/l:";
static const char group[] = "root:x:0:\n"
                            "sudo:x:27:user,last\n"
                            "user:x:1000:user\n"
                            "docker:x:999:users,xuser,user\n"
                            "others:x:5:last,,users\n"
                            "broken:x\n"
                            "tail:x:6:user";

static void users_are_found_with_their_groups(void **state)
{
    _cleanup_user_db_ struct user_db *db =
        user_db_parse(passwd, sizeof(passwd) - 1, group, sizeof(group) - 1);
    struct user user;

    (void)state;
    assert_int_equal(user_db_find(db, "user", &user), 0);
    assert_int_equal(user.uid, 1000);
    assert_int_equal(user.gid, 1000);
    assert_string_equal(user.home, "/home/user");
    assert_int_equal(user.group_count, 4); /* its own first, and once */
    assert_int_equal(user.groups[0], 1000);
    assert_int_equal(user.groups[1], 27);
    assert_int_equal(user.groups[2], 999);
    assert_int_equal(user.groups[3], 6);
    assert_int_equal(user_db_find(db, "last", &user), 0);
    assert_string_equal(user.home, "/l");
    assert_int_equal(user.group_count, 3);
}

static void lines_that_are_not_well_formed_are_skipped(void **state)
{
    static const char *const names[] = {"short", "badid", "minus",      "huge",
                                        "",      "+",     "# a remark", "nobody"};
    _cleanup_user_db_ struct user_db *db =
        user_db_parse(passwd, sizeof(passwd) - 1, group, sizeof(group) - 1);

    (void)state;
    for (size_t i = 0; i < array_size(names); i++) {
        struct user user = {.uid = 77};

        if (user_db_find(db, names[i], &user) != -1)
            fail_msg("found: %s", names[i]);
        assert_int_equal(user.uid, 77); /* untouched */
    }
}

static void ids_have_names(void **state)
{
    _cleanup_user_db_ struct user_db *db =
        user_db_parse(passwd, sizeof(passwd) - 1, group, sizeof(group) - 1);

    (void)state;
    assert_string_equal(user_db_user_name(db, 1000), "user");
    assert_null(user_db_user_name(db, 1001));
    assert_string_equal(user_db_group_name(db, 27), "sudo");
    assert_null(user_db_group_name(db, 1));
}

static void without_files_there_is_still_root(void **state)
{
    _cleanup_user_db_ struct user_db *db = user_db_parse("", 0, "", 0);
    struct user user;

    (void)state;
    assert_int_equal(user_db_find(db, "root", &user), 0);
    assert_int_equal(user.uid, 0);
    assert_string_equal(user.home, "/root");
    assert_int_equal(user_db_find(db, "user", &user), -1);
}

static void names_and_homes_beyond_their_size_are_skipped(void **state)
{
    _cleanup_free_ char *text = mem_zalloc(USER_NAME_SIZE + 100);
    struct user user;

    (void)state;
    memset(text, 'n', USER_NAME_SIZE);
    memcpy(text + USER_NAME_SIZE, ":x:1:1::/:/s\nok:x:1:1::/:/s\n", 28);
    _cleanup_user_db_ struct user_db *db = user_db_parse(text, strlen(text), "", 0);
    text[USER_NAME_SIZE] = '\0';
    assert_int_equal(user_db_find(db, text, &user), -1);
    assert_int_equal(user_db_find(db, "ok", &user), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_are_found_with_their_groups),
        cmocka_unit_test(lines_that_are_not_well_formed_are_skipped),
        cmocka_unit_test(ids_have_names),
        cmocka_unit_test(without_files_there_is_still_root),
        cmocka_unit_test(names_and_homes_beyond_their_size_are_skipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
