/*
 * Network rules: from what a client asked for to what the engine is to hold.
 */
#include "tests/unit/lifecycle/harness.h"

static json_t *object(const char *text)
{
    struct err err = {0};
    json_t *json = json_parse_object(text, strlen(text), &err);

    assert_non_null(json);
    return json;
}

static void what_the_engine_holds_is_made_of_what_was_asked(void **state)
{
    static const struct {
        const char *network;
        bool internet; /* allow_internet_access */
        bool reaches;
        const char *rules;
    } cases[] = {
        {"{}", true, true, ""},
        {"{}", false, false, ""},
        {"{\"maskRequestHost\":\"a\",\"dnsServers\":[\"1.1.1.1\"]}", true, true, ""},
        {"{\"denyOut\":[\"1.1.1.1\",\"0.0.0.0/0\"]}", true, false, ""},
        {"{\"denyOut\":[\"1.1.1.1\"]}", true, true, "{\"denyOut\":[\"1.1.1.1\"]}"},
        {"{\"denyOut\":[\"1.1.1.1\"]}", false, false, ""},
        {"{\"allowOut\":[\"1.1.1.1\"],\"denyOut\":[\"2.2.2.2\"]}", false, true,
         "{\"allowOut\":[\"1.1.1.1\"],\"denyOut\":[\"0.0.0.0/0\"]}"},
        {"{\"rules\":{\"a.b\":[]}}", true, true, "{\"rules\":{\"a.b\":[]}}"},
    };
    struct harness *h = *state;

    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_json_ json_t *network = object(cases[i].network);
        struct lifecycle_create request = plain;
        char id[SANDBOX_ID_SIZE];
        request.network = network;
        request.internet = cases[i].internet;
        make(h, &request, id);
        if (h->test.last_internet != cases[i].reaches ||
            strcmp(h->test.last_network, cases[i].rules) != 0)
            fail_msg("%s: %d %s", cases[i].network, h->test.last_internet, h->test.last_network);
    }
}

/* "network" of ID as it is shown. */
static void assert_network(struct harness *h, const char *id, const char *text, bool internet)
{
    _cleanup_sandbox_ struct sandbox seen = {0};

    assert_int_equal(look(h, "team", id, &seen), ERR_NONE);
    assert_string_equal(seen.network != NULL ? seen.network : "", text);
    assert_int_equal(seen.internet, internet);
}

static int set(struct harness *h, const char *id, const char *egress, bool internet,
               struct err *err)
{
    _cleanup_json_ json_t *json = object(egress);
    struct lifecycle_network network = {.internet = internet, .egress = json};

    return lifecycle_set_network(h->lifecycle, "team", id, &network, err);
}

static void an_update_that_the_engine_refuses_changes_nothing(void **state)
{
    static const char before[] = "{\"maskRequestHost\":\"a\",\"denyOut\":[\"1.1.1.1\"]}";
    _cleanup_json_ json_t *network = object(before);
    struct harness *h = *state;
    struct lifecycle_create request = plain;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    request.network = network;
    make(h, &request, id);
    h->test.fail[CALL_NETWORK] = 1;
    assert_int_equal(set(h, id, "{\"denyOut\":[\"2.2.2.2\"]}", true, &err), -1);
    assert_network(h, id, before, true);
    assert_string_equal(h->test.last_network, "{\"denyOut\":[\"1.1.1.1\"]}"); /* said again */
    assert_int_equal(atomic_load(&h->events[LIFECYCLE_UPDATED]), 0);
    assert_int_equal(set(h, id, "{\"denyOut\":[\"2.2.2.2\"]}", true, &err), 0);
    assert_network(h, id, "{\"maskRequestHost\":\"a\",\"denyOut\":[\"2.2.2.2\"]}", true);
    assert_int_equal(atomic_load(&h->events[LIFECYCLE_UPDATED]), 1);
}

static void a_restart_says_the_rules_again(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(set(h, id, "{}", false, &err), 0);
    assert_false(h->test.last_internet);
    harness_stop(h);
    h->test.last_internet = true; /* as if the server had died before the engine was told */
    harness_start(h);
    assert_false(h->test.last_internet);
    assert_network(h, id, "{}", false);
}

static void only_a_running_sandbox_of_ones_own_is_updated(void **state)
{
    struct harness *h = *state;
    struct lifecycle_network network = {.internet = true};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};

    make(h, &plain, id);
    assert_int_equal(lifecycle_set_network(h->lifecycle, "others", id, &network, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), 0);
    assert_int_equal(lifecycle_set_network(h->lifecycle, "team", id, &network, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(h->test.calls[CALL_NETWORK], 0);
}

static void an_egress_proxy_is_not_inside(void **state)
{
    static const char *const inside[] = {"127.0.0.1:1", "10.0.0.1:1", "169.254.169.254:1",
                                         "100.64.0.6:1", "localhost:1"};
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];

    make(h, &plain, id);
    for (size_t i = 0; i < array_size(inside); i++) {
        _cleanup_free_ char *text =
            mem_asprintf("{\"egressProxy\":{\"address\":\"%s\"}}", inside[i]);
        struct err err = {0};
        if (set(h, id, text, true, &err) == 0)
            fail_msg("accepted: %s", inside[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        life_test(what_the_engine_holds_is_made_of_what_was_asked),
        life_test(an_update_that_the_engine_refuses_changes_nothing),
        life_test(a_restart_says_the_rules_again),
        life_test(only_a_running_sandbox_of_ones_own_is_updated),
        life_test(an_egress_proxy_is_not_inside),
    };

    return harness_main(tests, array_size(tests));
}
