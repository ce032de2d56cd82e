#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/store/store.h"

#define PROCESSES 4
#define ROWS_EACH 25

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/store-test-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"sandpit.db", "sandpit.db-wal", "sandpit.db-shm",
                                        "master.key"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < array_size(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static struct store *open_store(void)
{
    struct store *store = NULL;
    struct err err = {0};

    if (store_open(dir, &store, &err) < 0)
        fail_msg("%s (%s)", err.msg, err.detail);
    return store;
}

/* Run TEXT on the database by another connection, as a foreign program would. */
static void run_sql(const char *text)
{
    char path[128], *message = NULL;
    sqlite3 *db = NULL;

    snprintf(path, sizeof(path), "%s/sandpit.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(db);
}

static struct sandbox example(const char *id)
{
    struct sandbox s = {
        .namespace_ = "team",
        .client = "cli",
        .template_id = "base",
        .alias = "base",
        .state = SANDBOX_RUNNING,
        .created_unix_ms = 1,
        .started_unix_ms = 2,
        .end_unix_ms = 3,
        .cpu_count = 2,
        .memory_mb = 1024,
        .disk_mb = 10240,
        .secure = true,
        .internet = true,
        .private_traffic = true,
    };

    snprintf(s.id, sizeof(s.id), "%s", id);
    return s;
}

static void list_free(struct sandbox *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sandbox_clear(&list[i]);
    free(list);
}

static void sandbox_comes_back_as_it_was_put(void **state)
{
    struct store *store = open_store();
    struct sandbox s = example("iabc"), *list = NULL;
    struct err err = {0};
    size_t count = 0;

    (void)state;
    s.metadata = mem_strdup("{\"a\":\"\\u00e9\"}");
    s.engine_data = mem_strdup("cgroup=7");
    assert_int_equal(store_sandbox_put(store, &s, &err), 0);
    store_close(store);
    store = open_store();
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].id, "iabc");
    assert_string_equal(list[0].namespace_, "team");
    assert_string_equal(list[0].metadata, s.metadata);
    assert_string_equal(list[0].engine_data, "cgroup=7");
    assert_null(list[0].env);
    assert_int_equal(list[0].state, SANDBOX_RUNNING);
    assert_int_equal(list[0].end_unix_ms, 3);
    assert_int_equal(list[0].memory_mb, 1024);
    assert_true(list[0].secure && list[0].internet && list[0].private_traffic);
    assert_false(list[0].auto_pause || list[0].auto_resume || list[0].internet_set);
    list_free(list, count);
    sandbox_clear(&s);
    store_close(store);
}

