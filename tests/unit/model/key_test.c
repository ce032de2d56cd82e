#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/model/key.h"

#define HEX40 "0123456789abcdef0123456789abcdef01234567"

static void new_key_has_the_form_that_sdks_check(void **state)
{
    char a[KEY_TEXT_SIZE], b[KEY_TEXT_SIZE];
    uint8_t sha256[SHA256_BYTES];

    (void)state;
    key_text_new(a);
    key_text_new(b);
    assert_int_equal(strlen(a), 44);
    assert_memory_equal(a, "e2b_", 4);
    assert_int_equal(strspn(a + 4, "0123456789abcdef"), 40);
    assert_string_not_equal(a, b);
    assert_int_equal(key_text_hash(a, strlen(a), sha256), 0);
}

static void key_and_access_token_are_one_key(void **state)
{
    static const char *const forms[] = {
        "e2b_" HEX40,
        "sk_e2b_" HEX40,
        "e2b_0123456789ABCDEF0123456789ABCDEF01234567",
    };
    uint8_t expected[SHA256_BYTES], sha256[SHA256_BYTES];

    (void)state;
    hash_sha256("e2b_" HEX40, 44, expected);
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        memset(sha256, 0, sizeof(sha256));
        assert_int_equal(key_text_hash(forms[i], strlen(forms[i]), sha256), 0);
        assert_memory_equal(sha256, expected, SHA256_BYTES);
    }
}

static void text_of_another_form_is_no_key(void **state)
{
    static const char *const bad[] = {
        "",
        "e2b_",
        HEX40,
        "e2b_" HEX40 "0",
        "e2b_0123456789abcdef0123456789abcdef0123456",
        "e2b_0123456789abcdef0123456789abcdef0123456g",
        "E2B_" HEX40,
        "sk_" HEX40,
        " e2b_" HEX40,
    };
    uint8_t sha256[SHA256_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (key_text_hash(bad[i], strlen(bad[i]), sha256) != -1)
            fail_msg("accepted: '%s'", bad[i]);
    }
}

static void names_are_checked(void **state)
{
    char long_name[65];
    struct err err = {0};

    (void)state;
    memset(long_name, 'a', 64);
    long_name[64] = '\0';
    assert_int_equal(key_name_check("team-1_x", "namespace", &err), 0);
    assert_int_equal(key_name_check(long_name + 1, "namespace", &err), 0);
    assert_int_equal(key_name_check("", "client", &err), -1);
    assert_non_null(strstr(err.msg, "client"));
    assert_int_equal(key_name_check("Team", "namespace", &err), -1);
    assert_int_equal(key_name_check("a/b", "namespace", &err), -1);
    assert_int_equal(key_name_check(long_name, "namespace", &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void scopes_go_to_bits_and_back(void **state)
{
    static const struct {
        const char *text;
        uint32_t bits; /* 0: refused */
        const char *back;
    } cases[] = {
        {"read", SCOPE_READ, "read"},
        {"write", SCOPE_WRITE, "write"},
        {"write,read", SCOPE_READ | SCOPE_WRITE, "read,write"},
        {"read,read", SCOPE_READ, "read"},
        {"", 0, NULL},
        {"root", 0, NULL},
        {"admin,keys,write,read", SCOPE_ALL, "read,write,keys,admin"},
        {"read,", 0, NULL},
        {"read, write", 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {0};
        uint32_t bits = 77;
        char text[KEY_SCOPES_SIZE];
        int rc = key_scopes_parse(cases[i].text, &bits, &err);
        if (cases[i].bits == 0) {
            assert_int_equal(rc, -1);
            assert_int_equal(bits, 77);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_int_equal(bits, cases[i].bits);
        key_scopes_format(bits, text);
        assert_string_equal(text, cases[i].back);
    }
}

static void revoked_or_expired_is_not_usable(void **state)
{
    struct key key = {.expires_unix_ms = 0};

    (void)state;
    assert_true(key_usable(&key, 1000));
    key.expires_unix_ms = 1000;
    assert_true(key_usable(&key, 999));
    assert_false(key_usable(&key, 1000));
    key.expires_unix_ms = 0;
    key.revoked = true;
    assert_false(key_usable(&key, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_key_has_the_form_that_sdks_check),
        cmocka_unit_test(key_and_access_token_are_one_key),
        cmocka_unit_test(text_of_another_form_is_no_key),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(scopes_go_to_bits_and_back),
        cmocka_unit_test(revoked_or_expired_is_not_usable),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
