#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/sign.h"
#include "server/base/hash.h"
#include "server/base/mem.h"

#define PLAIN "v1_wPjHOh/p+K3FbqiyGd5vwPNc/g4IPd8sigMxb1gqu9I"
#define EXPIRING "v1_xOMb53MUPCM+GpStbNeywTRjSTvLEfHnMX0ycpmI4h8"

static const struct sign_request plain = {"a.txt", "read", "user", NULL};
static const struct sign_request expiring = {"a.txt", "read", "user", "1700000000"};

static void sign_makes_the_known_vectors(void **state)
{
    char out[SIGN_SIZE];

    (void)state;
    sign_make(&plain, "tok", out);
    assert_string_equal(out, PLAIN);
    sign_make(&expiring, "tok", out);
    assert_string_equal(out, EXPIRING);
}

static void sign_accepts_what_it_made(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(sign_check(&plain, "tok", PLAIN, 1800000000, &err), 0);
    assert_int_equal(sign_check(&expiring, "tok", EXPIRING, 1700000000, &err), 0);
    assert_int_equal(err.code, ERR_NONE);
}

static void sign_refuses_what_is_missing_wrong_or_late(void **state)
{
    static const struct {
        struct sign_request request;
        const char *token, *signature, *msg;
        enum err_code code;
    } cases[] = {
        {{"a.txt", "read", "user", NULL},
         "tok",
         NULL,
         "missing signature query parameter",
         ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "user", NULL}, "tok", "", "invalid signature", ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "user", NULL},
         "tok",
         PLAIN "=",
         "invalid signature",
         ERR_UNAUTHENTICATED},
        {{"a.txt", "write", "user", NULL}, "tok", PLAIN, "invalid signature", ERR_UNAUTHENTICATED},
        {{"b.txt", "read", "user", NULL}, "tok", PLAIN, "invalid signature", ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "root", NULL}, "tok", PLAIN, "invalid signature", ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "user", NULL}, "tik", PLAIN, "invalid signature", ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "user", "1700000000"},
         "tok",
         PLAIN,
         "invalid signature",
         ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "user", "1700000000"},
         "tok",
         EXPIRING,
         "signature is already expired",
         ERR_UNAUTHENTICATED},
        {{"a.txt", "read", "user", "soon"}, "tok", EXPIRING, NULL, ERR_INVALID},
        {{"a.txt", "read", "user", ""}, "tok", EXPIRING, NULL, ERR_INVALID},
        {{"a.txt", "read", "user", "99999999999999999999"}, "tok", EXPIRING, NULL, ERR_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        if (sign_check(&cases[i].request, cases[i].token, cases[i].signature, 1700000001, &err) !=
            -1)
            fail_msg("row %zu was accepted", i);
        assert_int_equal(err.code, cases[i].code);
        if (cases[i].msg != NULL)
            assert_string_equal(err.msg, cases[i].msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_makes_the_known_vectors),
        cmocka_unit_test(sign_accepts_what_it_made),
        cmocka_unit_test(sign_refuses_what_is_missing_wrong_or_late),
    };
    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
