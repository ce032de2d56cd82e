#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/auth/volume_token.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/team.h"

#define NOW 1800000000
#define VOLUME "0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11"
#define OTHER "1b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11"

static const uint8_t key[SHA256_BYTES] = {1, 2, 3};
static const uint8_t foreign[SHA256_BYTES] = {9};

static char *make(uint32_t scopes)
{
    struct identity who = {.namespace_ = "team", .client = "me", .scopes = scopes};
    struct err err = {0};
    char *text = NULL;

    assert_int_equal(volume_token_make(key, &who, VOLUME, "box.test", NOW, &text, &err), 0);
    return text;
}

static void a_token_stands_for_who_got_it(void **state)
{
    _cleanup_free_ char *text = make(SCOPE_READ);
    struct identity who = {.scopes = 0};
    struct err err = {0};

    (void)state;
    assert_int_equal(volume_token_check(key, text, VOLUME, NOW, &who, &err), 0);
    assert_string_equal(who.namespace_, "team");
    assert_string_equal(who.client, "me");
    assert_int_equal(who.scopes, SCOPE_READ);
    assert_int_equal(auth_scope(&who, SCOPE_READ, &err), 0);
    assert_int_equal(auth_scope(&who, SCOPE_WRITE, &err), -1);
}

/* Part N of TEXT between the dots, as JSON. */
static json_t *part(const char *text, int n)
{
    uint8_t bytes[2048];
    size_t len, out_len;
    struct err err = {0};
    json_t *json;

    while (n-- > 0)
        text = strchr(text, '.') + 1;
    len = strcspn(text, ".");
    assert_int_equal(base64_decode(text, len, bytes, &out_len), 0);
    json = json_parse((const char *)bytes, out_len, &err);
    assert_non_null(json);
    return json;
}

static void it_has_the_claims_of_the_contract(void **state)
{
    _cleanup_free_ char *text = make(SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN);
    _cleanup_json_ json_t *head = part(text, 0), *claims = part(text, 1);
    char team[UUID_SIZE];

    (void)state;
    team_id("team", team);
    assert_string_equal(json_string_value(json_object_get(head, "alg")), "HS256");
    assert_non_null(json_string_value(json_object_get(head, "kid")));
    assert_string_equal(json_string_value(json_object_get(claims, "aud")), "https://api.box.test");
    assert_string_equal(json_string_value(json_object_get(claims, "sub")), team);
    assert_string_equal(json_string_value(json_object_get(claims, "teamid")), team);
    assert_string_equal(json_string_value(json_object_get(claims, "volid")), VOLUME);
    assert_string_equal(json_string_value(json_object_get(claims, "scope")), "read,write");
    assert_non_null(json_string_value(json_object_get(claims, "voltype")));
    assert_non_null(json_string_value(json_object_get(claims, "jti")));
    assert_int_equal(json_integer_value(json_object_get(claims, "iat")), NOW);
    assert_int_equal(json_integer_value(json_object_get(claims, "nbf")), NOW);
    assert_int_equal(json_integer_value(json_object_get(claims, "exp")), NOW + VOLUME_TOKEN_LIFE_S);
}

static void other_tokens_are_refused(void **state)
{
    _cleanup_free_ char *text = make(SCOPE_READ), *changed = mem_strdup(text), *jwt = NULL;
    _cleanup_free_ char *longer = mem_zalloc(VOLUME_TOKEN_MAX + 2);
    struct identity who = {.scopes = 77};
    struct err err = {0};
    static const char *const bad[] = {
        "", ".", "..", "a.b.c", "e30.e30.", "e30..", "eyJhbGciOiJub25lIn0.e30."};

    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        assert_int_equal(volume_token_check(key, bad[i], VOLUME, NOW, &who, &err), -1);
        assert_int_equal(err.code, ERR_UNAUTHENTICATED);
    }
    changed[strlen(changed) / 2] ^= 1;
    assert_int_equal(volume_token_check(key, changed, VOLUME, NOW, &who, &err), -1);
    assert_int_equal(volume_token_check(foreign, text, VOLUME, NOW, &who, &err), -1);
    memset(longer, 'a', VOLUME_TOKEN_MAX + 1);
    assert_int_equal(volume_token_check(key, longer, VOLUME, NOW, &who, &err), -1);
    assert_int_equal(auth_jwt(key, "isandbox", "user", NOW, &jwt, &err), 0); /* for envd */
    assert_int_equal(volume_token_check(key, jwt, VOLUME, NOW, &who, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHENTICATED);
    assert_int_equal(volume_token_check(key, text, OTHER, NOW, &who, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(who.scopes, 77);
}

static void it_is_good_for_a_day(void **state)
{
    _cleanup_free_ char *text = make(SCOPE_READ);
    struct identity who;
    struct err err = {0};
    const int64_t end = NOW + VOLUME_TOKEN_LIFE_S;

    (void)state;
    assert_int_equal(volume_token_check(key, text, VOLUME, end - 1, &who, &err), 0);
    assert_int_equal(volume_token_check(key, text, VOLUME, end, &who, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHENTICATED);
    assert_int_equal(volume_token_check(key, text, VOLUME, NOW - 30, &who, &err), 0);
    assert_int_equal(volume_token_check(key, text, VOLUME, NOW - 3600, &who, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_stands_for_who_got_it),
        cmocka_unit_test(it_has_the_claims_of_the_contract),
        cmocka_unit_test(other_tokens_are_refused),
        cmocka_unit_test(it_is_good_for_a_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
