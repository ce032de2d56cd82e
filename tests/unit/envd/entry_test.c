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

#include "envd/entry.h"
#include "envd/entry_proto.h"
#include "server/base/mem.h"
#include "server/base/str.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nann:x:4711:4711::/home/ann:/bin/sh\n";
static const char group[] = "root:x:0:\nteam:x:4712:ann\n";
static struct user_db *users;
static char base[] = "/tmp/envd-entry-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    users = user_db_parse(passwd, strlen(passwd), group, strlen(group));
    return mkdtemp(base) != NULL && chdir(base) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"file", "link", "broken", "loop", "dirlink", "fifo"};

    (void)state;
    for (size_t i = 0; i < array_size(names); i++)
        unlink(names[i]);
    rmdir("dir");
    user_db_unref(users);
    return chdir("/") == 0 && rmdir(base) == 0 ? 0 : -1;
}

static void permission_text_is_that_of_go(void **state)
{
    static const struct {
        mode_t mode;
        const char *want;
    } cases[] = {
        {S_IFREG | 0644, "-rw-r--r--"},    {S_IFREG, "----------"},
        {S_IFDIR | 0755, "drwxr-xr-x"},    {S_IFLNK | 0777, "Lrwxrwxrwx"},
        {S_IFDIR | 01777, "dtrwxrwxrwx"},  {S_IFREG | 04755, "urwxr-xr-x"},
        {S_IFREG | 02755, "grwxr-xr-x"},   {S_IFREG | 06755, "ugrwxr-xr-x"},
        {S_IFDIR | 03775, "dgtrwxrwxr-x"}, {S_IFIFO | 0600, "prw-------"},
        {S_IFSOCK | 0755, "Srwxr-xr-x"},   {S_IFBLK | 0660, "Drw-rw----"},
        {S_IFCHR | 0666, "Dcrw-rw-rw-"},   {S_IFREG | 0421, "-r---w---x"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        char out[ENTRY_PERMISSIONS_SIZE];
        entry_permissions(cases[i].mode, out);
        assert_string_equal(out, cases[i].want);
    }
}

static struct entry get(const char *name)
{
    struct entry entry;
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", base, name);
    assert_int_equal(entry_read(AT_FDCWD, path, path, users, &entry), 0);
    return entry;
}

static void a_file_has_its_fields(void **state)
{
    struct timespec times[2] = {{1, 2}, {1700000000, 123456789}};
    int fd = open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0640);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "hello", 5), 5);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(fchown(fd, 4711, 4712), 0);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    struct entry entry = get("file");
    assert_string_equal(entry.name, "file");
    assert_true(str_ends(entry.path, "/file"));
    assert_int_equal(entry.type, ENTRY_FILE);
    assert_false(entry.is_symlink);
    assert_int_equal(entry.size_bytes, 5);
    assert_int_equal(entry.mode, 0640);
    assert_string_equal(entry.permissions, "-rw-r-----");
    assert_string_equal(entry.owner, "ann");
    assert_string_equal(entry.group, "team");
    assert_int_equal(entry.mtime_s, 1700000000);
    assert_int_equal(entry.mtime_ns, 123456789);
    assert_null(entry.symlink_target);
    assert_int_equal(entry.meta_count, 0);
    entry_clear(&entry);
}

static void an_id_without_a_name_is_shown_in_digits(void **state)
{
    (void)state;
    assert_int_equal(chown("file", 4713, 4711), 0);
    struct entry entry = get("file");
    assert_string_equal(entry.owner, "4713");
    assert_string_equal(entry.group, "4711");
    entry_clear(&entry);
}

static void metadata_comes_from_attributes_of_our_prefix(void **state)
{
    (void)state;
    if (setxattr("file", "user.e2b.key", "value", 5, 0) < 0)
        skip(); /* this file system keeps none */
    assert_int_equal(setxattr("file", "user.other", "x", 1, 0), 0);
    assert_int_equal(setxattr("file", "user.e2b.bad", "\xff", 1, 0), 0);
    struct entry entry = get("file");
    assert_int_equal(entry.meta_count, 1);
    assert_string_equal(entry.meta[0].key, "key");
    assert_string_equal(entry.meta[0].value, "value");
    entry_clear(&entry);
}

static void a_link_tells_of_its_target(void **state)
{
    char want[64];

    (void)state;
    assert_int_equal(mkdir("dir", 0700), 0);
    assert_int_equal(chmod("file", 0604), 0);
    assert_int_equal(symlink("./dir/../file", "link"), 0);
    assert_int_equal(symlink("dir", "dirlink"), 0);
    struct entry entry = get("link");
    assert_true(entry.is_symlink);
    assert_int_equal(entry.type, ENTRY_FILE);
    assert_int_equal(entry.mode, 0604);
    assert_int_equal(entry.size_bytes, strlen("./dir/../file"));
    assert_string_equal(entry.permissions, "Lrwxrwxrwx");
    snprintf(want, sizeof(want), "%s/file", base);
    assert_string_equal(entry.symlink_target, want);
    entry_clear(&entry);
    entry = get("dirlink");
    assert_int_equal(entry.type, ENTRY_DIRECTORY);
    assert_int_equal(entry.mode, 0700);
    entry_clear(&entry);
}

static void a_broken_or_cyclic_link_names_itself(void **state)
{
    static const char *const names[] = {"broken", "loop"};

    (void)state;
    assert_int_equal(symlink("nowhere", "broken"), 0);
    assert_int_equal(symlink("loop", "loop"), 0);
    for (size_t i = 0; i < array_size(names); i++) {
        struct entry entry = get(names[i]);
        assert_true(entry.is_symlink);
        assert_int_equal(entry.type, ENTRY_OTHER);
        assert_int_equal(entry.mode, 0);
        assert_string_equal(entry.symlink_target, entry.path);
        entry_clear(&entry);
    }
}

static void a_fifo_is_described_without_opening_it(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("fifo", 0600), 0);
    struct entry entry = get("fifo");
    assert_int_equal(entry.type, ENTRY_OTHER);
    assert_string_equal(entry.permissions, "prw-------");
    entry_clear(&entry);
}

static void the_message_has_all_fields_and_valid_text(void **state)
{
    struct entry entry = get("link");

    (void)state;
    free(entry.name);
    entry.name = mem_strdup("a\xff"
                            "b\xc3\xbc\xe2\x82");
    Filesystem__EntryInfo *info = entry_to_proto(&entry);
    assert_string_equal(info->name, "a\xef\xbf\xbd"
                                    "b\xc3\xbc\xef\xbf\xbd\xef\xbf\xbd");
    assert_int_equal(info->type, FILESYSTEM__FILE_TYPE__FILE_TYPE_FILE);
    assert_true(info->is_symlink);
    assert_int_equal(info->mode, 0604);
    assert_non_null(info->symlink_target);
    assert_non_null(info->modified_time);
    assert_null(entry.path);
    protobuf_c_message_free_unpacked(&info->base, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permission_text_is_that_of_go),
        cmocka_unit_test(a_file_has_its_fields),
        cmocka_unit_test(an_id_without_a_name_is_shown_in_digits),
        cmocka_unit_test(metadata_comes_from_attributes_of_our_prefix),
        cmocka_unit_test(a_link_tells_of_its_target),
        cmocka_unit_test(a_broken_or_cyclic_link_names_itself),
        cmocka_unit_test(a_fifo_is_described_without_opening_it),
        cmocka_unit_test(the_message_has_all_fields_and_valid_text),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
