/*
 * tests/unit/openapi_refs.h - what the tests of both OpenAPI files ask. After cmocka.h.
 */
#ifndef TESTS_UNIT_OPENAPI_REFS_H
#define TESTS_UNIT_OPENAPI_REFS_H

#include <stdio.h>

#include "server/base/json.h"
#include "server/base/str.h"

/* Every "$ref" below JSON leads to something. */
static void check_refs(json_t *spec, json_t *json)
{
    const char *key;
    json_t *value;
    size_t i;

    if (json_is_array(json)) {
        json_array_foreach(json, i, value) {
            check_refs(spec, value);
        }
    }
    json_object_foreach(json, key, value) {
        const char *ref = str_eq(key, "$ref") ? json_string_value(value) : NULL;
        char kind[32], name[64];
        if (ref != NULL) {
            assert_int_equal(sscanf(ref, "#/components/%31[^/]/%63s", kind, name), 2);
            if (json_object_get(json_object_get(json_object_get(spec, "components"), kind), name) ==
                NULL)
                fail_msg("%s leads nowhere", ref);
        }
        check_refs(spec, value);
    }
}

#endif
