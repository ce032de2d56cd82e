#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/model/sandbox.h"
#include "server/model/template.h"

static void sandbox_id_parse_accepts_id_with_optional_client_part(void **state)
{
    static const struct {
        const char *in, *out; /* out NULL: refused */
    } cases[] = {
        {"iabc0123456789abcdef0", "iabc0123456789abcdef0"},
        {"iabc0123456789abcdef0-6532622b", "iabc0123456789abcdef0"},
        {"i-", "i"},
        {"", NULL},
        {"-abc", NULL},
        {"i-a-b", NULL},
        {"Iabc", NULL},
        {"i_abc", NULL},
        {"i.abc", NULL},
        {"i/../x", NULL},
        {"iabc-\xc3\xa9", NULL},
        {"i234567890123456789012345", NULL}, /* does not fit */
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        char out[SANDBOX_ID_SIZE] = "untouched";
        struct err err = {0};
        int rc = sandbox_id_parse(cases[i].in, strlen(cases[i].in), out, &err);
        if (cases[i].out != NULL) {
            assert_int_equal(rc, 0);
            assert_string_equal(out, cases[i].out);
        } else {
            assert_int_equal(rc, -1);
            assert_int_equal(err.code, ERR_INVALID);
            assert_string_equal(err.msg, "Invalid sandbox ID");
            assert_string_equal(out, "untouched");
        }
    }
}

static void sandbox_id_parse_refuses_a_nul_inside(void **state)
{
    char out[SANDBOX_ID_SIZE];
    struct err err = {0};

    (void)state;
    assert_int_equal(sandbox_id_parse("ia\0b", 4, out, &err), -1);
}

static void new_ids_are_well_formed_and_differ(void **state)
{
    char a[SANDBOX_ID_SIZE], b[SANDBOX_ID_SIZE], parsed[SANDBOX_ID_SIZE];
    struct err err = {0};

    (void)state;
    sandbox_id_new(a);
    sandbox_id_new(b);
    assert_int_equal(strlen(a), 1 + SANDBOX_ID_CHARS);
    assert_int_equal(a[0], 'i');
    assert_string_not_equal(a, b);
    assert_int_equal(sandbox_id_parse(a, strlen(a), parsed, &err), 0);
    assert_string_equal(a, parsed);
}

static void states_round_trip_and_clients_see_two(void **state)
{
    enum sandbox_state parsed;

    (void)state;
    for (int i = 0; i < SANDBOX_STATE_COUNT; i++) {
        const char *shown = sandbox_state_public((enum sandbox_state)i);
        assert_int_equal(sandbox_state_parse(sandbox_state_name((enum sandbox_state)i), &parsed),
                         0);
        assert_int_equal(parsed, i);
        assert_true(strcmp(shown, "running") == 0 || strcmp(shown, "paused") == 0);
    }
    assert_int_equal(sandbox_state_parse("gone", &parsed), -1);
    assert_false(sandbox_state_visible(SANDBOX_CREATING));
    assert_false(sandbox_state_visible(SANDBOX_KILLING));
    assert_true(sandbox_state_visible(SANDBOX_PAUSING));
    assert_string_equal(sandbox_state_public(SANDBOX_PAUSING), "paused");
}

static void a_copy_owns_its_strings(void **state)
{
    struct sandbox a = {.id = "i1"}, b;

    (void)state;
    a.metadata = mem_strdup("{\"a\":\"b\"}");
    sandbox_copy(&b, &a);
    assert_ptr_not_equal(a.metadata, b.metadata);
    sandbox_clear(&a);
    assert_null(a.metadata);
    assert_string_equal(b.metadata, "{\"a\":\"b\"}");
    assert_null(b.env);
    sandbox_clear(&b);
}

static void the_base_template_is_public_with_a_stable_uuid(void **state)
{
    struct template a, b;

    (void)state;
    template_base(&a, 1000);
    template_base(&b, 2000);
    assert_string_equal(a.id, "base");
    assert_string_equal(a.alias, "base");
    assert_true(a.is_public);
    assert_int_equal(a.created_unix_ms, 1000);
    assert_int_equal(strlen(a.build_id), UUID_SIZE - 1);
    assert_int_equal(a.build_id[14], '8');
    assert_string_equal(a.build_id, b.build_id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sandbox_id_parse_accepts_id_with_optional_client_part),
        cmocka_unit_test(sandbox_id_parse_refuses_a_nul_inside),
        cmocka_unit_test(new_ids_are_well_formed_and_differ),
        cmocka_unit_test(states_round_trip_and_clients_see_two),
        cmocka_unit_test(a_copy_owns_its_strings),
        cmocka_unit_test(the_base_template_is_public_with_a_stable_uuid),
    };

    if (hash_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
