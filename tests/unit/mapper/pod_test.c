#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mapper/labels.h"
#include "mapper/pod.h"
#include "server/base/mem.h"

static const struct pod_options options = {
    .kube_namespace = "team-a", .envd_image = "registry.test/envd:1", .runtime_class = "gvisor"};

static struct sandbox example(void)
{
    struct sandbox sandbox = {
        .id = "iabcdefghij0123456789",
        .namespace_ = "team-a",
        .client = "client-1",
        .template_id = "team-a/app:v1",
        .alias = "app",
        .state = SANDBOX_RUNNING,
        .created_unix_ms = 1700000000123,
        .started_unix_ms = 1700000000123,
        .end_unix_ms = 1700000300456,
        .cpu_count = 2,
        .memory_mb = 512,
        .disk_mb = 1024,
        .secure = true,
        .internet = true,
    };
    sandbox.metadata = mem_strdup("{\"a\":\"b/c d\"}");
    sandbox.env = mem_strdup("{\"SECRET\":\"hush\"}");
    return sandbox;
}

static const json_t *at(const json_t *json, const char *path)
{
    char copy[200];

    strcpy(copy, path);
    for (char *save = NULL, *key = strtok_r(copy, "|", &save); key != NULL && json != NULL;
         key = strtok_r(NULL, "|", &save))
        json = json_is_array(json) ? json_array_get(json, (size_t)(key[0] - '0'))
                                   : json_object_get(json, key);
    return json;
}

static void assert_text(const json_t *json, const char *path, const char *want)
{
    const char *got = json_string_value(at(json, path));

    if (got == NULL || strcmp(got, want) != 0)
        fail_msg("%s is '%s', not '%s'", path, got ? got : "(absent)", want);
}

static void a_pod_says_all_of_its_sandbox_and_reads_back(void **state)
{
    _cleanup_sandbox_ struct sandbox sandbox = example();
    _cleanup_sandbox_ struct sandbox back = {0};
    _cleanup_json_ json_t *pod_template = pod_template_default("app", "img:1", 2, 512);
    _cleanup_json_ json_t *pod = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(pod_from_sandbox(&sandbox, pod_template, &options, &pod, &err), 0);
    assert_text(pod, "kind", "Pod");
    assert_text(pod, "metadata|name", sandbox.id);
    assert_text(pod, "metadata|namespace", "team-a");
    assert_text(pod, "metadata|labels|" LABEL_STATE, "running");
    assert_text(pod, "spec|runtimeClassName", "gvisor");
    assert_text(pod, "spec|containers|0|resources|limits|memory", "512Mi");
    assert_text(pod, "spec|initContainers|0|image", "registry.test/envd:1");
    assert_int_equal(pod_to_sandbox(pod, &back, &err), 0);
    assert_string_equal(back.id, sandbox.id);
    assert_string_equal(back.namespace_, "team-a");
    assert_string_equal(back.client, "client-1");
    assert_string_equal(back.template_id, "team-a/app:v1");
    assert_string_equal(back.alias, "app");
    assert_string_equal(back.metadata, "{\"a\":\"b/c d\"}");
    assert_int_equal(back.state, SANDBOX_RUNNING);
    assert_int_equal(back.started_unix_ms, sandbox.started_unix_ms);
    assert_int_equal(back.end_unix_ms, sandbox.end_unix_ms);
    assert_int_equal(back.memory_mb, 512);
    assert_true(back.secure && back.internet && !back.auto_pause);
}

static void a_pod_never_holds_the_environment(void **state)
{
    _cleanup_sandbox_ struct sandbox sandbox = example();
    _cleanup_json_ json_t *pod_template = pod_template_default("app", "img:1", 2, 512);
    _cleanup_json_ json_t *pod = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(pod_from_sandbox(&sandbox, pod_template, &options, &pod, &err), 0);
    _cleanup_free_ char *text = json_text(pod);
    assert_null(strstr(text, "hush"));
}

