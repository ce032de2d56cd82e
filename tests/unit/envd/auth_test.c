#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/auth.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define NOW 1700000000
#define HS256 "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

static const uint8_t key[32] = {1, 2, 3};

/* A compact token over the two texts, to free(). */
static char *sign(const char *header, const char *claims, const uint8_t *with)
{
    char a[512], b[512], c[64];
    uint8_t mac[SHA256_BYTES];
    _cleanup_free_ char *text = NULL;

    base64_encode(BASE64_URL_RAW, header, strlen(header), a);
    base64_encode(BASE64_URL_RAW, claims, strlen(claims), b);
    text = mem_asprintf("%s.%s", a, b);
    hash_hmac_sha256(with, 32, text, strlen(text), mac);
    base64_encode(BASE64_URL_RAW, mac, sizeof(mac), c);
    return mem_asprintf("%s.%s", text, c);
}

static void a_token_must_be_signed_and_in_time(void **state)
{
    static const struct {
        const char *header, *claims;
        int rc;
    } cases[] = {
        {HS256, "{\"sub\":\"s\",\"user\":\"u\",\"exp\":1700000001}", 0},
        {HS256, "{\"sub\":\"s\",\"user\":\"u\",\"exp\":1699999996}", 0}, /* leeway */
        {HS256, "{\"sub\":\"s\",\"user\":\"u\",\"exp\":1699999990}", -1},
        {HS256, "{\"sub\":\"s\",\"user\":\"u\"}", -1},
        {HS256, "{\"sub\":\"s\",\"exp\":\"1700000001\"}", -1},
        {HS256, "{\"sub\":\"s\",\"exp\":-1}", -1},
        {HS256, "{\"sub\":\"s\",\"exp\":99999999999,\"nbf\":1700000100}", -1},
        {HS256, "{\"sub\":5,\"exp\":1700000001}", -1},
        {HS256, "{\"sub\":\"s\",\"platform\":\"true\",\"exp\":1700000001}", -1},
        {HS256, "[1]", -1},
        {HS256, "", -1},
        {"{\"alg\":\"none\"}", "{\"sub\":\"s\",\"exp\":1700000001}", -1},
        {"{\"alg\":\"HS512\"}", "{\"sub\":\"s\",\"exp\":1700000001}", -1},
        {"{\"alg\":\"hs256\"}", "{\"sub\":\"s\",\"exp\":1700000001}", -1},
        {"{}", "{\"sub\":\"s\",\"exp\":1700000001}", -1},
        {"{\"alg\":\"HS256\",\"crit\":[\"x\"]}", "{\"sub\":\"s\",\"exp\":1700000001}", -1},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *token = sign(cases[i].header, cases[i].claims, key);
        struct jwt_claims claims = {0};

        if (jwt_verify(token, strlen(token), key, sizeof(key), NOW, &claims) != cases[i].rc)
            fail_msg("case %zu", i);
        if (cases[i].rc == 0) {
            assert_string_equal(claims.subject, "s");
            assert_string_equal(claims.user, "u");
        }
    }
}

/* The signature of the example in RFC 7515, appendix A.1 (its key has 64 bytes). */
static void the_example_of_the_rfc_verifies(void **state)
{
    static const char token[] =
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
        "cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    static const char key64[] =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    struct jwt_claims claims;
    uint8_t raw[80];
    size_t len;

    (void)state;
    assert_int_equal(base64_decode(key64, sizeof(key64) - 1, raw, &len), 0);
    assert_int_equal(jwt_verify(token, sizeof(token) - 1, raw, len, 1300819370, &claims), 0);
    assert_int_equal(jwt_verify(token, sizeof(token) - 1, raw, len, 1300819390, &claims), -1);
    assert_int_equal(jwt_verify(token, sizeof(token) - 1, raw, len - 1, 1300819370, &claims), -1);
}

