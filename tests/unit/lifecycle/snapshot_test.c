/*
 * Snapshots and forks: names, what is found, what a failure or a crash leaves.
 */
#include "tests/unit/lifecycle/harness.h"

#include "server/base/json.h"
#include "server/base/str.h"

/* A snapshot of ID called NAME (NULL: nothing); its public id. */
static int snap(struct harness *h, const char *id, const char *name, char out[SNAPSHOT_ID_SIZE],
                struct err *err)
{
    const struct lifecycle_snapshot request = {
        .namespace_ = "team", .client = "tester", .sandbox_id = id, .name = name};
    _cleanup_snapshot_ struct snapshot snapshot = {0};

    if (lifecycle_snapshot(h->lifecycle, &request, &snapshot, err) < 0)
        return -1;
    assert_int_equal(snapshot_public_id(&snapshot, out), 0);
    return 0;
}

static void snap_well(struct harness *h, const char *id, const char *name,
                      char out[SNAPSHOT_ID_SIZE])
{
    struct err err = {0};

    if (snap(h, id, name, out, &err) < 0)
        fail_msg("snapshot: %s (%s)", err.msg, err.detail);
}

static size_t listed(struct harness *h, const char *namespace_)
{
    struct snapshot *list = NULL;
    size_t count = 0;

    lifecycle_snapshot_list(h->lifecycle, namespace_, &list, &count);
    snapshot_list_free(list, count);
    return count;
}

static size_t snapshot_rows(struct harness *h)
{
    struct snapshot *list = NULL;
    struct err err = {0};
    size_t count = 0;

    assert_int_equal(store_snapshot_list(h->store, &list, &count, &err), 0);
    snapshot_list_free(list, count);
    return count;
}

/* Start from REF as NAMESPACE_; the code of what happens. OUT may be NULL. */
static enum err_code start_from(struct harness *h, const char *namespace_, const char *ref,
                                struct sandbox *out)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct lifecycle_create request = plain;
    struct err err = {0};

    request.namespace_ = namespace_;
    request.template_ref = ref;
    if (lifecycle_create(h->lifecycle, &request, &sandbox, &err) < 0)
        return err.code;
    if (out != NULL) {
        *out = sandbox;
        sandbox = (struct sandbox){0};
    }
    return ERR_NONE;
}

static enum err_code delete_it(struct harness *h, const char *namespace_, const char *ref)
{
    struct err err = {0};

    return lifecycle_snapshot_delete(h->lifecycle, namespace_, ref, &err) < 0 ? err.code : ERR_NONE;
}

static void a_snapshot_can_be_started_from_after_a_restart(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox made = {0};
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];

    make(h, &plain, id);
    snap_well(h, id, NULL, snapshot);
    assert_int_equal(strlen(snapshot), SNAPSHOT_TEMPLATE_CHARS + strlen(":default"));
    harness_stop(h);
    harness_start(h);
    assert_int_equal(listed(h, "team"), 1);
    assert_int_equal(listed(h, "other"), 0);
    assert_int_equal(start_from(h, "other", snapshot, NULL), ERR_NOT_FOUND);
    assert_int_equal(start_from(h, "team", snapshot, &made), ERR_NONE);
    assert_string_equal(h->test.last_snapshot, h->test.snapshots[0]);
    assert_memory_equal(made.template_id, snapshot, SNAPSHOT_TEMPLATE_CHARS);
    assert_string_equal(made.base_template_id, "base");
    assert_string_equal(made.alias, "");
}

