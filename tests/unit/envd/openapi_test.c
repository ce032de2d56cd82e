/*
 * openapi/envd.yaml, the .proto files beside it and the route table say the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "envd/route.h"
#include "openapi/filesystem.pb-c.h"
#include "openapi/process.pb-c.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/version.h"
#include "tests/unit/openapi_refs.h"

/* From the root of the source tree, where the compiler runs. */
__asm__(".section .rodata\n"
        "spec_begin:\n"
        ".incbin \"openapi/envd.yaml\"\n"
        "spec_end:\n"
        ".previous\n");

extern const char spec_begin[] __attribute__((visibility("hidden")));
extern const char spec_end[] __attribute__((visibility("hidden")));

static json_t *load(void)
{
    struct err err = {0};
    json_t *spec = json_parse_object(spec_begin, (size_t)(spec_end - spec_begin), &err);

    if (spec == NULL)
        fail_msg("openapi/envd.yaml: %s", err.msg);
    return spec;
}

/* The operation of METHOD, upper case, at PATH. Fails when there is none. */
static json_t *operation(json_t *spec, const char *method, const char *path)
{
    char name[8] = "";
    json_t *op;

    for (size_t i = 0; method[i] != '\0' && i < sizeof(name) - 1; i++)
        name[i] = (char)(method[i] | 0x20);
    op = json_object_get(json_object_get(json_object_get(spec, "paths"), path), name);
    if (op == NULL)
        fail_msg("%s %s is not described", method, path);
    return op;
}

static void says(json_t *op, const char *key, const char *want)
{
    const char *text = json_string_value(json_object_get(op, key));

    if (text == NULL || !str_eq(text, want))
        fail_msg("%s: %s is '%s', not '%s'", json_string_value(json_object_get(op, "operationId")),
                 key, text != NULL ? text : "absent", want);
}

static const char *auth_of(const struct route *route)
{
    static const char *const names[] = {
        [ROUTE_GUARDED] = "guarded", [ROUTE_TOKEN_ONLY] = "token",  [ROUTE_OPEN] = "open",
        [ROUTE_FILES] = "files",     [ROUTE_PLATFORM] = "platform",
    };

    return str_eq(route->path, "/init") ? "own" : names[route->auth];
}

static const char *stream_of(const struct rpc_method *rpc)
{
    if (rpc->kind == RPC_STREAM)
        return "server-stream";
    return rpc->kind == RPC_CLIENT_STREAM ? "client-stream" : "unary";
}

static void check_operation(json_t *op, const struct route *route)
{
    bool built = route->rpc != NULL || route->loop != NULL || route->blocking != NULL;
    const char *origin = json_string_value(json_object_get(op, "x-sandpit-origin"));

    says(op, "x-sandpit-auth", auth_of(route));
    says(op, "x-sandpit-support", built ? "supported" : "unsupported");
    assert_non_null(origin);
    assert_true(str_eq(origin, "e2b") || str_eq(origin, "sandpit"));
    if (route->rpc == NULL)
        return;
    says(op, "x-sandpit-stream", stream_of(route->rpc));
    says(op, "x-sandpit-request", route->rpc->request->name);
    says(op, "x-sandpit-response", route->rpc->response->name);
}

static void every_route_is_described_truly(void **state)
{
    _cleanup_json_ json_t *spec = load();
    const struct route *route;

    (void)state;
    for (size_t i = 0; (route = route_at(i)) != NULL; i++) {
        check_operation(operation(spec, route->method, route->path), route);
        if (route->rpc != NULL && route->rpc->idempotent)
            check_operation(operation(spec, "GET", route->path), route);
    }
    says(json_object_get(spec, "info"), "version", ENVD_VERSION);
}

static void every_description_has_a_route(void **state)
{
    _cleanup_json_ json_t *spec = load();
    const char *path_name, *name;
    json_t *path, *op;
    size_t count = 0;

    (void)state;
    json_object_foreach(json_object_get(spec, "paths"), path_name, path) {
        json_object_foreach(path, name, op) {
            char method[8] = "", allow[ROUTE_ALLOW_SIZE];
            int status;

            for (size_t i = 0; name[i] != '\0' && i < sizeof(method) - 1; i++)
                method[i] = (char)(name[i] & ~0x20);
            if (route_find(method, path_name, &status, allow) == NULL)
                fail_msg("%s %s is described and not there", method, path_name);
            assert_true(json_is_object(json_object_get(op, "responses")));
            count++;
        }
    }
    assert_true(count > 0);
}

/* Every method of SERVICE has its row. */
static size_t check_service(const ProtobufCServiceDescriptor *service)
{
    for (unsigned i = 0; i < service->n_methods; i++) {
        const ProtobufCMethodDescriptor *method = &service->methods[i];
        char path[128], allow[ROUTE_ALLOW_SIZE];
        const struct route *route;
        int status;

        snprintf(path, sizeof(path), "/%s/%s", service->name, method->name);
        route = route_find("POST", path, &status, allow);
        if (route == NULL || route->rpc == NULL)
            fail_msg("%s has no route", path);
        assert_string_equal(route->rpc->service, service->name);
        assert_string_equal(route->rpc->name, method->name);
        assert_ptr_equal(route->rpc->request, method->input);
        assert_ptr_equal(route->rpc->response, method->output);
    }
    return service->n_methods;
}

static void methods_are_those_of_the_proto_files(void **state)
{
    const struct route *route;
    size_t methods, rows = 0;

    (void)state;
    methods = check_service(&process__process__descriptor) +
              check_service(&filesystem__filesystem__descriptor);
    for (size_t i = 0; (route = route_at(i)) != NULL; i++)
        rows += route->rpc != NULL;
    assert_int_equal(rows, methods); /* with no_route_is_there_twice: the same set */
}

static void references_lead_somewhere(void **state)
{
    _cleanup_json_ json_t *spec = load();

    (void)state;
    check_refs(spec, spec);
}

static void no_route_is_there_twice(void **state)
{
    (void)state;
    for (size_t i = 0; route_at(i) != NULL; i++)
        for (size_t k = 0; k < i; k++)
            if (str_eq(route_at(i)->method, route_at(k)->method) &&
                str_eq(route_at(i)->path, route_at(k)->path))
                fail_msg("%s %s", route_at(i)->method, route_at(i)->path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described_truly),
        cmocka_unit_test(every_description_has_a_route),
        cmocka_unit_test(methods_are_those_of_the_proto_files),
        cmocka_unit_test(references_lead_somewhere),
        cmocka_unit_test(no_route_is_there_twice),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