static void a_changed_token_is_refused(void **state)
{
    _cleanup_free_ char *token = sign(HS256, "{\"sub\":\"s\",\"exp\":1700000001}", key);
    size_t len = strlen(token);
    struct jwt_claims claims;

    (void)state;
    for (size_t i = 0; i < len - 1; i++) { /* of the last digit two bits do not count */
        char was = token[i];

        token[i] = was == 'A' ? 'B' : 'A';
        if (jwt_verify(token, len, key, sizeof(key), NOW, &claims) == 0)
            fail_msg("byte %zu does not matter", i);
        token[i] = was;
        assert_int_equal(jwt_verify(token, i, key, sizeof(key), NOW, &claims), -1);
    }
}

struct setting {
    bool insecure, key, token;
};

static void settings_make(const struct setting *from, struct settings *out)
{
    static char none[] = "", id[] = "sbx", token[] = "tok";

    memset(out, 0, sizeof(*out));
    out->insecure = from->insecure;
    out->sandbox_id = from->key ? id : none;
    out->access_token = from->token ? token : NULL;
    out->has_jwt_key = from->key;
    memcpy(out->jwt_key.bytes, key, sizeof(key));
    out->jwt_key.len = sizeof(key);
}

static void who_may_do_what(void **state)
{
    enum { NOBODY, BASIC, JWT, BAD_JWT, OTHERS_JWT, PLATFORM_JWT };
    static const struct {
        struct setting setting;
        int authorization;
        const char *token;
        enum route_auth need;
        int rc;
        const char *user;
    } cases[] = {
        {{true, true, true}, NOBODY, NULL, ROUTE_GUARDED, 0, ""},
        {{true, true, true}, BASIC, NULL, ROUTE_GUARDED, 0, "bob"},
        {{false, false, false}, NOBODY, NULL, ROUTE_GUARDED, 0, ""},
        {{false, false, false}, BAD_JWT, NULL, ROUTE_GUARDED, 0, ""}, /* no key: not looked at */
        {{false, true, false}, NOBODY, NULL, ROUTE_GUARDED, -1, ""},
        {{false, true, false}, BASIC, NULL, ROUTE_GUARDED, -1, ""},
        {{false, true, false}, JWT, NULL, ROUTE_GUARDED, 0, "amy"},
        {{false, true, false}, OTHERS_JWT, NULL, ROUTE_GUARDED, -1, ""},
        {{false, true, false}, NOBODY, NULL, ROUTE_OPEN, 0, ""},
        {{false, true, false}, NOBODY, NULL, ROUTE_TOKEN_ONLY, 0, ""},
        {{false, true, false}, NOBODY, NULL, ROUTE_FILES, -1, ""},
        {{false, true, false}, JWT, NULL, ROUTE_FILES, 0, "amy"},
        {{false, true, false}, BAD_JWT, NULL, ROUTE_OPEN, -1, ""},
        {{false, true, true}, JWT, NULL, ROUTE_GUARDED, -1, ""},
        {{false, true, true}, JWT, "tok", ROUTE_GUARDED, 0, "amy"},
        {{false, true, true}, BASIC, "tok", ROUTE_GUARDED, 0, "bob"},
        {{false, true, true}, BAD_JWT, "tok", ROUTE_GUARDED, -1, ""},
        {{false, true, true}, NOBODY, "tok2", ROUTE_GUARDED, -1, ""},
        {{false, true, true}, NOBODY, "to", ROUTE_GUARDED, -1, ""},
        {{false, true, true}, NOBODY, "", ROUTE_GUARDED, -1, ""},
        {{false, true, true}, NOBODY, NULL, ROUTE_TOKEN_ONLY, -1, ""},
        {{false, true, true}, NOBODY, NULL, ROUTE_FILES, 0, ""}, /* the signature is its matter */
        {{false, false, true}, BASIC, NULL, ROUTE_GUARDED, -1, ""},
        {{false, false, true}, BASIC, "tok", ROUTE_GUARDED, 0, "bob"},
        {{true, true, true}, NOBODY, NULL, ROUTE_PLATFORM, 0, ""},
        {{false, true, true}, PLATFORM_JWT, NULL, ROUTE_PLATFORM, 0, ""},
        {{false, true, false}, PLATFORM_JWT, NULL, ROUTE_PLATFORM, 0, ""},
        {{false, true, true}, PLATFORM_JWT, NULL, ROUTE_GUARDED, -1, ""}, /* it is no pass key */
        {{false, true, true}, JWT, "tok", ROUTE_PLATFORM, -1, ""},
        {{false, true, true}, NOBODY, "tok", ROUTE_PLATFORM, -1, ""},
        {{false, true, false}, JWT, NULL, ROUTE_PLATFORM, -1, ""},
        {{false, false, true}, NOBODY, "tok", ROUTE_PLATFORM, 0, ""},
        {{false, false, true}, NOBODY, "tok2", ROUTE_PLATFORM, -1, ""},
        {{false, false, false}, NOBODY, NULL, ROUTE_PLATFORM, -1, ""},
    };
    int64_t soon = time_unix_ms() / 1000 + 60;
    _cleanup_free_ char *claims =
        mem_asprintf("{\"sub\":\"sbx\",\"user\":\"amy\",\"exp\":%lld}", (long long)soon);
    _cleanup_free_ char *others = mem_asprintf("{\"sub\":\"sbx2\",\"exp\":%lld}", (long long)soon);
    _cleanup_free_ char *good = sign(HS256, claims, key);
    _cleanup_free_ char *other = sign(HS256, others, key);
    _cleanup_free_ char *platforms =
        mem_asprintf("{\"sub\":\"sbx\",\"platform\":true,\"exp\":%lld}", (long long)soon);
    _cleanup_free_ char *platform = sign(HS256, platforms, key);
    _cleanup_free_ char *platform_bearer = mem_asprintf("Bearer %s", platform);
    _cleanup_free_ char *bearer = mem_asprintf("bearer %s", good);
    _cleanup_free_ char *others_bearer = mem_asprintf("Bearer %s", other);
    const char *const authorization[] = {NULL,           "Basic Ym9iOng=", bearer,
                                         "Bearer a.b.c", others_bearer,    platform_bearer};

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct auth_headers headers = {authorization[cases[i].authorization], cases[i].token};
        struct settings settings;
        struct auth auth = {0};
        struct err err = {0};

        settings_make(&cases[i].setting, &settings);
        if (auth_check(&settings, cases[i].need, &headers, &auth, &err) != cases[i].rc)
            fail_msg("case %zu", i);
        if (cases[i].rc < 0)
            assert_int_equal(err.code, ERR_UNAUTHENTICATED);
        else
            assert_string_equal(auth.user, cases[i].user);
        assert_int_equal(auth.jwt_valid,
                         cases[i].rc == 0 && (cases[i].authorization == JWT ||
                                              cases[i].authorization == PLATFORM_JWT));
    }
}

static void a_basic_header_that_cannot_be_read_names_nobody(void **state)
{
    static const char *const headers[] = {"Basic",      "Basic ",         "Basic ***",
                                          "Basic Ym9i", "Basic OnBhc3M=", "Digest Ym9iOg=="};

    (void)state;
    for (size_t i = 0; i < array_size(headers); i++) {
        struct auth_headers given = {headers[i], NULL};
        struct setting setting = {false, false, false};
        struct settings settings;
        struct auth auth = {0};
        struct err err = {0};

        settings_make(&setting, &settings);
        assert_int_equal(auth_check(&settings, ROUTE_GUARDED, &given, &auth, &err), 0);
        assert_false(auth.has_user);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_must_be_signed_and_in_time),
        cmocka_unit_test(the_example_of_the_rfc_verifies),
        cmocka_unit_test(a_changed_token_is_refused),
        cmocka_unit_test(who_may_do_what),
        cmocka_unit_test(a_basic_header_that_cannot_be_read_names_nobody),
    };

    if (hash_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