static void a_hostile_template_is_made_safe(void **state)
{
    static const char text[] =
        "{\"template\":{\"spec\":{\"hostNetwork\":true,\"hostPID\":true,\"nodeName\":\"n\","
        "\"serviceAccountName\":\"x\",\"automountServiceAccountToken\":true,"
        "\"restartPolicy\":\"Always\",\"containers\":[{\"name\":\"a\",\"image\":\"i\","
        "\"args\":[\"x\"],\"securityContext\":{\"privileged\":true,"
        "\"capabilities\":{\"add\":[\"SYS_ADMIN\"]}}},{\"name\":\"side\",\"image\":\"j\","
        "\"securityContext\":{\"privileged\":true}}]}}}";
    _cleanup_sandbox_ struct sandbox sandbox = example();
    struct err err = {0};
    _cleanup_json_ json_t *pod_template = json_parse(text, sizeof(text) - 1, &err);
    _cleanup_json_ json_t *pod = NULL;

    (void)state;
    assert_non_null(pod_template);
    assert_int_equal(pod_from_sandbox(&sandbox, pod_template, &options, &pod, &err), 0);
    assert_null(at(pod, "spec|hostNetwork"));
    assert_null(at(pod, "spec|hostPID"));
    assert_null(at(pod, "spec|nodeName"));
    assert_true(json_is_false(at(pod, "spec|automountServiceAccountToken")));
    assert_text(pod, "spec|restartPolicy", "Never");
    for (int i = 0; i < 2; i++) {
        const json_t *context = json_object_get(
            json_array_get(at(pod, "spec|containers"), (size_t)i), "securityContext");
        assert_true(json_is_false(json_object_get(context, "privileged")));
        assert_true(json_is_false(json_object_get(context, "allowPrivilegeEscalation")));
        assert_text(context, "capabilities|drop|0", "ALL");
        assert_null(at(context, "capabilities|add"));
    }
    assert_null(at(pod, "spec|containers|0|args"));
    assert_text(pod, "spec|containers|0|command|0", POD_ENVD_FOLDER "/envd");
}

static void a_template_without_an_image_is_refused(void **state)
{
    static const char *const cases[] = {
        "{}", "{\"template\":{}}", "{\"template\":{\"spec\":{\"containers\":[]}}}",
        "{\"template\":{\"spec\":{\"containers\":[{}]}}}",
        "{\"template\":{\"spec\":{\"containers\":[{\"image\":3}]}}}"};
    _cleanup_sandbox_ struct sandbox sandbox = example();

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        _cleanup_json_ json_t *pod_template = json_parse(cases[i], strlen(cases[i]), &err);
        json_t *pod = NULL;
        assert_int_equal(pod_from_sandbox(&sandbox, pod_template, &options, &pod, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(pod);
    }
}

static void foreign_or_damaged_pods_are_refused(void **state)
{
    static const char *const broken[] = {LABEL_STATE, LABEL_SANDBOX_ID, MANAGED_BY_LABEL};
    _cleanup_sandbox_ struct sandbox sandbox = example();
    _cleanup_json_ json_t *pod_template = pod_template_default("app", "img:1", 2, 512);
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(broken); i++) {
        _cleanup_json_ json_t *pod = NULL;
        struct sandbox back = {0};
        assert_int_equal(pod_from_sandbox(&sandbox, pod_template, &options, &pod, &err), 0);
        json_put_str(json_object_get(json_object_get(pod, "metadata"), "labels"), broken[i], "?");
        assert_int_equal(pod_to_sandbox(pod, &back, &err), -1);
        assert_null(back.metadata);
    }
}

static void label_values_are_valid_and_distinct(void **state)
{
    static const char *const texts[] = {
        "a/b",
        "a.b",
        "a:b",
        "-",
        "",
        "é",
        "team/app:v1",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"};
    char labels[array_size(texts)][LABEL_VALUE_SIZE], names[array_size(texts)][DNS_LABEL_SIZE];

    (void)state;
    for (size_t i = 0; i < array_size(texts); i++) {
        label_encode(texts[i], labels[i]);
        dns_label_encode(texts[i], names[i]);
        assert_true(label_value_valid(labels[i]));
        assert_true(dns_label_valid(names[i]));
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(labels[i], labels[k]);
            assert_string_not_equal(names[i], names[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_says_all_of_its_sandbox_and_reads_back),
        cmocka_unit_test(a_pod_never_holds_the_environment),
        cmocka_unit_test(a_hostile_template_is_made_safe),
        cmocka_unit_test(a_template_without_an_image_is_refused),
        cmocka_unit_test(foreign_or_damaged_pods_are_refused),
        cmocka_unit_test(label_values_are_valid_and_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
