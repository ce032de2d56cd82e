/*
 * openapi/platform.yaml and the route table say the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/api/handlers.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "tests/unit/openapi_refs.h"

static json_t *load(void **state)
{
    struct err err = {0};
    size_t len;
    const char *text = openapi_text(&len);
    json_t *spec = json_parse_object(text, len, &err);

    (void)state;
    if (spec == NULL)
        fail_msg("openapi/platform.yaml: %s", err.msg);
    return spec;
}

static json_t *operation(json_t *spec, const struct route *route)
{
    char method[8] = "";

    for (size_t i = 0; route->method[i] != '\0' && i < sizeof(method) - 1; i++)
        method[i] = (char)(route->method[i] | 0x20);
    return json_object_get(json_object_get(json_object_get(spec, "paths"), route->path), method);
}

static void every_route_is_described_and_marked_truly(void **state)
{
    char name[KEY_SCOPES_SIZE];
    _cleanup_json_ json_t *spec = load(state);

    for (size_t i = 0; i < api_route_count; i++) {
        const struct route *route = &api_routes[i];
        json_t *op = operation(spec, route);
        json_t *support = json_object_get(op, "x-sandpit-support");
        const char *local = json_string_value(json_object_get(support, "local"));
        const char *kubernetes = json_string_value(json_object_get(support, "kubernetes"));
        const char *scope = json_string_value(json_object_get(op, "x-sandpit-scope"));
        if (op == NULL || local == NULL || kubernetes == NULL || scope == NULL)
            fail_msg("%s %s is not described", route->method, route->path);
        if (!str_eq(local, route->handler != NULL ? "supported" : "unsupported"))
            fail_msg("%s %s is not '%s'", route->method, route->path, local);
        assert_string_equal(kubernetes, "unsupported");
        key_scopes_format(route->scope, name);
        assert_string_equal(scope, route->scope == SCOPE_NONE ? "none" : name);
    }
}

static void every_description_has_a_route(void **state)
{
    _cleanup_json_ json_t *spec = load(state);
    json_t *path, *op;
    const char *path_name, *method;
    size_t count = 0;

    json_object_foreach(json_object_get(spec, "paths"), path_name, path) {
        json_object_foreach(path, method, op) {
            assert_true(json_is_object(op));
            count++;
        }
    }
    assert_int_equal(count, api_route_count); /* with the test above: the same set */
}

static void references_lead_somewhere(void **state)
{
    _cleanup_json_ json_t *spec = load(state);

    check_refs(spec, spec);
}

static void no_route_is_there_twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++)
        for (size_t k = 0; k < i; k++)
            if (str_eq(api_routes[i].method, api_routes[k].method) &&
                str_eq(api_routes[i].path, api_routes[k].path))
                fail_msg("%s %s", api_routes[i].method, api_routes[i].path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described_and_marked_truly),
        cmocka_unit_test(every_description_has_a_route),
        cmocka_unit_test(references_lead_somewhere),
        cmocka_unit_test(no_route_is_there_twice),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
