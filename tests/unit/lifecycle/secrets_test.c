/*
 * Secrets: what is stored, what fills a policy, and who gets a new value.
 */
#include <pthread.h>

#include "tests/unit/lifecycle/harness.h"

#define RULES                                                                                      \
    "{\"rules\":{\"a.test\":[{\"transform\":{\"headers\":{\"x\":\"Bearer "                         \
    "${e2b.secrets.one}\"}}}]}}"

static struct engine_ops ops; /* the test engine's, and set_network */
static atomic_int told;
static char last_policy[4096];

static int note_network(struct engine *engine, const char *id, bool internet, const char *policy,
                        struct err *err)
{
    (void)engine;
    (void)id;
    (void)internet;
    (void)err;
    snprintf(last_policy, sizeof(last_policy), "%s", policy != NULL ? policy : "");
    atomic_fetch_add(&told, 1);
    return 0;
}

static int setup(void **state)
{
    struct harness *h;

    if (harness_setup(state) < 0)
        return -1;
    h = *state;
    ops = *h->test.engine.ops;
    ops.set_network = note_network;
    h->test.engine.ops = &ops;
    atomic_store(&told, 0);
    return 0;
}

static void put_secret(struct harness *h, const char *namespace_, const char *name,
                       const char *value)
{
    struct secret_info info = {0};
    struct err err = {0};

    if (lifecycle_secret_create(h->lifecycle, namespace_, name, value, NULL, &info, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    secret_info_clear(&info);
}

/* The header x of a rule with VALUE once it is filled: new, NULL for null. */
static char *fill(struct harness *h, const char *namespace_, const char *value)
{
    _cleanup_json_ json_t *rules = json_object();
    json_t *headers = json_object(), *found;
    struct err err = {0};

    json_put_str(headers, "x", value);
    json_put(rules, "a.test", json_pack("[{s:{s:o}}]", "transform", "headers", headers));
    if (network_policy_fill(h->lifecycle, namespace_, rules, &err) < 0)
        fail_msg("%s: %s", value, err.msg);
    found = json_object_get(headers, "x");
    return json_is_string(found) ? mem_strdup(json_string_value(found)) : NULL;
}

static void expect(struct harness *h, const char *namespace_, const char *value,
                   const char *expected)
{
    _cleanup_free_ char *found = fill(h, namespace_, value);

    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found, expected);
}

static void values_fill_policies_of_their_namespace(void **state)
{
    struct harness *h = *state;

    put_secret(h, "team", "one", "1");
    put_secret(h, "team", "two", "2");
    put_secret(h, "team", "lines", "a\r\nx: b");
    expect(h, "team", "plain ${x}", "plain ${x}");
    expect(h, "team", "Bearer ${e2b.secrets.one}", "Bearer 1");
    expect(h, "team", "${e2b.secrets.ONE}/${e2b.secrets.two}!", "1/2!");
    expect(h, "team", "${e2b.secrets.three}", NULL);
    expect(h, "other", "${e2b.secrets.one}", NULL);
    expect(h, "team", "${e2b.secrets.lines}", NULL);
    expect(h, "team", "${e2b.identity.tokens.one}", NULL);
}

static void a_value_is_what_was_last_stored(void **state)
{
    struct harness *h = *state;
    struct secret_info info = {0};
    struct err err = {0};

    put_secret(h, "team", "one", "first");
    assert_int_equal(
        lifecycle_secret_update(h->lifecycle, "team", "One", "second", NULL, &info, &err), 0);
    assert_int_equal(info.version, 2);
    expect(h, "team", "${e2b.secrets.one}", "second");
    assert_int_equal(lifecycle_secret_delete(h->lifecycle, "team", info.id, &err), 0);
    expect(h, "team", "${e2b.secrets.one}", NULL);
    assert_int_equal(lifecycle_secret_update(h->lifecycle, "team", info.id, "x", NULL, &info, &err),
                     -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    secret_info_clear(&info);
}

static void make_sandbox(struct harness *h, const char *namespace_, const char *network)
{
    _cleanup_json_ json_t *json = json_loads(network, 0, NULL);
    const struct lifecycle_create request = {.namespace_ = namespace_,
                                             .client = "test",
                                             .template_ref = "base",
                                             .timeout_s = 60,
                                             .internet = true,
                                             .network = json};
    struct sandbox sandbox = {0};
    struct err err = {0};

    if (lifecycle_create(h->lifecycle, &request, &sandbox, &err) < 0)
        fail_msg("create: %s", err.msg);
    sandbox_clear(&sandbox);
}

static void a_new_value_reaches_those_that_use_it(void **state)
{
    struct harness *h = *state;
    struct secret_info info = {0};
    struct err err = {0};

    make_sandbox(h, "team", RULES);
    make_sandbox(h, "team", "{}");
    make_sandbox(h, "other", RULES);
    assert_int_equal(atomic_load(&told), 0);
    put_secret(h, "team", "two", "not used");
    assert_int_equal(atomic_load(&told), 0);
    put_secret(h, "team", "one", "1");
    assert_int_equal(atomic_load(&told), 1);
    assert_non_null(strstr(last_policy, "Bearer 1"));
    assert_int_equal(lifecycle_secret_update(h->lifecycle, "team", "one", "2", NULL, &info, &err),
                     0);
    assert_int_equal(atomic_load(&told), 2);
    assert_non_null(strstr(last_policy, "Bearer 2"));
    assert_int_equal(lifecycle_secret_delete(h->lifecycle, "team", "one", &err), 0);
    assert_int_equal(atomic_load(&told), 3);
    assert_non_null(strstr(last_policy, "null"));
    secret_info_clear(&info);
}

static void *create_thread(void *arg)
{
    make_sandbox(arg, "team", RULES);
    return NULL;
}

static void a_sandbox_in_the_making_gets_it_too(void **state)
{
    struct harness *h = *state;
    pthread_t thread;

    put_secret(h, "team", "two", "2");
    test_engine_stall(&h->test, CALL_CREATE, true);
    assert_int_equal(pthread_create(&thread, NULL, create_thread, h), 0);
    test_engine_wait_stalled(&h->test, CALL_CREATE);
    put_secret(h, "team", "one", "late"); /* its policy is made, and it is in no list yet */
    test_engine_stall(&h->test, CALL_CREATE, false);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&told), 1);
    assert_non_null(strstr(last_policy, "Bearer late"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_fill_policies_of_their_namespace, setup,
                                        harness_teardown),
        cmocka_unit_test_setup_teardown(a_value_is_what_was_last_stored, setup, harness_teardown),
        cmocka_unit_test_setup_teardown(a_new_value_reaches_those_that_use_it, setup,
                                        harness_teardown),
        cmocka_unit_test_setup_teardown(a_sandbox_in_the_making_gets_it_too, setup,
                                        harness_teardown),
    };
    return harness_main(tests, array_size(tests));
}
