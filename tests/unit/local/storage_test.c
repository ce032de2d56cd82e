#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/storage.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static void the_reserve_is_a_part_within_bounds(void **state)
{
    static const struct {
        uint64_t total, asked_mb, reserve;
    } cases[] = {
        {0, 0, 512 * MIB},        {10 * GIB, 0, 512 * MIB}, {100 * GIB, 0, 2 * GIB},
        {4096 * GIB, 0, 8 * GIB}, {100 * GIB, 1, 1 * MIB},  {10 * GIB, 65536, 64 * GIB},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        assert_int_equal(storage_reserve(cases[i].total, cases[i].asked_mb), cases[i].reserve);
}

static void an_image_is_what_is_free_or_what_was_asked(void **state)
{
    static const struct {
        uint64_t left, reserve, asked_mb, size;
    } cases[] = {
        {100 * GIB, 2 * GIB, 0, 98 * GIB},
        {1 * GIB, 2 * GIB, 0, 1 * GIB}, /* the least that is any use */
        {0, 0, 0, 1 * GIB},
        {100 * GIB + 5, 2 * GIB, 0, 98 * GIB}, /* whole MiB */
        {100 * GIB, 2 * GIB, 4096, 4 * GIB},
        {1 * GIB, 2 * GIB, 8192, 8 * GIB}, /* sparse: more than is free may be asked for */
        {1 * GIB, 0, 1, 256 * MIB},        /* btrfs needs some */
        {UINT64_MAX, 0, 0, 16384 * GIB},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        assert_int_equal(storage_image_size(cases[i].left, cases[i].reserve, cases[i].asked_mb),
                         cases[i].size);
}

/* A storage of plain folders below a new folder. */
struct fixture {
    char path[32];
    struct local_config config;
    struct storage storage;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_zalloc(sizeof(*fixture));
    struct err err = {0};

    memcpy(fixture->path, "/tmp/storage-test-XXXXXX", 25);
    assert_non_null(mkdtemp(fixture->path));
    fixture->config = (struct local_config){.state_dir = fixture->path,
                                            .run_dir = fixture->path,
                                            .storage_plain = true,
                                            .storage_reserve_mb = 1};
    if (geteuid() != 0)
        skip();
    assert_int_equal(storage_open(&fixture->config, &fixture->storage, &err), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};

    close(fixture->storage.top);
    close(fixture->storage.sandboxes);
    close(fixture->storage.snapshots);
    close(fixture->storage.host);
    free(fixture->storage.path);
    assert_int_equal(remove_tree(AT_FDCWD, fixture->path, &err), 0);
    free(fixture);
    return 0;
}

static void write_file(int dir, const char *path, const char *text)
{
    int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void plain_trees_are_copied_whole(void **state)
{
    struct fixture *fixture = *state;
    struct storage *storage = &fixture->storage;
    _cleanup_free_ char *text = NULL;
    struct stat st, link;
    struct err err = {0};

    assert_int_equal(storage_tree_make(storage, storage->sandboxes, "a", &err), 0);
    write_file(storage->sandboxes, "a/f", "one");
    assert_int_equal(fchownat(storage->sandboxes, "a/f", 1000, 7, 0), 0);
    assert_int_equal(linkat(storage->sandboxes, "a/f", storage->sandboxes, "a/g", 0), 0);
    assert_int_equal(mknodat(storage->sandboxes, "a/gone", S_IFCHR, 0), 0); /* overlay's removal */
    assert_int_equal(symlinkat("/etc/passwd", storage->sandboxes, "a/l"), 0);
    assert_int_equal(
        storage_tree_copy(storage, storage->sandboxes, "a", storage->snapshots, "s", true, &err),
        0);
    write_file(storage->sandboxes, "a/f", "two");
    assert_int_equal(file_read(storage->snapshots, "s/f", 16, &text, NULL, &err), 0);
    assert_string_equal(text, "one");
    assert_int_equal(fstatat(storage->snapshots, "s/f", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_gid, 7);
    assert_int_equal(fstatat(storage->snapshots, "s/g", &link, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_ino, link.st_ino);
    assert_int_equal(fstatat(storage->snapshots, "s/gone", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(fstatat(storage->snapshots, "s/l", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(
        storage_tree_copy(storage, storage->sandboxes, "a", storage->snapshots, "s", true, &err),
        -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_int_equal(
        storage_tree_copy(storage, storage->sandboxes, "b", storage->snapshots, "t", true, &err),
        -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(storage_tree_remove(storage, storage->snapshots, "s", &err), 0);
    assert_int_equal(storage_tree_remove(storage, storage->snapshots, "s", &err), 0); /* twice */
}

static void half_made_copies_are_removed_at_start(void **state)
{
    struct fixture *fixture = *state;
    struct storage *storage = &fixture->storage, again;
    struct err err = {0};

    assert_int_equal(mkdirat(storage->snapshots, STORAGE_HALF_PREFIX "s", 0700), 0);
    write_file(storage->snapshots, STORAGE_HALF_PREFIX "s/f", "x");
    assert_int_equal(storage_tree_make(storage, storage->snapshots, "whole", &err), 0);
    assert_int_equal(storage_open(&fixture->config, &again, &err), 0);
    assert_int_equal(faccessat(again.snapshots, STORAGE_HALF_PREFIX "s", F_OK, 0), -1);
    assert_int_equal(faccessat(again.snapshots, "whole", F_OK, 0), 0);
    close(again.top);
    close(again.sandboxes);
    close(again.snapshots);
    close(again.host);
    free(again.path);
}

static void plain_folders_in_use_stay_in_use(void **state)
{
    struct fixture *fixture = *state;
    struct storage *storage = &fixture->storage;
    struct storage_plan plan;
    struct err err = {0};

    fixture->config.storage_plain = false;
    assert_int_equal(storage_tree_make(storage, storage->sandboxes, "a", &err), 0);
    storage_plan(&fixture->config, &plan);
    assert_int_equal(plan.kind, STORAGE_PLAIN);
    assert_true(plan.why_plain[0] != '\0' && plan.remedy[0] != '\0');
    fixture->config.storage_plain = true;
    write_file(storage->host, STORAGE_IMAGE_NAME, "not empty");
    assert_int_equal(storage_open(&fixture->config, storage, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void a_full_disk_is_said(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};

    assert_int_equal(storage_room(&fixture->storage, &err), 0);
    fixture->storage.host_reserve_bytes = UINT64_MAX;
    assert_int_equal(storage_room(&fixture->storage, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reserve_is_a_part_within_bounds),
        cmocka_unit_test(an_image_is_what_is_free_or_what_was_asked),
        cmocka_unit_test_setup_teardown(plain_trees_are_copied_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_made_copies_are_removed_at_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(plain_folders_in_use_stay_in_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_is_said, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
