/*
 * Text that is stored encrypted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/seal.h"

static const uint8_t key[SEAL_KEY_BYTES] = "0123456789abcdef0123456789abcde";
static const uint8_t other_key[SEAL_KEY_BYTES] = "X123456789abcdef0123456789abcde";

static void what_was_sealed_opens_with_its_key_alone(void **state)
{
    static const char text[] = "{\"TOKEN\":\"not to be read\"}";
    _cleanup_free_ char *sealed = seal_text(key, text, strlen(text));
    _cleanup_free_ char *again = seal_text(key, text, strlen(text));
    _cleanup_free_ char *opened = NULL;
    struct err err = {0};
    size_t len = 0;

    (void)state;
    assert_null(strstr(sealed, "TOKEN"));
    assert_string_not_equal(sealed, again); /* a nonce of its own each time */
    opened = seal_open(key, sealed, &len, &err);
    assert_int_equal(len, strlen(text));
    assert_string_equal(opened, text);
    assert_null(seal_open(other_key, sealed, &len, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

static void an_empty_text_is_sealed_too(void **state)
{
    _cleanup_free_ char *sealed = seal_text(key, "", 0);
    _cleanup_free_ char *opened = NULL;
    struct err err = {0};
    size_t len = 7;

    (void)state;
    opened = seal_open(key, sealed, &len, &err);
    assert_non_null(opened);
    assert_int_equal(len, 0);
}

static void what_was_changed_does_not_open(void **state)
{
    static const char *const broken[] = {"", "x", "====", "bm90IGEgYm94", "\xff\xff"};
    _cleanup_free_ char *sealed = seal_text(key, "abc", 3);
    struct err err = {0};
    size_t len = 7;

    (void)state;
    for (size_t i = 0; i < array_size(broken); i++)
        assert_null(seal_open(key, broken[i], &len, &err));
    for (size_t i = 0; sealed[i] != '\0' && sealed[i] != '='; i++) {
        char was = sealed[i];
        if (sealed[i + 1] == '=') /* its last bits are padding */
            break;
        sealed[i] = was == 'A' ? 'B' : 'A';
        assert_null(seal_open(key, sealed, &len, &err));
        sealed[i] = was;
    }
    assert_int_equal(len, 7);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sealed_opens_with_its_key_alone),
        cmocka_unit_test(an_empty_text_is_sealed_too),
        cmocka_unit_test(what_was_changed_does_not_open),
    };

    if (hash_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