static void state_and_end_change_alone(void **state)
{
    struct store *store = open_store();
    struct sandbox s = example("iabc"), *list = NULL;
    struct err err = {0};
    size_t count = 0;

    (void)state;
    assert_int_equal(store_sandbox_put(store, &s, &err), 0);
    assert_int_equal(store_sandbox_state(store, "iabc", SANDBOX_KILLING, &err), 0);
    assert_int_equal(store_sandbox_end(store, "iabc", 99, &err), 0);
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_int_equal(list[0].state, SANDBOX_KILLING);
    assert_int_equal(list[0].end_unix_ms, 99);
    assert_string_equal(list[0].client, "cli");
    list_free(list, count);
    assert_int_equal(store_sandbox_state(store, "inone", SANDBOX_KILLING, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_sandbox_delete(store, "iabc", &err), 0);
    assert_int_equal(store_sandbox_delete(store, "iabc", &err), 0);
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_int_equal(count, 0);
    free(list);
    store_close(store);
}

static void the_envd_that_runs_is_noted(void **state)
{
    struct store *store = open_store();
    struct sandbox s = example("igood"), *list = NULL;
    struct err err = {0};
    size_t count = 0;

    (void)state;
    memcpy(s.envd_version, "0.6.13", 7);
    assert_int_equal(store_sandbox_put(store, &s, &err), 0);
    assert_int_equal(store_sandbox_envd(store, "igood", "0.7.0", "abc", &err), 0);
    assert_int_equal(store_sandbox_envd(store, "iother", "0.7.0", "abc", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_string_equal(list[0].envd_version, "0.7.0");
    assert_string_equal(list[0].envd_build, "abc");
    list_free(list, count);
    store_close(store);
}

static void row_that_cannot_be_read_is_left_alone(void **state)
{
    struct store *store = open_store();
    struct sandbox s = example("igood"), *list = NULL;
    struct err err = {0};
    size_t count = 0;

    (void)state;
    assert_int_equal(store_sandbox_put(store, &s, &err), 0);
    run_sql("CREATE TEMP TABLE copy AS SELECT * FROM sandboxes WHERE id = 'igood';"
            "UPDATE copy SET id = 'ifuture', state = 'hibernating';"
            "INSERT INTO sandboxes SELECT * FROM copy;"
            "UPDATE copy SET id = 'i0123456789012345678901234567890123456789', state = 'running';"
            "INSERT INTO sandboxes SELECT * FROM copy");
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].id, "igood");
    list_free(list, count);
    store_close(store);
}

static void database_of_a_newer_version_is_refused(void **state)
{
    struct store *store = open_store();
    struct err err = {0};

    (void)state;
    store_close(store);
    run_sql("PRAGMA user_version = 1000");
    store = NULL;
    assert_int_equal(store_open(dir, &store, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(store);
}

static void file_that_is_no_database_is_refused(void **state)
{
    struct store *store = NULL;
    struct err err = {0};
    char path[128];
    FILE *file;

    (void)state;
    snprintf(path, sizeof(path), "%s/sandpit.db", dir);
    file = fopen(path, "we");
    assert_non_null(file);
    for (int i = 0; i < 100; i++)
        fputs("this is a letter and no database\n", file);
    fclose(file);
    assert_int_equal(store_open(dir, &store, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void what_is_committed_survives_a_killed_process(void **state)
{
    struct sandbox *list = NULL;
    struct err err = {0};
    size_t count = 0;
    int status;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) { /* no close, no exit handlers: as a crash would leave it */
        struct store *child_store = NULL;
        struct sandbox s = example("ikilled");
        if (store_open(dir, &child_store, &err) < 0 || store_sandbox_put(child_store, &s, &err) < 0)
            _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    struct store *store = open_store();
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].id, "ikilled");
    list_free(list, count);
    store_close(store);
}

static int write_rows(int process)
{
    struct store *store = NULL;
    struct err err = {0};
    char id[32];

    if (store_open(dir, &store, &err) < 0)
        return 1;
    for (int i = 0; i < ROWS_EACH; i++) {
        snprintf(id, sizeof(id), "i%dx%d", process & 0xff, i);
        struct sandbox s = example(id);
        if (store_sandbox_put(store, &s, &err) < 0)
            return 1;
    }
    store_close(store);
    return 0;
}

static void processes_write_at_the_same_time(void **state)
{
    struct sandbox *list = NULL;
    struct err err = {0};
    pid_t pids[PROCESSES];
    size_t count = 0;
    int status;

    (void)state;
    for (int i = 0; i < PROCESSES; i++) { /* they also race to migrate */
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            _exit(write_rows(i));
    }
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    struct store *store = open_store();
    assert_int_equal(store_sandbox_list(store, &list, &count, &err), 0);
    assert_int_equal(count, PROCESSES * ROWS_EACH);
    list_free(list, count);
    store_close(store);
}

static struct key example_key(const char *id, uint8_t fill)
{
    struct key key = {.namespace_ = "team",
                      .client = "ci",
                      .scopes = SCOPE_READ,
                      .mask_tail = "beef",
                      .created_unix_ms = fill};

    snprintf(key.id, sizeof(key.id), "%s", id);
    memset(key.sha256, fill, sizeof(key.sha256));
    return key;
}

static void keys_are_added_expired_and_revoked(void **state)
{
    struct store *store = open_store();
    struct key a = example_key("a", 1), b = example_key("b", 2), same = example_key("c", 1);
    struct key *list = NULL;
    struct err err = {0};
    size_t count = 0;

    (void)state;
    assert_int_equal(store_key_add(store, &a, &err), 0);
    assert_int_equal(store_key_add(store, &b, &err), 0);
    assert_int_equal(store_key_add(store, &same, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_int_equal(store_key_expire(store, "a", 500, &err), 0);
    assert_int_equal(store_key_revoke(store, "b", &err), 0);
    assert_int_equal(store_key_revoke(store, "none", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_key_list(store, &list, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].id, "b"); /* newest first */
    assert_true(list[0].revoked);
    assert_memory_equal(list[1].sha256, a.sha256, SHA256_BYTES);
    assert_int_equal(list[1].expires_unix_ms, 500);
    assert_string_equal(list[1].mask_tail, "beef");
    free(list);
    store_close(store);
}

static void version_changes_with_any_key_write(void **state)
{
    struct store *ours = open_store(), *other = open_store();
    struct key a = example_key("a", 1), b = example_key("b", 2);
    uint64_t first, second, third, fourth;
    struct err err = {0};

    (void)state;
    assert_int_equal(store_version(ours, &first, &err), 0);
    assert_int_equal(store_key_add(ours, &a, &err), 0);
    assert_int_equal(store_version(ours, &second, &err), 0);
    assert_true(first != second);
    assert_int_equal(store_key_add(other, &b, &err), 0);
    assert_int_equal(store_version(ours, &third, &err), 0);
    assert_true(second != third);
    assert_int_equal(store_version(ours, &fourth, &err), 0);
    assert_true(third == fourth);
    store_close(ours);
    store_close(other);
}

static void named_values_are_kept(void **state)
{
    struct store *store = open_store();
    struct err err = {0};
    char *value = NULL;

    (void)state;
    assert_int_equal(store_meta_get(store, "installed", &value, &err), 0);
    assert_null(value);
    assert_int_equal(store_meta_set(store, "installed", "1", &err), 0);
    assert_int_equal(store_meta_set(store, "installed", "2", &err), 0);
    assert_int_equal(store_meta_get(store, "installed", &value, &err), 0);
    assert_string_equal(value, "2");
    free(value);
    assert_int_equal(store_check(store, &err), 0);
    store_close(store);
}

static void files_are_private(void **state)
{
    static const char *const names[] = {"sandpit.db", "sandpit.db-wal", "sandpit.db-shm",
                                        "master.key"};
    _cleanup_secret_ struct secret secret = {0};
    struct store *store = open_store();
    struct err err = {0};
    char path[128];
    struct stat st;

    (void)state;
    assert_int_equal(store_meta_set(store, "a", "b", &err), 0);
    assert_int_equal(store_master_secret(dir, &secret, &err), 0);
    for (size_t i = 0; i < array_size(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    store_close(store);
}

/* `sandpit key create` by root on the database of an unprivileged server. */
static void files_made_by_root_belong_to_the_owner_of_the_database(void **state)
{
    static const char *const suffixes[] = {"-wal", "-shm"};
    struct store *store = open_store();
    struct err err = {0};
    char path[128];
    struct stat st;

    (void)state;
    store_close(store);
    if (geteuid() != 0)
        skip();
    snprintf(path, sizeof(path), "%s/sandpit.db", dir);
    assert_int_equal(chown(path, 4242, 4243), 0);
    store = open_store();
    assert_int_equal(store_meta_set(store, "a", "b", &err), 0);
    for (size_t i = 0; i < array_size(suffixes); i++) {
        snprintf(path, sizeof(path), "%s/sandpit.db%s", dir, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_uid, 4242);
        assert_int_equal(st.st_gid, 4243);
    }
    store_close(store);
}

static void master_secret_is_made_once_and_never_replaced(void **state)
{
    _cleanup_secret_ struct secret first = {0}, second = {0};
    struct err err = {0};
    char path[128];

    (void)state;
    assert_int_equal(store_master_secret(dir, &first, &err), 0);
    assert_int_equal(store_master_secret(dir, &second, &err), 0);
    assert_int_equal(first.len, 32);
    assert_memory_equal(first.bytes, second.bytes, 32);
    snprintf(path, sizeof(path), "%s/master.key", dir);
    assert_int_equal(truncate(path, 10), 0);
    assert_int_equal(store_master_secret(dir, &second, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_memory_equal(first.bytes, second.bytes, 32);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sandbox_comes_back_as_it_was_put),
        TEST(state_and_end_change_alone),
        TEST(the_envd_that_runs_is_noted),
        TEST(row_that_cannot_be_read_is_left_alone),
        TEST(database_of_a_newer_version_is_refused),
        TEST(file_that_is_no_database_is_refused),
        TEST(what_is_committed_survives_a_killed_process),
        TEST(processes_write_at_the_same_time),
        TEST(keys_are_added_expired_and_revoked),
        TEST(version_changes_with_any_key_write),
        TEST(named_values_are_kept),
        TEST(files_are_private),
        TEST(files_made_by_root_belong_to_the_owner_of_the_database),
        TEST(master_secret_is_made_once_and_never_replaced),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