static void names_tags_and_builds_mean_what_they_should(void **state)
{
    static const struct {
        const char *ref;
        const char *namespace_;
        enum err_code code;
    } cases[] = {
        {"mine", "team", ERR_NONE},
        {"team/mine", "team", ERR_NONE},
        {"mine:default", "team", ERR_NONE},
        {" Team/Mine:V2 ", "team", ERR_NONE},
        {"mine:v3", "team", ERR_NOT_FOUND},
        {"other/mine", "team", ERR_NOT_FOUND},
        {"team/mine", "other", ERR_NOT_FOUND},
        {"mine", "other", ERR_NOT_FOUND},
        {"tagged", "team", ERR_NOT_FOUND}, /* has no default tag */
        {"tagged:one", "team", ERR_NONE},
        {"base", "team", ERR_NONE},
    };
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];

    make(h, &plain, id);
    snap_well(h, id, "mine", snapshot);
    assert_string_equal(snapshot, "team/mine:default");
    snap_well(h, id, "team/MINE:v2", snapshot);
    assert_string_equal(snapshot, "team/mine:v2");
    snap_well(h, id, "tagged:one", snapshot);
    for (size_t i = 0; i < array_size(cases); i++) {
        enum err_code code = start_from(h, cases[i].namespace_, cases[i].ref, NULL);
        if (code != cases[i].code)
            fail_msg("%s as %s: %s", cases[i].ref, cases[i].namespace_, err_code_name(code));
    }
}

static void one_name_again_is_a_new_build_of_one_template(void **state)
{
    struct harness *h = *state;
    struct snapshot *list = NULL;
    _cleanup_sandbox_ struct sandbox first = {0}, second = {0};
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE], build[SNAPSHOT_ID_SIZE];
    size_t count = 0;

    make(h, &plain, id);
    snap_well(h, id, "mine", snapshot);
    lifecycle_snapshot_list(h->lifecycle, "team", &list, &count);
    snprintf(build, sizeof(build), "mine:%s", list[0].build_id);
    snapshot_list_free(list, count);
    assert_int_equal(start_from(h, "team", "mine", &first), ERR_NONE);
    snap_well(h, id, "mine", snapshot);
    assert_int_equal(listed(h, "team"), 1); /* the newest of the tag */
    assert_int_equal(snapshot_rows(h), 2);
    assert_int_equal(start_from(h, "team", "mine", &second), ERR_NONE);
    assert_string_equal(h->test.last_snapshot, h->test.snapshots[1]);
    assert_string_equal(first.template_id, second.template_id);
    assert_string_equal(second.alias, "mine");
    assert_int_equal(start_from(h, "team", build, NULL), ERR_NONE);
    assert_string_equal(h->test.last_snapshot, h->test.snapshots[0]);
    assert_int_equal(delete_it(h, "team", "mine"), ERR_NONE); /* all of its builds */
    assert_int_equal(snapshot_rows(h), 0);
    assert_int_equal(h->test.snapshot_count, 0);
    assert_int_equal(start_from(h, "team", build, NULL), ERR_NOT_FOUND);
    assert_int_equal(look(h, "team", second.id, NULL), ERR_NONE); /* what runs stays */
}

static void wrong_names_make_nothing(void **state)
{
    static const struct {
        const char *name;
        const char *msg;
    } cases[] = {
        {"", "Invalid name: it is empty"},
        {"a b", "Invalid name: a name is [a-z0-9-_]{1,128}"},
        {"a/b/c", "Invalid name: a name is [a-z0-9-_]{1,128}"},
        {"a:", "Invalid name: a tag is [a-z0-9-_.]{1,128}"},
        {"other/mine", "namespace 'other' must match your team 'team'"},
        {"mine:2f1b7f0e-6a1c-4d3e-9c2b-0123456789ab", "Invalid name: a tag must not be a UUID"},
    };
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE], longest[300];

    make(h, &plain, id);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        assert_int_equal(snap(h, id, cases[i].name, snapshot, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, cases[i].msg);
    }
    for (size_t len = 100; len < sizeof(longest); len++) { /* with a tag of the same length */
        struct err err = {0};
        memset(longest, 'a', sizeof(longest));
        longest[len / 2] = ':';
        longest[len] = '\0';
        if (snap(h, id, longest, snapshot, &err) == 0)
            assert_in_range(strlen(snapshot), 1, SNAPSHOT_ID_SIZE - 1);
        else
            assert_int_equal(err.code, ERR_INVALID);
    }
    snap_well(h, id, NULL, snapshot);
    snapshot[SNAPSHOT_TEMPLATE_CHARS] = '\0'; /* the id of a template */
    {
        struct err err = {0};
        assert_int_equal(snap(h, id, snapshot, longest, &err), -1);
        assert_int_equal(err.code, ERR_EXISTS);
    }
}

