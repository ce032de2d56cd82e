/*
 * Creating and killing, also when the engine fails or stalls.
 */
#include "tests/unit/lifecycle/harness.h"

#include "server/base/str.h"

static void a_created_sandbox_is_seen_by_its_namespace_alone(void **state)
{
    struct harness *h = *state;
    _cleanup_sandbox_ struct sandbox seen = {0};
    struct lifecycle_route route;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_string_equal(seen.template_id, "base");
    assert_int_equal(seen.state, SANDBOX_RUNNING);
    assert_int_equal(seen.end_unix_ms - seen.started_unix_ms, 300000);
    assert_int_equal(look(h, "other", id, NULL), ERR_NOT_FOUND);
    assert_int_equal(lifecycle_kill(h->lifecycle, "other", id, SANDBOX_END_KILLED, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(lifecycle_route(h->lifecycle, id, &route, &err), 0);
    assert_true(route.running);
    assert_int_equal(stored_rows(h), 1);
}

static void envd_gets_its_secrets_and_variables(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    _cleanup_json_ json_t *env = json_pack("{s:s}", "A", "1");
    _cleanup_json_ json_t *config = NULL;
    struct lifecycle_route route;
    char id[SANDBOX_ID_SIZE], token[SHA256_HEX_SIZE], jwt[SHA256_HEX_SIZE];
    struct err err = {0};

    request.secure = true;
    request.env = env;
    request.internet = false;
    make(h, &request, id);
    assert_false(h->test.last_internet);
    config = json_parse_object(h->test.last_config, strlen(h->test.last_config), &err);
    assert_non_null(config);
    lifecycle_envd_token(h->lifecycle, id, token);
    assert_string_equal(json_string_value(json_object_get(config, "accessToken")), token);
    assert_int_equal(lifecycle_route(h->lifecycle, id, &route, &err), 0);
    hex_encode(route.jwt_key, sizeof(route.jwt_key), jwt);
    assert_string_equal(json_string_value(json_object_get(config, "jwtKey")), jwt);
    assert_string_equal(json_string_value(json_object_get(config, "sandboxID")), id);
    assert_string_equal(json_string_value(json_object_get(config, "defaultUser")), "user");
    assert_true(json_equal(json_object_get(config, "envVars"), env));
    assert_int_equal(json_integer_value(json_object_get(config, "memoryTotalBytes")), 1 << 30);
}

static void tokens_differ_by_purpose_and_sandbox_and_survive_a_restart(void **state)
{
    struct harness *h = *state;
    char envd[SHA256_HEX_SIZE], traffic[SHA256_HEX_SIZE], other[SHA256_HEX_SIZE],
        again[SHA256_HEX_SIZE];

    lifecycle_envd_token(h->lifecycle, "ia", envd);
    lifecycle_traffic_token(h->lifecycle, "ia", traffic);
    lifecycle_envd_token(h->lifecycle, "ib", other);
    assert_string_not_equal(envd, traffic);
    assert_string_not_equal(envd, other);
    harness_stop(h);
    harness_start(h);
    lifecycle_envd_token(h->lifecycle, "ia", again);
    assert_string_equal(envd, again);
}

static void a_wrong_timeout_or_template_changes_nothing(void **state)
{
    static const struct {
        const char *template_ref;
        int64_t timeout_s;
        enum err_code code;
        const char *msg; /* NULL: not compared */
    } cases[] = {
        {"base", 0, ERR_INVALID, "Timeout must be greater than 0"},
        {"base", -1, ERR_INVALID, "Timeout must be greater than 0"},
        {"base", 86401, ERR_INVALID, "Timeout cannot be greater than 24 hours"},
        {"nope", 10, ERR_NOT_FOUND, "template 'nope' not found"},
        {"team/base", 10, ERR_NOT_FOUND, "template 'team/base' not found"},
        {"base:v1", 10, ERR_NOT_FOUND, "tag 'v1' does not exist for template 'base'"},
        {"ba se", 10, ERR_INVALID, NULL},
        {"", 10, ERR_INVALID, NULL},
    };
    struct harness *h = *state;

    for (size_t i = 0; i < array_size(cases); i++) {
        struct lifecycle_create request = plain;
        struct sandbox out;
        struct err err = {0};
        request.template_ref = cases[i].template_ref;
        request.timeout_s = cases[i].timeout_s;
        if (lifecycle_create(h->lifecycle, &request, &out, &err) != -1)
            fail_msg("case %zu accepted", i);
        assert_int_equal(err.code, cases[i].code);
        if (cases[i].msg != NULL)
            assert_string_equal(err.msg, cases[i].msg);
    }
    assert_int_equal(test_engine_calls(&h->test, CALL_CREATE), 0);
    assert_int_equal(stored_rows(h), 0);
}

static void base_is_found_by_its_tag_and_build(void **state)
{
    struct harness *h = *state;
    struct template base;
    struct err err = {0};
    char ref[TEMPLATE_ID_SIZE];

    assert_int_equal(lifecycle_template_get(h->lifecycle, "team", " Base:default ", &base, &err),
                     0);
    snprintf(ref, sizeof(ref), "base:%s", base.build_id);
    assert_int_equal(lifecycle_template_get(h->lifecycle, "team", ref, &base, &err), 0);
    assert_string_equal(base.id, "base");
    assert_true(base.created_unix_ms > 0);
}

static void a_create_that_the_engine_fails_leaves_nothing(void **state)
{
    struct harness *h = *state;
    struct lifecycle_stats stats;
    struct sandbox out, *list;
    struct err err = {0};
    size_t count;

    test_engine_fail(&h->test, CALL_CREATE, 1);
    assert_int_equal(lifecycle_create(h->lifecycle, &plain, &out, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(stored_rows(h), 0);
    assert_int_equal(lifecycle_list(h->lifecycle, NULL, &list, &count, &err), 0);
    assert_int_equal(count, 0);
    sandbox_list_free(list, count);
    lifecycle_stats_get(h->lifecycle, &stats);
    assert_int_equal(stats.create_failed, 1);
    assert_int_equal(stats.created, 0);
}

static void an_engine_s_errno_is_not_the_client_s_fault(void **state)
{
    static const struct {
        enum err_code engine, client;
    } cases[] = {
        {ERR_FORBIDDEN, ERR_INTERNAL}, {ERR_NOT_FOUND, ERR_INTERNAL}, {ERR_EXISTS, ERR_INTERNAL},
        {ERR_INVALID, ERR_INTERNAL},   {ERR_LIMIT, ERR_LIMIT},        {ERR_BUSY, ERR_BUSY},
        {ERR_TIMEOUT, ERR_TIMEOUT},    {ERR_NO_SPACE, ERR_NO_SPACE},
    };
    struct harness *h = *state;

    for (size_t i = 0; i < array_size(cases); i++) {
        struct sandbox out;
        struct err err = {0};
        h->test.fail_code = cases[i].engine;
        test_engine_fail(&h->test, CALL_CREATE, 1);
        assert_int_equal(lifecycle_create(h->lifecycle, &plain, &out, &err), -1);
        assert_int_equal(err.code, cases[i].client);
    }
}

static void a_killed_sandbox_is_gone_and_its_connections_are_cut(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", id, SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(atomic_load(&h->ended), 1);
    assert_int_equal(look(h, "team", id, NULL), ERR_NOT_FOUND);
    assert_int_equal(test_engine_count(&h->test), 0);
    assert_int_equal(stored_rows(h), 0);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", id, SANDBOX_END_KILLED, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

struct killer {
    pthread_t thread;
    struct harness *h;
    const char *id;
    int rc;
};

static void *killer_main(void *arg)
{
    struct killer *killer = arg;
    struct err err = {0};

    killer->rc = lifecycle_kill(killer->h->lifecycle, "team", killer->id, SANDBOX_END_KILLED, &err);
    if (killer->rc < 0 && err.code != ERR_NOT_FOUND)
        killer->rc = -3;
    return NULL;
}

static void kills_at_once_are_one_kill(void **state)
{
    struct harness *h = *state;
    struct killer killers[4];
    char id[SANDBOX_ID_SIZE];
    struct sandbox out;
    struct err err = {0};
    bool resumed;

    make(h, &plain, id);
    test_engine_stall(&h->test, CALL_DESTROY, true);
    for (size_t i = 0; i < array_size(killers); i++) {
        killers[i] = (struct killer){.h = h, .id = id, .rc = -2};
        pthread_create(&killers[i].thread, NULL, killer_main, &killers[i]);
    }
    test_engine_wait_stalled(&h->test, CALL_DESTROY);
    assert_int_equal(look(h, "team", id, NULL), ERR_NOT_FOUND); /* while it is being killed */
    assert_int_equal(lifecycle_connect(h->lifecycle, "team", id, 1000, &resumed, &out, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    usleep(50000); /* let the others reach their wait */
    test_engine_stall(&h->test, CALL_DESTROY, false);
    int killed = 0;
    for (size_t i = 0; i < array_size(killers); i++) {
        pthread_join(killers[i].thread, NULL);
        assert_in_range(killers[i].rc + 1, 0, 1); /* done, or not found */
        killed += killers[i].rc == 0;
    }
    assert_int_equal(killed, 1);
    assert_int_equal(test_engine_calls(&h->test, CALL_DESTROY), 1);
    assert_int_equal(atomic_load(&h->ended), 1);
}

static void a_kill_that_fails_can_be_repeated(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    test_engine_fail(&h->test, CALL_DESTROY, 1);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", id, SANDBOX_END_KILLED, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(look(h, "team", id, NULL), ERR_NOT_FOUND);
    assert_int_equal(stored_rows(h), 1);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", id, SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(stored_rows(h), 0);
}

static void a_sandbox_whose_init_ends_is_removed(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];

    make(h, &plain, id);
    test_engine_exit(&h->test, id);
    wait_for(look(h, "team", id, NULL) == ERR_NOT_FOUND);
    wait_for(stored_rows(h) == 0);
    assert_int_equal(test_engine_count(&h->test), 0);
    test_engine_exit(&h->test, "iunknown");
}

static void lists_are_newest_first(void **state)
{
    struct harness *h = *state;
    char ids[3][SANDBOX_ID_SIZE];
    struct sandbox *list;
    struct err err = {0};
    size_t count;

    for (size_t i = 0; i < array_size(ids); i++) {
        make(h, &plain, ids[i]);
        usleep(3000);
    }
    assert_int_equal(lifecycle_list(h->lifecycle, "team", &list, &count, &err), 0);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < array_size(ids); i++)
        assert_string_equal(list[i].id, ids[2 - i]);
    sandbox_list_free(list, count);
    assert_int_equal(lifecycle_list(h->lifecycle, "other", &list, &count, &err), 0);
    assert_int_equal(count, 0);
    sandbox_list_free(list, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        life_test(a_created_sandbox_is_seen_by_its_namespace_alone),
        life_test(envd_gets_its_secrets_and_variables),
        life_test(tokens_differ_by_purpose_and_sandbox_and_survive_a_restart),
        life_test(a_wrong_timeout_or_template_changes_nothing),
        life_test(base_is_found_by_its_tag_and_build),
        life_test(a_create_that_the_engine_fails_leaves_nothing),
        life_test(an_engine_s_errno_is_not_the_client_s_fault),
        life_test(a_killed_sandbox_is_gone_and_its_connections_are_cut),
        life_test(kills_at_once_are_one_kill),
        life_test(a_kill_that_fails_can_be_repeated),
        life_test(a_sandbox_whose_init_ends_is_removed),
        life_test(lists_are_newest_first),
    };

    return harness_main(tests, array_size(tests));
}
