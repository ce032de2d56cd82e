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
#include "server/base/str.h"
#include "server/engine/local/record.h"
#include "server/engine/local/remove.h"

/* Two folders and a context that names them. */
struct fixture {
    char path[32];
    struct local_config config;
    struct context ctx;
};

static int open_below(const char *path, const char *name)
{
    char *full = mem_asprintf("%s/%s", path, name);
    int fd;

    assert_int_equal(mkdir(full, 0700), 0);
    fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(full);
    assert_true(fd >= 0);
    return fd;
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_zalloc(sizeof(*fixture));
    struct err err = {0};

    memcpy(fixture->path, "/tmp/record-test-XXXXXX", 24);
    assert_non_null(mkdtemp(fixture->path));
    fixture->config.id_base = 700000000;
    fixture->ctx = (struct context){
        .config = &fixture->config,
        .sandboxes_path = fixture->path,
        .records_path = fixture->path,
        .storage.sandboxes = open_below(fixture->path, "trees"),
        .legacy_dir = open_below(fixture->path, "sandboxes"),
        .records_dir = open_below(fixture->path, "records"),
    };
    assert_int_equal(sys_boot_id(fixture->ctx.boot_id, &err), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};

    close(fixture->ctx.storage.sandboxes);
    close(fixture->ctx.legacy_dir);
    close(fixture->ctx.records_dir);
    assert_int_equal(remove_tree(AT_FDCWD, fixture->path, &err), 0);
    free(fixture);
    return 0;
}

static struct record own_record(void)
{
    struct record record = {.pid = getpid(), .slot = 5, .internet = true};
    struct err err = {0};

    assert_int_equal(sys_start_ticks(getpid(), &record.start_ticks, &err), 0);
    return record;
}

static void a_live_process_is_found_again(void **state)
{
    struct fixture *fixture = *state;
    struct record record = own_record(), got;
    struct err err = {0};

    assert_int_equal(record_write(&fixture->ctx, "a", &record, &err), 0);
    assert_int_equal(record_read(&fixture->ctx, "a", &got, &err), 0);
    assert_int_equal(got.pid, getpid());
    assert_int_equal(got.slot, 5);
    assert_true(got.internet);
    assert_int_equal(record_remove(&fixture->ctx, "a", &err), 0);
    assert_int_equal(record_remove(&fixture->ctx, "a", &err), 0); /* twice */
    assert_int_equal(record_read(&fixture->ctx, "a", &got, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void another_process_with_that_pid_is_not_taken_for_it(void **state)
{
    struct fixture *fixture = *state;
    struct record record = own_record(), got;
    struct err err = {0};

    record.start_ticks++;
    assert_int_equal(record_write(&fixture->ctx, "a", &record, &err), 0);
    assert_int_equal(record_read(&fixture->ctx, "a", &got, &err), 0);
    assert_int_equal(got.pid, 0);
    record = own_record();
    assert_int_equal(record_write(&fixture->ctx, "a", &record, &err), 0);
    fixture->ctx.boot_id[0] ^= 1; /* the machine was started again since */
    assert_int_equal(record_read(&fixture->ctx, "a", &got, &err), 0);
    assert_int_equal(got.pid, 0);
    assert_int_equal(got.slot, SLOT_NONE); /* nobody's ids are in use */
}

static void a_tree_alone_is_found(void **state)
{
    struct fixture *fixture = *state;
    struct record got;
    struct err err = {0};

    assert_int_equal(mkdirat(fixture->ctx.storage.sandboxes, "t", 0700), 0);
    assert_int_equal(record_read(&fixture->ctx, "t", &got, &err), 0);
    assert_true(got.files && !got.legacy);
    assert_int_equal(got.slot, SLOT_NONE);
    assert_int_equal(mkdirat(fixture->ctx.storage.sandboxes, SPARE_PREFIX "12", 0700), 0);
    assert_int_equal(record_read(&fixture->ctx, SPARE_PREFIX "12", &got, &err), 0);
    assert_int_equal(got.slot, 12);
}

static void a_folder_of_an_earlier_version_tells_its_slot(void **state)
{
    struct fixture *fixture = *state;
    struct record got;
    struct err err = {0};

    assert_int_equal(mkdirat(fixture->ctx.legacy_dir, "b", 0700), 0);
    assert_int_equal(record_read(&fixture->ctx, "b", &got, &err), 0);
    assert_int_equal(got.slot, SLOT_NONE); /* killed before it had one */
    assert_int_equal(mkdirat(fixture->ctx.legacy_dir, "b/root", 0700), 0);
    if (geteuid() != 0)
        skip();
    assert_int_equal(fchownat(fixture->ctx.legacy_dir, "b/root", 700000000 + 9 * 65536, 0, 0), 0);
    assert_int_equal(record_read(&fixture->ctx, "b", &got, &err), 0);
    assert_int_equal(got.slot, 9);
    assert_true(got.legacy);
    assert_int_equal(got.pid, 0);
}

static void a_torn_record_counts_as_none(void **state)
{
    struct fixture *fixture = *state;
    struct record got;
    struct err err = {0};
    int fd = openat(fixture->ctx.records_dir, "c", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_int_equal(write(fd, "{\"pid\":12", 9), 9);
    close(fd);
    assert_int_equal(record_read(&fixture->ctx, "c", &got, &err), 0);
    assert_int_equal(got.pid, 0);
    assert_int_equal(got.slot, SLOT_NONE);
}

static void records_of_a_wrong_form_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"pid\":1,\"startTicks\":1,\"slot\":1,\"boot\":\"x\"}",
        "{\"pid\":10,\"startTicks\":-1,\"slot\":1,\"boot\":\"x\"}",
        "{\"pid\":10,\"startTicks\":1,\"slot\":65536,\"boot\":\"x\"}",
        "{\"pid\":10,\"startTicks\":1,\"boot\":\"x\"}",
        "{\"pid\":\"10\",\"startTicks\":1,\"slot\":1,\"boot\":\"x\"}",
    };

    (void)state;
    for (size_t i = 0; i < array_size(texts); i++) {
        struct record record = {.pid = 77};
        struct err err = {0};
        if (record_parse(texts[i], strlen(texts[i]), "x", &record, &err) == 0)
            fail_msg("accepted: %s", texts[i]);
        assert_int_equal(record.pid, 77); /* untouched */
    }
}

static void a_process_name_cannot_move_the_start_time(void **state)
{
    uint64_t ticks = 0;

    (void)state;
    assert_int_equal(sys_parse_start_ticks("9 (a) S 1 2) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 "
                                           "17 18 4711 20 21\n",
                                           &ticks),
                     0);
    assert_int_equal(ticks, 4711);
    assert_int_equal(sys_parse_start_ticks("9 (a) R 1 2", &ticks), -1);
    assert_int_equal(sys_parse_start_ticks("", &ticks), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_live_process_is_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_process_with_that_pid_is_not_taken_for_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_tree_alone_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_of_an_earlier_version_tells_its_slot, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_torn_record_counts_as_none, set_up, tear_down),
        cmocka_unit_test(records_of_a_wrong_form_are_refused),
        cmocka_unit_test(a_process_name_cannot_move_the_start_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
