#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/placeholder.h"
#include "server/model/secret.h"

static void ids_are_type_ids_in_the_order_of_time(void **state)
{
    char first[SECRET_ID_SIZE], second[SECRET_ID_SIZE];

    (void)state;
    secret_id_new(1700000000000, first);
    secret_id_new(1700000000001, second);
    assert_int_equal(strlen(first), SECRET_ID_SIZE - 1);
    assert_true(secret_id_valid(first));
    assert_true(strcmp(first, second) < 0);
    /* the same UUID's first 48 bits, by hand: 0x018bcfe56800 */
    assert_memory_equal(first, "sec_01hf7yat00", 14);
}

static void only_type_ids_are_ids(void **state)
{
    static const char *const wrong[] = {
        "",
        "sec_",
        "sec_01hf7yat0000000000000000",
        "sec_01hf7yat000000000000000000x0",
        "sec_81hf7yat00000000000000000z", /* more than 128 bits */
        "sec_01hf7yat0000000000000000il",
        "SEC_01hf7yat000000000000000000",
        "01hf7yat000000000000000000",
    };
    (void)state;
    for (size_t i = 0; i < array_size(wrong); i++) {
        if (secret_id_valid(wrong[i]))
            fail_msg("accepted: %s", wrong[i]);
    }
    assert_true(secret_id_valid("sec_7zzzzzzzzzzzzzzzzzzzzzzzzz"));
}

static void names_are_trimmed_and_lower_case(void **state)
{
    char name[SECRET_NAME_SIZE], longest[SECRET_NAME_SIZE];
    struct err err = {0};

    (void)state;
    assert_int_equal(secret_name_parse(" \tOpenAI-Key_1\r\n", 16, name, &err), 0);
    assert_string_equal(name, "openai-key_1");
    memset(longest, 'x', sizeof(longest));
    assert_int_equal(secret_name_parse(longest, 128, name, &err), 0);
    assert_int_equal(secret_name_parse(longest, 129, name, &err), -1);
}

static void other_names_are_refused(void **state)
{
    static const char *const wrong[] = {"", "  ", "a b", "a.b", "é", "a/b", "sec_x", "SEC_x", "a{"};
    char name[SECRET_NAME_SIZE] = "same";

    (void)state;
    for (size_t i = 0; i < array_size(wrong); i++) {
        struct err err = {0};
        if (secret_name_parse(wrong[i], strlen(wrong[i]), name, &err) == 0)
            fail_msg("accepted: %s", wrong[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(name, "same");
    }
}

/* COUNT entries with values of VALUE_LEN bytes. */
static int check_metadata(int count, size_t value_len)
{
    _cleanup_json_ json_t *metadata = json_object();
    char key[16], value[SECRET_METADATA_VALUE_MAX + 2];
    struct err err = {0};

    memset(value, 'v', sizeof(value));
    value[value_len] = '\0';
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "k%03d", i);
        json_put_str(metadata, key, value);
    }
    return secret_metadata_check(metadata, &err);
}

static void metadata_has_limits(void **state)
{
    (void)state;
    assert_int_equal(check_metadata(0, 0), 0);
    assert_int_equal(check_metadata(32, 252), 0);
    assert_int_equal(check_metadata(32, 253), -1); /* 8224 bytes */
    assert_int_equal(check_metadata(33, 1), -1);
    assert_int_equal(check_metadata(1, 1024), 0);
    assert_int_equal(check_metadata(1, 1025), -1);
}

/* The parts of VALUE as text: "t:", "s:", "i:" before each, or "bad". */
static void parts(const char *value, char *out, size_t size)
{
    static const char marks[] = {
        [PLACEHOLDER_TEXT] = 't', [PLACEHOLDER_SECRET] = 's', [PLACEHOLDER_TOKEN] = 'i'};
    struct placeholder part = {0};
    struct err err = {0};
    size_t at = 0, used = 0;

    out[0] = '\0';
    for (;;) {
        if (placeholder_next(value, &at, &part, &err) < 0) {
            snprintf(out, size, "bad");
            return;
        }
        if (part.kind == PLACEHOLDER_END)
            return;
        used += (size_t)snprintf(out + used, size - used, "[%c:%.*s]", marks[part.kind],
                                 (int)part.len, part.text);
    }
}

static void placeholders_are_found(void **state)
{
    static const struct {
        const char *value, *expected;
    } cases[] = {
        {"", ""},
        {"plain $ ${x} $${", "[t:plain $ ${x} $${]"},
        {"Bearer ${e2b.secrets.a-b}", "[t:Bearer ][s:a-b]"},
        {"${e2b.secrets.a}${e2b.secrets.b}!", "[s:a][s:b][t:!]"},
        {"${e2b.identity.tokens.aws}", "[i:aws]"},
        {"${e2b.secrets.}", "bad"},
        {"${e2b.secrets.a", "bad"},
        {"${e2b.other.a}", "bad"},
        {"${e2b.}", "bad"},
        {"${e2b.secrets.${e2b.secrets.a}}", "bad"},
        {"${e2b.secrets.a\nb}", "bad"},
    };
    char found[256];

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        parts(cases[i].value, found, sizeof(found));
        assert_string_equal(found, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_type_ids_in_the_order_of_time),
        cmocka_unit_test(only_type_ids_are_ids),
        cmocka_unit_test(names_are_trimmed_and_lower_case),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(metadata_has_limits),
        cmocka_unit_test(placeholders_are_found),
    };
    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
