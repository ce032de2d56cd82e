/*
 * Which row of a route table a method and a path mean.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/router.h"

static const struct route routes[] = {
    {"GET", "/", 0, NULL},
    {"GET", "/items/{itemID}", 0, NULL},
    {"DELETE", "/items/{itemID}", 0, NULL},
    {"GET", "/items/metrics", 0, NULL},
    {"POST", "/items", 0, NULL},
    {"GET", "/items", 0, NULL},
    {"GET", "/v2/items/{itemID}/parts/{partID}", 0, NULL},
    {"GET", "/v2/items/{itemID}/parts/last", 0, NULL},
    {"GET", "/v2/items/first/parts/{partID}", 0, NULL},
    {"HEAD", "/v2/only", 0, NULL},
    {"GET", "/v2/only", 0, NULL},
};

static enum route_result match(const char *method, const char *path, struct route_match *out,
                               struct buf *allow)
{
    buf_init(allow, 128);
    return router_match(routes, array_size(routes), method, strlen(method), path, strlen(path), out,
                        allow);
}

static void rows_are_found_by_method_and_path(void **state)
{
    static const struct {
        const char *method;
        const char *path;
        const char *route; /* NULL: 404 or 405 */
        const char *allow; /* NULL: 404 */
        bool head_of_get;
    } cases[] = {
        {"GET", "/", "/", NULL, false},
        {"GET", "/items", "/items", NULL, false},
        {"GET", "/items/7", "/items/{itemID}", NULL, false},
        {"GET", "/items/%2F", "/items/{itemID}", NULL, false},
        {"GET", "/items/metrics", "/items/metrics", NULL, false}, /* the word wins */
        {"DELETE", "/items/metrics", "/items/{itemID}", NULL, false},
        {"GET", "/items/metric", "/items/{itemID}", NULL, false},
        {"GET", "/v2/items/a/parts/b", "/v2/items/{itemID}/parts/{partID}", NULL, false},
        {"GET", "/v2/items/a/parts/last", "/v2/items/{itemID}/parts/last", NULL, false},
        {"GET", "/v2/items/first/parts/last", "/v2/items/first/parts/{partID}", NULL, false},
        {"HEAD", "/items/7", "/items/{itemID}", NULL, true},
        {"HEAD", "/v2/only", "/v2/only", NULL, false},
        {"PUT", "/items/7", NULL, "GET, HEAD, DELETE", false},
        {"PUT", "/items/metrics", NULL, "GET, HEAD, DELETE", false},
        {"PATCH", "/items", NULL, "POST, GET, HEAD", false},
        {"get", "/items", NULL, "POST, GET, HEAD", false},
        {"POST", "/v2/only", NULL, "HEAD, GET", false},
        {"GET", "", NULL, NULL, false},
        {"GET", "//", NULL, NULL, false},
        {"GET", "/items/", NULL, NULL, false}, /* a parameter is never empty */
        {"GET", "/items/7/", NULL, NULL, false},
        {"GET", "/item%73", NULL, NULL, false}, /* words are compared as they came */
        {"GET", "/ITEMS", NULL, NULL, false},
        {"GET", "/v2/items/a/parts", NULL, NULL, false},
        {"GET", "items", NULL, NULL, false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct route_match out = {0};
        _cleanup_buf_ struct buf allow;
        enum route_result got = match(cases[i].method, cases[i].path, &out, &allow);
        enum route_result want = cases[i].route != NULL   ? ROUTE_FOUND
                                 : cases[i].allow != NULL ? ROUTE_NO_METHOD
                                                          : ROUTE_NO_PATH;

        if (got != want)
            fail_msg("%s %s: %d", cases[i].method, cases[i].path, got);
        if (want == ROUTE_FOUND) {
            assert_string_equal(out.route->path, cases[i].route);
            assert_int_equal(out.head_of_get, cases[i].head_of_get);
        } else {
            assert_string_equal(buf_str(&allow), cases[i].allow != NULL ? cases[i].allow : "");
        }
    }
}

static void parameters_keep_their_encoding(void **state)
{
    struct route_match out = {0};
    _cleanup_buf_ struct buf allow;

    (void)state;
    assert_int_equal(match("GET", "/v2/items/a%2Fb/parts/c.d~e", &out, &allow), ROUTE_FOUND);
    assert_int_equal(out.param_count, 2);
    assert_true(mem_is(out.params[0].name, out.params[0].name_len, "itemID"));
    assert_true(mem_is(out.params[0].value, out.params[0].value_len, "a%2Fb"));
    assert_true(mem_is(out.params[1].name, out.params[1].name_len, "partID"));
    assert_true(mem_is(out.params[1].value, out.params[1].value_len, "c.d~e"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_found_by_method_and_path),
        cmocka_unit_test(parameters_keep_their_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
