/*
 * Our objects on the wire, the body of a create, and errors.
 */
#include "tests/unit/lifecycle/harness.h"

#include "server/api/error_table.h"
#include "server/api/wire.h"
#include "server/base/str.h"

static struct api api_of(struct harness *h)
{
    return (struct api){.lifecycle = h->lifecycle,
                        .store = h->store,
                        .engine_name = "test",
                        .envd_version = "0.6.13"};
}

/* Every KEY of KEYS (ends with NULL) is there. */
static void assert_has(const json_t *object, const char *const *keys)
{
    for (; *keys != NULL; keys++)
        if (json_object_get(object, *keys) == NULL)
            fail_msg("required key %s is missing", *keys);
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static const char *const sandbox_keys[] = {"templateID", "sandboxID", "clientID", "envdVersion",
                                           NULL};
static const char *const listed_keys[] = {"templateID", "sandboxID",   "clientID", "startedAt",
                                          "endAt",      "cpuCount",    "memoryMB", "diskSizeMB",
                                          "state",      "envdVersion", NULL};
static const char *const template_keys[] = {
    "templateID", "buildID",    "cpuCount",    "memoryMB",    "diskSizeMB", "public",
    "aliases",    "names",      "createdAt",   "updatedAt",   "createdBy",  "lastSpawnedAt",
    "spawnCount", "buildCount", "envdVersion", "buildStatus", NULL};
static const char *const build_keys[] = {"buildID",  "status",   "createdAt", "updatedAt",
                                         "cpuCount", "memoryMB", NULL};

static struct sandbox example(void)
{
    return (struct sandbox){
        .id = "iabc0123456789abcdef0",
        .namespace_ = "team",
        .template_id = "base",
        .alias = "base",
        .state = SANDBOX_RUNNING,
        .started_unix_ms = 1767323045678,
        .end_unix_ms = 1767323345678,
        .cpu_count = 2,
        .memory_mb = 1024,
        .disk_mb = 10240,
        .internet = true,
    };
}

static void a_sandbox_has_what_clients_require(void **state)
{
    struct api api = api_of(*state);
    struct sandbox sandbox = example();
    _cleanup_json_ json_t *plain_one = wire_sandbox(&api, &sandbox);
    _cleanup_json_ json_t *private_one = NULL;

    assert_has(plain_one, sandbox_keys);
    assert_null(json_object_get(plain_one, "envdAccessToken"));
    assert_null(json_object_get(plain_one, "trafficAccessToken"));
    assert_true(json_is_null(json_object_get(plain_one, "domain")));
    sandbox.secure = sandbox.private_traffic = true;
    api.domain = "box.test:3443";
    private_one = wire_sandbox(&api, &sandbox);
    assert_int_equal(strlen(text_of(private_one, "envdAccessToken")), 64);
    assert_int_equal(strlen(text_of(private_one, "trafficAccessToken")), 64);
    assert_string_equal(text_of(private_one, "domain"), "box.test:3443");
}

static void a_listed_sandbox_has_what_clients_require(void **state)
{
    struct api api = api_of(*state);
    struct sandbox sandbox = example();
    _cleanup_json_ json_t *listed = wire_listed(&api, &sandbox);

    assert_has(listed, listed_keys);
    assert_string_equal(text_of(listed, "startedAt"), "2026-01-02T03:04:05.678Z");
    assert_string_equal(text_of(listed, "state"), "running");
    assert_int_equal(json_object_size(json_object_get(listed, "metadata")), 0);
    assert_null(json_object_get(listed, "envdAccessToken"));
}

static void a_detail_leaves_out_what_may_not_be_null(void **state)
{
    struct api api = api_of(*state);
    struct sandbox sandbox = example();
    _cleanup_json_ json_t *bare = wire_detail(&api, &sandbox);
    _cleanup_json_ json_t *full = NULL;

    assert_has(bare, listed_keys);
    assert_null(json_object_get(bare, "network"));
    assert_null(json_object_get(bare, "pauseMode"));
    assert_true(json_is_null(json_object_get(bare, "allowInternetAccess")));
    assert_string_equal(text_of(json_object_get(bare, "lifecycle"), "onTimeout"), "kill");
    sandbox.state = SANDBOX_PAUSED;
    sandbox.auto_pause = sandbox.secure = sandbox.private_traffic = sandbox.internet_set = true;
    sandbox.internet = false;
    sandbox.network = (char *)"{\"allowPublicTraffic\":false}";
    sandbox.metadata = (char *)"{\"k\":\"v\"}";
    full = wire_detail(&api, &sandbox);
    assert_string_equal(text_of(full, "state"), "paused");
    assert_string_equal(text_of(full, "pauseMode"), "full");
    assert_true(json_is_false(json_object_get(full, "allowInternetAccess")));
    assert_string_equal(text_of(json_object_get(full, "metadata"), "k"), "v");
    assert_non_null(json_object_get(full, "envdAccessToken"));
    assert_null(json_object_get(full, "trafficAccessToken")); /* never again after the create */
}

static void a_template_has_what_clients_require(void **state)
{
    struct api api = api_of(*state);
    struct template base;
    _cleanup_json_ json_t *object = NULL;

    template_base(&base, 1767323045678);
    object = wire_template(&api, &base, true);
    assert_has(object, template_keys);
    assert_has(json_array_get(json_object_get(object, "builds"), 0), build_keys);
    assert_string_equal(json_string_value(json_array_get(json_object_get(object, "names"), 0)),
                        "base");
}

static void bodies_are_checked_field_by_field(void **state)
{
    static const struct {
        const char *body;
        enum err_code code; /* ERR_NONE: accepted */
        const char *word;   /* in the message */
    } cases[] = {
        {"{\"templateID\":\"base\"}", ERR_NONE, NULL},
        {"{\"templateID\":\"base\",\"from_the_future\":{\"a\":[1]}}", ERR_NONE, NULL},
        {"{\"templateID\":\"base\",\"metadata\":null,\"envVars\":{},\"network\":null}", ERR_NONE,
         NULL},
        {"{}", ERR_INVALID, "templateID"},
        {"{\"templateID\":\"\"}", ERR_INVALID, "templateID"},
        {"{\"templateID\":7}", ERR_INVALID, "templateID"},
        {"{\"templateID\":\"base\",\"timeout\":\"300\"}", ERR_INVALID, "timeout"},
        {"{\"templateID\":\"base\",\"timeout\":1.5}", ERR_INVALID, "timeout"},
        {"{\"templateID\":\"base\",\"timeout\":9999999999}", ERR_INVALID, "timeout"},
        {"{\"templateID\":\"base\",\"secure\":1}", ERR_INVALID, "secure"},
        {"{\"templateID\":\"base\",\"metadata\":{\"a\":1}}", ERR_INVALID, "metadata"},
        {"{\"templateID\":\"base\",\"metadata\":[]}", ERR_INVALID, "metadata"},
        {"{\"templateID\":\"base\",\"envVars\":{\"A\":null}}", ERR_INVALID, "envVars"},
        {"{\"templateID\":\"base\",\"envVars\":{\"A=B\":\"\"}}", ERR_INVALID, "envVars"},
        {"{\"templateID\":\"base\",\"envVars\":{\"\":\"\"}}", ERR_INVALID, "envVars"},
        {"{\"templateID\":\"base\",\"autoPause\":true,\"autoResume\":{\"enabled\":true}}", ERR_NONE,
         NULL},
        {"{\"templateID\":\"base\",\"autoResume\":true}", ERR_INVALID, "autoResume"},
        {"{\"templateID\":\"base\",\"autoPauseMemory\":false}", ERR_INVALID, "autoPauseMemory"},
        {"{\"templateID\":\"base\",\"autoPause\":true,\"autoPauseMemory\":false}", ERR_NONE, NULL},
        {"{\"templateID\":\"base\",\"autoPause\":true,\"autoPauseMemory\":1}", ERR_INVALID,
         "autoPauseMemory"},
        {"{\"templateID\":\"base\",\"autoPause\":true,\"autoPauseMemory\":false,"
         "\"autoResume\":{\"enabled\":true}}",
         ERR_INVALID, "autoResume"},
        {"{\"templateID\":\"base\",\"volumeMounts\":[]}", ERR_NONE, NULL},
        {"{\"templateID\":\"base\",\"volumeMounts\":[{\"name\":\"v\",\"path\":\"/v\"}]}", ERR_NONE,
         NULL},
        {"{\"templateID\":\"base\",\"volumeMounts\":{}}", ERR_INVALID, "volumeMounts"},
        {"{\"templateID\":\"base\",\"iam\":{\"tokens\":{\"t\":{}}}}", ERR_INVALID, "iam"},
        {"{\"templateID\":\"base\",\"mcp\":{\"x\":{}}}", ERR_NONE, NULL},
        {"{\"templateID\":\"base\",\"allow_internet_access\":\"no\"}", ERR_INVALID,
         "allow_internet_access"},
        {"{\"templateID\":\"base\",\"network\":{\"allowOut\":[],\"rules\":{},\"egressProxy\":null}"
         "}",
         ERR_NONE, NULL},
        {"{\"templateID\":\"base\",\"network\":{\"rules\":[]}}", ERR_INVALID, "rules"},
        {"{\"templateID\":\"base\",\"network\":{\"allowPublicTraffic\":false}}", ERR_INVALID,
         "'secure'"}, /* version 1, not secure */
        {"{\"templateID\":\"base\",\"secure\":true,\"network\":{\"allowPublicTraffic\":false}}",
         ERR_NONE, NULL},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct create_body parsed = {0};
        struct err err = {0};
        _cleanup_json_ json_t *body = json_parse_object(cases[i].body, strlen(cases[i].body), &err);
        int rc;
        assert_non_null(body);
        rc = wire_create_parse(body, false, &parsed, &err);
        if (rc != (cases[i].code == ERR_NONE ? 0 : -1) || err.code != cases[i].code)
            fail_msg("%s: %d %s %s", cases[i].body, rc, err_code_name(err.code), err.msg);
        if (cases[i].word != NULL && strstr(err.msg, cases[i].word) == NULL)
            fail_msg("'%s' does not name %s", err.msg, cases[i].word);
        create_body_clear(&parsed);
    }
}

static void too_many_or_too_long_entries_are_refused(void **state)
{
    _cleanup_json_ json_t *body = json_pack("{s:s,s:{}}", "templateID", "base", "metadata");
    _cleanup_free_ char *huge = mem_zalloc(METADATA_BYTES_MAX + 1);
    json_t *map = json_object_get(body, "metadata");
    struct create_body parsed;
    struct err err = {0};
    char key[16];

    (void)state;
    for (int i = 0; i <= METADATA_ENTRIES_MAX; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        json_put_str(map, key, "v");
    }
    assert_int_equal(wire_create_parse(body, true, &parsed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    json_object_clear(map);
    memset(huge, 'x', METADATA_BYTES_MAX);
    json_put_str(map, "k", huge);
    assert_int_equal(wire_create_parse(body, true, &parsed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    memset(huge, 0, METADATA_BYTES_MAX);
    memset(huge, 'b', TEMPLATE_ID_SIZE);
    json_object_clear(map);
    json_put_str(body, "templateID", huge);
    assert_int_equal(wire_create_parse(body, true, &parsed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void defaults_differ_between_versions(void **state)
{
    struct err err = {0};
    (void)state;
    for (int v2 = 0; v2 < 2; v2++) {
        _cleanup_json_ json_t *body = json_pack("{s:s,s:b}", "templateID", "base", "secure", 0);
        struct create_body parsed;
        assert_int_equal(wire_create_parse(body, v2, &parsed, &err), 0);
        assert_int_equal(parsed.request.timeout_s, v2 ? 300 : 15);
        assert_int_equal(parsed.request.secure, v2);
        assert_true(parsed.request.internet);
        assert_false(parsed.request.internet_set);
        assert_false(parsed.request.private_traffic);
        create_body_clear(&parsed);
    }
}

static void internet_access_is_what_its_own_field_says(void **state)
{
    static const struct {
        const char *body;
        bool internet, set;
    } cases[] = {
        {"{\"templateID\":\"b\",\"allow_internet_access\":false}", false, true},
        {"{\"templateID\":\"b\",\"allow_internet_access\":true}", true, true},
        {"{\"templateID\":\"b\",\"network\":{\"denyOut\":[\"0.0.0.0/0\"]}}", true, false},
        {"{\"templateID\":\"b\",\"network\":{\"denyOut\":[]}}", true, false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        _cleanup_json_ json_t *body = json_parse_object(cases[i].body, strlen(cases[i].body), &err);
        struct create_body parsed;
        assert_int_equal(wire_create_parse(body, true, &parsed, &err), 0);
        assert_int_equal(parsed.request.internet, cases[i].internet);
        assert_int_equal(parsed.request.internet_set, cases[i].set);
        create_body_clear(&parsed);
    }
}

static void errors_carry_their_status_in_the_body(void **state)
{
    static const int statuses[ERR_CODE_COUNT] = {
        [ERR_NONE] = 500,        [ERR_INVALID] = 400,   [ERR_UNAUTHENTICATED] = 401,
        [ERR_FORBIDDEN] = 403,   [ERR_NOT_FOUND] = 404, [ERR_EXISTS] = 409,
        [ERR_CONFLICT] = 409,    [ERR_LIMIT] = 429,     [ERR_INTERNAL] = 500,
        [ERR_UNSUPPORTED] = 501, [ERR_BUSY] = 503,      [ERR_TIMEOUT] = 504,
        [ERR_NO_SPACE] = 507,    [ERR_UNKNOWN] = 422,
    };
    (void)state;
    for (int code = 0; code < ERR_CODE_COUNT; code++) {
        struct err err = {.code = (enum err_code)code, .msg = "what \"was\" wrong"};
        _cleanup_json_ json_t *body = error_body(&err);
        assert_int_equal(error_answer(&err).status, statuses[code]);
        assert_int_equal(json_integer_value(json_object_get(body, "code")), statuses[code]);
        assert_string_equal(text_of(body, "message"), "what \"was\" wrong");
    }
}

static void a_message_that_is_no_utf8_still_makes_json(void **state)
{
    struct err err = {.code = ERR_INVALID, .msg = "bad \xff", .error_code = "some_code"};
    _cleanup_json_ json_t *body = error_body(&err);

    (void)state;
    assert_true(json_is_string(json_object_get(body, "message")));
    assert_string_equal(text_of(body, "error_code"), "some_code");
}

static void errors_say_whether_to_send_the_call_again(void **state)
{
    static const struct {
        enum err_code code;
        enum err_retry retry;
        uint32_t after_s;
    } cases[] = {
        {ERR_INVALID, ERR_RETRY_BY_CODE, 0}, {ERR_CONFLICT, ERR_RETRY_BY_CODE, 0},
        {ERR_LIMIT, ERR_RETRY_NO, 0},        {ERR_INTERNAL, ERR_RETRY_NO, 0},
        {ERR_BUSY, ERR_RETRY_YES, 1},        {ERR_TIMEOUT, ERR_RETRY_NO, 0},
        {ERR_UNKNOWN, ERR_RETRY_NO, 0},
    };
    struct err err = {0};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        err_set(&err, cases[i].code, "no");
        assert_int_equal(error_answer(&err).retry, cases[i].retry);
        assert_int_equal(error_answer(&err).retry_after_s, cases[i].after_s);
    }
    err_set(&err, ERR_LIMIT, "too fast");
    err_retry(&err, ERR_RETRY_YES, 7);
    assert_int_equal(error_answer(&err).retry, ERR_RETRY_YES);
    assert_int_equal(error_answer(&err).retry_after_s, 7);
    err_set(&err, ERR_LIMIT, "again"); /* nothing of an earlier error stays */
    assert_int_equal(error_answer(&err).retry_after_s, 0);
}

static void a_failed_create_is_named_as_the_contract_does(void **state)
{
    static const struct {
        enum err_code code;
        int status;
        const char *error_code, *message;
    } cases[] = {
        {ERR_BUSY, 503, "sandbox_capacity_unavailable", "Failed to place sandbox: why"},
        {ERR_NO_SPACE, 503, "sandbox_capacity_unavailable", "Failed to place sandbox: why"},
        {ERR_TIMEOUT, 504, "sandbox_placement_timeout", "Failed to place sandbox: why"},
        {ERR_INTERNAL, 500, "sandbox_create_failed", "why"},
        {ERR_NOT_FOUND, 404, NULL, "why"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        err_set(&err, cases[i].code, "why");
        error_of_create(&err);
        assert_int_equal(error_answer(&err).status, cases[i].status);
        if (cases[i].error_code == NULL)
            assert_null(error_answer(&err).error_code);
        else
            assert_string_equal(error_answer(&err).error_code, cases[i].error_code);
        assert_string_equal(err.msg, cases[i].message);
    }
    struct err named = {0};
    err_set(&named, ERR_BUSY, "why");
    err_name(&named, "idempotency_in_progress");
    error_of_create(&named);
    assert_string_equal(named.error_code, "idempotency_in_progress");
    assert_string_equal(named.msg, "why");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        life_test(a_sandbox_has_what_clients_require),
        life_test(a_listed_sandbox_has_what_clients_require),
        life_test(a_detail_leaves_out_what_may_not_be_null),
        life_test(a_template_has_what_clients_require),
        cmocka_unit_test(bodies_are_checked_field_by_field),
        cmocka_unit_test(too_many_or_too_long_entries_are_refused),
        cmocka_unit_test(defaults_differ_between_versions),
        cmocka_unit_test(internet_access_is_what_its_own_field_says),
        cmocka_unit_test(errors_carry_their_status_in_the_body),
        cmocka_unit_test(a_message_that_is_no_utf8_still_makes_json),
        cmocka_unit_test(errors_say_whether_to_send_the_call_again),
        cmocka_unit_test(a_failed_create_is_named_as_the_contract_does),
    };

    return harness_main(tests, array_size(tests));
}
