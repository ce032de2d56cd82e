/* What a volume helper does with files, what it believes of a call, and how entries travel. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/volume_fs.h"
#include "server/engine/local/volume_mount.h"

#define ID "0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11"

struct world {
    char path[64];
    int top;
};

static int set_up(void **state)
{
    struct world *world = mem_zalloc(sizeof(*world));

    umask(0);
    snprintf(world->path, sizeof(world->path), "/tmp/volume-test-XXXXXX");
    if (mkdtemp(world->path) == NULL)
        return -1;
    world->top = open(world->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = world;
    return world->top < 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    struct err err = {0};
    int rc = remove_tree(AT_FDCWD, world->path, &err);

    close(world->top);
    free(world);
    return rc;
}

static struct volume_call call_of(uint32_t verb, const char *path)
{
    struct volume_call call = {.magic = VOLUME_MAGIC,
                               .verb = verb,
                               .volume_id = ID,
                               .uid = -1,
                               .gid = -1,
                               .mode = -1,
                               .depth = verb == VOLUME_LIST};

    memcpy(call.path, path, strlen(path));
    return call;
}

/* Do CALL; the entries it gives, as "path path …". Returns its error's code. */
static enum err_code run(int top, const struct volume_call *call, char *paths, size_t size)
{
    struct volume_write write = VOLUME_WRITE_NONE;
    struct volume_result out = {.file = -1};
    struct volume_entry *entries = NULL;
    struct err err = {0};

    buf_init(&out.records, VOLUME_RECORDS_MAX);
    assert_int_equal(volume_call_check(call, sizeof(*call), &err), 0);
    volume_fs_do(top, call, &write, &out, &err);
    if (err.code == ERR_NONE && call->verb == VOLUME_WRITE) {
        assert_int_equal(fd_write_full(out.file, "new", 3), 0);
        out.file = -1;
        volume_fs_commit(&write, &out, &err);
    }
    if (paths != NULL)
        paths[0] = '\0';
    if (err.code == ERR_NONE) {
        assert_int_equal(
            volume_records_parse(out.records.data, out.records.len, out.count, &entries), 0);
        for (size_t i = 0; i < out.count; i++) {
            if (paths != NULL)
                snprintf(paths + strlen(paths), size - strlen(paths), "%s ", entries[i].path);
            free(entries[i].path);
            free(entries[i].target);
        }
        free(entries);
    }
    fd_close(&out.file);
    volume_write_clear(&write);
    buf_clear(&out.records);
    return err.code;
}

static enum err_code simply(int top, uint32_t verb, const char *path)
{
    struct volume_call call = call_of(verb, path);

    return run(top, &call, NULL, 0);
}