static void only_its_owner_deletes_and_a_tag_alone_when_named(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];

    make(h, &plain, id);
    snap_well(h, id, "mine", snapshot);
    snap_well(h, id, "mine:v2", snapshot);
    assert_int_equal(delete_it(h, "other", "mine"), ERR_NOT_FOUND);
    assert_int_equal(delete_it(h, "other", "team/mine"), ERR_NOT_FOUND);
    assert_int_equal(delete_it(h, "team", "mine:v2"), ERR_NONE);
    assert_int_equal(delete_it(h, "team", "mine:v2"), ERR_NOT_FOUND);
    assert_int_equal(start_from(h, "team", "mine", NULL), ERR_NONE);
    assert_int_equal(delete_it(h, "team", "team/mine:default"), ERR_NONE);
    assert_int_equal(h->test.snapshot_count, 0);
}

static void a_paused_sandbox_is_neither_captured_nor_forked(void **state)
{
    struct harness *h = *state;
    struct lifecycle_forked forked[1] = {0};
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];
    const struct lifecycle_fork request = {.namespace_ = "team",
                                           .client = "tester",
                                           .key_id = "",
                                           .sandbox_id = id,
                                           .timeout_s = 15,
                                           .count = 1};
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), 0);
    assert_int_equal(snap(h, id, NULL, snapshot, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(lifecycle_fork(h->lifecycle, &request, forked, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(snapshot_rows(h), 0);
}

static void what_fails_leaves_nothing(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    test_engine_fail(&h->test, CALL_SNAPSHOT, 1);
    h->test.fail_code = ERR_NO_SPACE;
    assert_int_equal(snap(h, id, "mine", snapshot, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_int_equal(snapshot_rows(h), 0);
    assert_int_equal(listed(h, "team"), 0);
    snap_well(h, id, "mine", snapshot);
    test_engine_fail(&h->test, CALL_SNAPSHOT_DELETE, 1);
    assert_int_equal(delete_it(h, "team", "mine"), ERR_NO_SPACE);
    assert_int_equal(listed(h, "team"), 0); /* begun: not to be started from any more */
    assert_int_equal(delete_it(h, "team", "mine"), ERR_NONE); /* and tried again */
    assert_int_equal(snapshot_rows(h), 0);
    assert_int_equal(h->test.snapshot_count, 0);
}

static void a_restart_removes_what_is_half_done(void **state)
{
    static const enum snapshot_state stored[] = {SNAPSHOT_CREATING, SNAPSHOT_DELETING};
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    for (size_t i = 0; i < array_size(stored); i++) {
        struct snapshot *list = NULL;
        size_t count = 0;
        snap_well(h, id, "mine", snapshot);
        assert_int_equal(store_snapshot_list(h->store, &list, &count, &err), 0);
        list[0].state = stored[i];
        assert_int_equal(store_snapshot_put(h->store, &list[0], &err), 0);
        snapshot_list_free(list, count);
        harness_stop(h);
        h->test.world[0].frozen = true; /* the capture was cut off in the middle */
        snprintf(h->test.snapshots[h->test.snapshot_count++], SANDBOX_ID_SIZE, "istray");
        harness_start(h);
        assert_int_equal(h->test.world[0].frozen, stored[i] != SNAPSHOT_CREATING);
        h->test.world[0].frozen = false;
        assert_int_equal(snapshot_rows(h), 0);
        assert_int_equal(h->test.snapshot_count, 0);
        assert_int_equal(listed(h, "team"), 0);
    }
}

static void variables_come_along_and_those_of_the_create_win(void **state)
{
    struct harness *h = *state;
    _cleanup_json_ json_t *env = json_pack("{s:s,s:s}", "A", "1", "B", "2");
    _cleanup_json_ json_t *more = json_pack("{s:s}", "B", "3");
    _cleanup_json_ json_t *both = json_pack("{s:s,s:s}", "A", "1", "B", "3");
    _cleanup_json_ json_t *config = NULL;
    _cleanup_sandbox_ struct sandbox made = {0};
    struct lifecycle_create request = plain;
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];
    struct err err = {0};

    request.env = env;
    make(h, &request, id);
    snap_well(h, id, "mine", snapshot);
    request.env = more;
    request.template_ref = "mine";
    assert_int_equal(lifecycle_create(h->lifecycle, &request, &made, &err), 0);
    config = json_parse_object(h->test.last_config, strlen(h->test.last_config), &err);
    assert_true(json_equal(json_object_get(config, "envVars"), both));
}

#define FORKS 20

static void forks_are_like_their_source_and_captured_once(void **state)
{
    struct harness *h = *state;
    _cleanup_json_ json_t *env = json_pack("{s:s}", "A", "1");
    _cleanup_json_ json_t *metadata = json_pack("{s:s}", "user", "7");
    _cleanup_json_ json_t *config = NULL;
    _cleanup_sandbox_ struct sandbox source = {0};
    struct lifecycle_forked forked[FORKS] = {0};
    struct lifecycle_create request = plain;
    struct lifecycle_fork fork = {
        .namespace_ = "team", .client = "forker", .key_id = "", .timeout_s = 30, .count = FORKS};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    request.env = env;
    request.metadata = metadata;
    request.auto_pause = true;
    make(h, &request, id);
    assert_int_equal(look(h, "team", id, &source), ERR_NONE);
    fork.sandbox_id = id;
    h->test.fail_code = ERR_LIMIT;
    test_engine_fail(&h->test, CALL_CREATE, 3);
    assert_int_equal(lifecycle_fork(h->lifecycle, &fork, forked, &err), 0);
    for (size_t i = 0, failed = 0; i < FORKS; i++) {
        const struct sandbox *one = &forked[i].sandbox;
        if (forked[i].rc < 0) {
            assert_int_equal(forked[i].err.code, ERR_LIMIT);
            assert_in_range(++failed, 1, 3);
            continue;
        }
        assert_string_not_equal(one->id, id);
        assert_string_equal(one->template_id, source.template_id);
        assert_string_equal(one->metadata, source.metadata);
        assert_string_equal(one->client, "forker");
        assert_true(one->auto_pause);
        assert_in_range(one->end_unix_ms - time_unix_ms(), 20000, 30000);
        sandbox_clear(&forked[i].sandbox);
    }
    assert_int_equal(test_engine_count(&h->test), 1 + FORKS - 3);
    assert_int_equal(test_engine_calls(&h->test, CALL_SNAPSHOT), 1);
    assert_int_equal(h->test.snapshot_count, 0); /* nothing is left of the capture */
    assert_int_equal(snapshot_rows(h), 0);
    config = json_parse_object(h->test.last_config, strlen(h->test.last_config), &err);
    assert_true(json_equal(json_object_get(config, "envVars"), env));
}

static void wrong_counts_and_timeouts_fork_nothing(void **state)
{
    static const struct {
        int64_t timeout_s;
        size_t count;
    } cases[] = {{15, 0}, {15, FORK_COUNT_MAX + 1}, {0, 1}, {-1, 1}, {86401, 1}};
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];

    make(h, &plain, id);
    for (size_t i = 0; i < array_size(cases); i++) {
        const struct lifecycle_fork fork = {.namespace_ = "team",
                                            .client = "tester",
                                            .key_id = "",
                                            .sandbox_id = id,
                                            .timeout_s = cases[i].timeout_s,
                                            .count = cases[i].count};
        struct err err = {0};
        assert_int_equal(lifecycle_fork(h->lifecycle, &fork, NULL, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(test_engine_calls(&h->test, CALL_SNAPSHOT), 0);
}

struct forker {
    pthread_t thread;
    struct harness *h;
    const char *id;
    struct lifecycle_forked forked[4];
    int rc;
};

static void *forker_main(void *arg)
{
    struct forker *forker = arg;
    const struct lifecycle_fork fork = {.namespace_ = "team",
                                        .client = "tester",
                                        .key_id = "",
                                        .sandbox_id = forker->id,
                                        .timeout_s = 60,
                                        .count = 4};
    struct err err = {0};

    forker->rc = lifecycle_fork(forker->h->lifecycle, &fork, forker->forked, &err);
    for (size_t i = 0; i < 4; i++)
        sandbox_clear(&forker->forked[i].sandbox);
    return NULL;
}

#define FORKERS 16 /* twice the pool: no helper may be waited for that has not begun */

static void many_forks_at_once_all_end(void **state)
{
    struct harness *h = *state;
    struct forker *forkers = mem_calloc(FORKERS, sizeof(*forkers));
    char id[SANDBOX_ID_SIZE];

    make(h, &plain, id);
    for (size_t i = 0; i < FORKERS; i++) {
        forkers[i].h = h;
        forkers[i].id = id;
        pthread_create(&forkers[i].thread, NULL, forker_main, &forkers[i]);
    }
    for (size_t i = 0; i < FORKERS; i++) {
        pthread_join(forkers[i].thread, NULL);
        assert_int_equal(forkers[i].rc, 0);
    }
    assert_int_equal(test_engine_count(&h->test), 1 + FORKERS * 4);
    assert_int_equal(snapshot_rows(h), 0);
    free(forkers);
}

struct deleter {
    pthread_t thread;
    struct harness *h;
    enum err_code code;
};

static void *deleter_main(void *arg)
{
    struct deleter *deleter = arg;

    deleter->code = delete_it(deleter->h, "team", "mine");
    return NULL;
}

static void *starter_main(void *arg)
{
    struct deleter *starter = arg;

    starter->code = start_from(starter->h, "team", "mine", NULL);
    return NULL;
}

static void a_deletion_waits_for_who_starts_from_it(void **state)
{
    struct harness *h = *state;
    struct deleter deleter = {.h = h}, starter = {.h = h};
    char id[SANDBOX_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];

    make(h, &plain, id);
    snap_well(h, id, "mine", snapshot);
    test_engine_stall(&h->test, CALL_CREATE, true);
    pthread_create(&starter.thread, NULL, starter_main, &starter);
    test_engine_wait_stalled(&h->test, CALL_CREATE);
    pthread_create(&deleter.thread, NULL, deleter_main, &deleter);
    wait_for(listed(h, "team") == 0);
    usleep(20000);
    assert_int_equal(test_engine_calls(&h->test, CALL_SNAPSHOT_DELETE), 0);
    test_engine_stall(&h->test, CALL_CREATE, false);
    pthread_join(starter.thread, NULL);
    pthread_join(deleter.thread, NULL);
    assert_int_equal(starter.code, ERR_NONE);
    assert_int_equal(deleter.code, ERR_NONE);
    assert_int_equal(h->test.snapshot_count, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        life_test(a_snapshot_can_be_started_from_after_a_restart),
        life_test(names_tags_and_builds_mean_what_they_should),
        life_test(one_name_again_is_a_new_build_of_one_template),
        life_test(wrong_names_make_nothing),
        life_test(only_its_owner_deletes_and_a_tag_alone_when_named),
        life_test(a_paused_sandbox_is_neither_captured_nor_forked),
        life_test(what_fails_leaves_nothing),
        life_test(a_restart_removes_what_is_half_done),
        life_test(variables_come_along_and_those_of_the_create_win),
        life_test(forks_are_like_their_source_and_captured_once),
        life_test(wrong_counts_and_timeouts_fork_nothing),
        life_test(many_forks_at_once_all_end),
        life_test(a_deletion_waits_for_who_starts_from_it),
    };

    return harness_main(tests, array_size(tests));
}