static void put(int top, const char *path)
{
    int fd = openat(top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static void a_write_takes_the_place_of_a_file_or_a_link(void **state)
{
    const struct world *world = *state;
    struct volume_call call = call_of(VOLUME_WRITE, "a/b");
    struct stat st;

    assert_int_equal(run(world->top, &call, NULL, 0), ERR_NOT_FOUND);
    call.force = 1;
    assert_int_equal(run(world->top, &call, NULL, 0), ERR_NONE);
    assert_int_equal(fstatat(world->top, "a/b", &st, 0), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(fchmodat(world->top, "a/b", 0640, 0), 0);
    assert_int_equal(simply(world->top, VOLUME_WRITE, "a/b"), ERR_NONE);
    assert_int_equal(fstatat(world->top, "a/b", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640); /* kept */
    assert_int_equal(symlinkat("/etc/passwd", world->top, "link"), 0);
    assert_int_equal(simply(world->top, VOLUME_WRITE, "link"), ERR_NONE);
    assert_int_equal(fstatat(world->top, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(simply(world->top, VOLUME_WRITE, "a"), ERR_INVALID);
    assert_int_equal(simply(world->top, VOLUME_WRITE, ""), ERR_INVALID);
    assert_int_equal(simply(world->top, VOLUME_WRITE, "a/b/c"), ERR_NOT_FOUND);
}

static void a_write_without_its_end_leaves_nothing(void **state)
{
    const struct world *world = *state;
    struct volume_call call = call_of(VOLUME_WRITE, "f");
    struct volume_write write = VOLUME_WRITE_NONE;
    struct volume_result out = {.file = -1};
    struct err err = {0};
    char paths[64];

    buf_init(&out.records, VOLUME_RECORDS_MAX);
    assert_int_equal(volume_fs_do(world->top, &call, &write, &out, &err), 0);
    assert_int_equal(fd_write_full(out.file, "x", 1), 0);
    volume_write_clear(&write);
    buf_clear(&out.records);
    call = call_of(VOLUME_LIST, "");
    assert_int_equal(run(world->top, &call, paths, sizeof(paths)), ERR_NONE);
    assert_string_equal(paths, "");
    assert_int_equal(volume_fs_commit(&write, &out, &err), -1);
}

static void links_that_lead_out_are_refused(void **state)
{
    const struct world *world = *state;
    static const char *const outside[] = {"/etc", "../..", "/proc/self/root/etc"};
    static const uint32_t verbs[] = {VOLUME_READ, VOLUME_LIST};

    for (size_t i = 0; i < array_size(outside); i++) {
        assert_int_equal(symlinkat(outside[i], world->top, "out"), 0);
        for (size_t v = 0; v < array_size(verbs); v++)
            assert_int_equal(simply(world->top, verbs[v], "out"), ERR_FORBIDDEN);
        assert_int_equal(simply(world->top, VOLUME_STAT, "out"), ERR_NONE); /* the link */
        assert_int_equal(simply(world->top, VOLUME_STAT, "out/passwd"), ERR_FORBIDDEN);
        assert_int_equal(simply(world->top, VOLUME_REMOVE, "out/passwd"), ERR_FORBIDDEN);
        assert_int_equal(simply(world->top, VOLUME_MAKE_DIR, "out/x"), ERR_FORBIDDEN);
        assert_int_equal(simply(world->top, VOLUME_WRITE, "out/x"), ERR_FORBIDDEN);
        assert_int_equal(simply(world->top, VOLUME_SET, "out/passwd"), ERR_FORBIDDEN);
        assert_int_equal(simply(world->top, VOLUME_REMOVE, "out"), ERR_NONE);
    }
    assert_int_equal(mkdirat(world->top, "d", 0755), 0);
    put(world->top, "d/f");
    assert_int_equal(symlinkat("d", world->top, "in"), 0);
    assert_int_equal(simply(world->top, VOLUME_READ, "in/f"), ERR_NONE);
    assert_int_equal(symlinkat("loop", world->top, "loop"), 0);
    assert_int_equal(simply(world->top, VOLUME_READ, "loop"), ERR_INVALID);
}

static void what_is_no_file_is_not_read(void **state)
{
    const struct world *world = *state;

    assert_int_equal(mkfifoat(world->top, "fifo", 0666), 0);
    assert_int_equal(simply(world->top, VOLUME_READ, "fifo"), ERR_INVALID); /* and does not wait */
    assert_int_equal(simply(world->top, VOLUME_WRITE, "fifo"), ERR_INVALID);
    assert_int_equal(simply(world->top, VOLUME_SET, "fifo"), ERR_INVALID);
    assert_int_equal(simply(world->top, VOLUME_READ, ""), ERR_INVALID);
    assert_int_equal(simply(world->top, VOLUME_READ, "none"), ERR_NOT_FOUND);
}

static void a_listing_goes_as_deep_as_asked(void **state)
{
    const struct world *world = *state;
    struct volume_call call = call_of(VOLUME_LIST, "");
    char paths[128];

    call = call_of(VOLUME_MAKE_DIR, "b/c/d");
    call.force = 1;
    assert_int_equal(run(world->top, &call, NULL, 0), ERR_NONE);
    put(world->top, "a");
    put(world->top, "b/c/x");
    assert_int_equal(symlinkat("b", world->top, "z"), 0); /* told, not followed */
    call = call_of(VOLUME_LIST, "");
    assert_int_equal(run(world->top, &call, paths, sizeof(paths)), ERR_NONE);
    assert_string_equal(paths, "a b z ");
    call.depth = 3;
    assert_int_equal(run(world->top, &call, paths, sizeof(paths)), ERR_NONE);
    assert_string_equal(paths, "a b b/c b/c/d b/c/x z ");
    assert_int_equal(simply(world->top, VOLUME_LIST, "a"), ERR_INVALID);
    assert_int_equal(simply(world->top, VOLUME_LIST, "none"), ERR_NOT_FOUND);
}

static void folders_are_made_once_unless_forced(void **state)
{
    const struct world *world = *state;
    struct volume_call call = call_of(VOLUME_MAKE_DIR, "d/e");

    assert_int_equal(run(world->top, &call, NULL, 0), ERR_NOT_FOUND);
    call.force = 1;
    assert_int_equal(run(world->top, &call, NULL, 0), ERR_NONE);
    assert_int_equal(run(world->top, &call, NULL, 0), ERR_NONE);
    assert_int_equal(simply(world->top, VOLUME_MAKE_DIR, "d/e"), ERR_EXISTS);
    assert_int_equal(simply(world->top, VOLUME_MAKE_DIR, ""), ERR_EXISTS);
    put(world->top, "f");
    call = call_of(VOLUME_MAKE_DIR, "f/g");
    call.force = 1;
    assert_int_equal(run(world->top, &call, NULL, 0), ERR_EXISTS);
    assert_int_equal(simply(world->top, VOLUME_REMOVE, "d"), ERR_NONE);
    assert_int_equal(simply(world->top, VOLUME_REMOVE, "d"), ERR_NOT_FOUND);
    assert_int_equal(simply(world->top, VOLUME_REMOVE, ""), ERR_INVALID);
}

static void calls_that_are_not_whole_are_refused(void **state)
{
    struct volume_call good = call_of(VOLUME_STAT, "a/b"), call;
    struct err err = {0};

#define REFUSES(field, value)                                                                      \
    do {                                                                                           \
        call = good;                                                                               \
        call.field = value;                                                                        \
        assert_int_equal(volume_call_check(&call, sizeof(call), &err), -1);                        \
    } while (0)
    (void)state;
    assert_int_equal(volume_call_check(&good, sizeof(good), &err), 0);
    assert_int_equal(volume_call_check(&good, sizeof(good) - 1, &err), -1);
    REFUSES(magic, 1);
    REFUSES(verb, VOLUME_CALL_COUNT);
    REFUSES(verb, VOLUME_CALL_NAMES); /* has no id */
    REFUSES(verb, VOLUME_LIST);       /* needs a depth */
    REFUSES(depth, 1);
    REFUSES(force, 2);
    REFUSES(zero[0], 1);
    REFUSES(uid, -2);
    REFUSES(gid, VOLUME_ID_MAX + 1);
    REFUSES(mode, 010000);
    REFUSES(volume_id[0], '/');
    REFUSES(volume_id[0], 'A'); /* upper case: another folder */
    REFUSES(volume_id[UUID_SIZE - 1], 'x');
    REFUSES(path[0], '/');
    REFUSES(path[VOLUME_PATH_SIZE - 1], 'x');
    REFUSES(path[10], 'x'); /* after the end */
    memcpy(good.path, "../", 4);
    assert_int_equal(volume_call_check(&good, sizeof(good), &err), -1);
#undef REFUSES
}

static void entries_come_back_as_they_were(void **state)
{
    struct volume_entry entry = {.path = (char[]){"a/b"},
                                 .target = (char[]){"t"},
                                 .type = VOLUME_FILE_SYMLINK,
                                 .mode = 0777,
                                 .uid = 1,
                                 .gid = 2,
                                 .size = INT64_MAX,
                                 .mtime_unix_ms = -5},
                        *back = NULL;
    struct buf buf;

    (void)state;
    buf_init(&buf, 4096);
    assert_int_equal(volume_record_add(&buf, &entry), 0);
    for (size_t len = 0; len < buf.len; len++)
        assert_int_equal(volume_records_parse(buf.data, len, 1, &back), -1);
    assert_int_equal(volume_records_parse(buf.data, buf.len, 2, &back), -1);
    assert_int_equal(volume_records_parse(buf.data, buf.len, UINT32_MAX, &back), -1);
    assert_int_equal(volume_records_parse(buf.data, buf.len, 1, &back), 0);
    assert_string_equal(back->path, "a/b");
    assert_string_equal(back->target, "t");
    assert_int_equal(back->size, INT64_MAX);
    assert_int_equal(back->mtime_unix_ms, -5);
    free(back->path);
    free(back->target);
    free(back);
    buf_clear(&buf);
    buf_init(&buf, 10);
    assert_int_equal(volume_record_add(&buf, &entry), -1);
    buf_clear(&buf);
}

static void orders_from_the_server_are_checked(void **state)
{
    struct volume_order order = {.volume_id = ID, .path = "/mnt"}, bad;
    struct err err = {0};

    (void)state;
    assert_int_equal(volume_order_check(&order, &err), 0);
    bad = order;
    memcpy(bad.path, "/proc/1", 8);
    assert_int_equal(volume_order_check(&bad, &err), -1);
    bad = order;
    memset(bad.path, 'x', sizeof(bad.path));
    assert_int_equal(volume_order_check(&bad, &err), -1);
    bad = order;
    memset(bad.volume_id, 'a', sizeof(bad.volume_id));
    assert_int_equal(volume_order_check(&bad, &err), -1);
    bad = order;
    bad.volume_id[0] = 'F'; /* would be another folder */
    assert_int_equal(volume_order_check(&bad, &err), -1);
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(a_write_takes_the_place_of_a_file_or_a_link),
        IN_A_FOLDER(a_write_without_its_end_leaves_nothing),
        IN_A_FOLDER(links_that_lead_out_are_refused),
        IN_A_FOLDER(what_is_no_file_is_not_read),
        IN_A_FOLDER(a_listing_goes_as_deep_as_asked),
        IN_A_FOLDER(folders_are_made_once_unless_forced),
        cmocka_unit_test(calls_that_are_not_whole_are_refused),
        cmocka_unit_test(entries_come_back_as_they_were),
        cmocka_unit_test(orders_from_the_server_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
