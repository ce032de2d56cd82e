#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/auth/auth.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/team.h"

#define LOOKUP_THREADS 4

static char dir[64];
static struct store *store; /* the server's connection */
static struct auth *auth;

static int setup(void **state)
{
    struct err err = {0};

    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/auth-test-XXXXXX");
    if (mkdtemp(dir) == NULL || store_open(dir, &store, &err) < 0 ||
        auth_new(store, &auth, &err) < 0)
        return -1;
    return 0;
}

static int teardown(void **state)
{
    char path[128];

    (void)state;
    auth_free(auth);
    store_close(store);
    snprintf(path, sizeof(path), "%s/sandpit.db", dir);
    unlink(path);
    return rmdir(dir);
}

/* Add a key through WHERE; its text to TEXT. */
static void add_key(struct store *where, const char *id, uint32_t scopes, int64_t expires_unix_ms,
                    char text[KEY_TEXT_SIZE])
{
    struct key key = {.namespace_ = "team",
                      .client = "ci",
                      .scopes = scopes,
                      .created_unix_ms = time_unix_ms(),
                      .expires_unix_ms = expires_unix_ms};
    struct err err = {0};

    snprintf(key.id, sizeof(key.id), "%s", id);
    key_text_new(text);
    assert_int_equal(key_text_hash(text, strlen(text), key.sha256), 0);
    assert_int_equal(store_key_add(where, &key, &err), 0);
    assert_int_equal(auth_refresh(auth, &err), 0);
}

static void known_key_gives_its_identity(void **state)
{
    struct identity who = {0};
    struct err err = {0};
    char key[KEY_TEXT_SIZE], bearer[128];

    (void)state;
    for (int i = 0; i < 20; i++) {
        char id[32];
        snprintf(id, sizeof(id), "other-%d", i);
        add_key(store, id, SCOPE_READ, 0, key);
    }
    add_key(store, "k1", SCOPE_READ | SCOPE_WRITE, 0, key);
    assert_int_equal(auth_check(auth, key, NULL, &who, &err), 0);
    assert_string_equal(who.key_id, "k1");
    assert_string_equal(who.namespace_, "team");
    assert_string_equal(who.client, "ci");
    assert_int_equal(who.scopes, SCOPE_READ | SCOPE_WRITE);
    snprintf(bearer, sizeof(bearer), "Bearer %s", key);
    assert_int_equal(auth_check(auth, NULL, bearer, &who, &err), 0);
    snprintf(bearer, sizeof(bearer), "bearer sk_%s", key);
    assert_int_equal(auth_check(auth, NULL, bearer, &who, &err), 0);
}

static void refusals_have_the_words_that_clients_know(void **state)
{
    static const struct {
        const char *api_key, *authorization, *expected;
    } cases[] = {
        {NULL, NULL, "authorization header is missing"},
        {NULL, "Basic abc", "authorization header is malformed"},
        {NULL, "Bearer ", "authorization header is malformed"},
        {NULL, "", "authorization header is malformed"},
        {"", NULL, "Invalid API key format"},
        {"nonsense", NULL, "Invalid API key format"},
        {"e2b_0000000000000000000000000000000000000000", NULL, "Cannot get the team"},
        {NULL, "Bearer sk_e2b_0000000000000000000000000000000000000000", "Cannot get the team"},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct identity who = {.scopes = 9};
        struct err err = {0};
        assert_int_equal(auth_check(auth, cases[i].api_key, cases[i].authorization, &who, &err),
                         -1);
        assert_int_equal(err.code, ERR_UNAUTHENTICATED);
        assert_non_null(strstr(err.msg, cases[i].expected));
        assert_int_equal(who.scopes, 9);
    }
}

static void key_ends_when_its_time_comes(void **state)
{
    struct identity who;
    struct err err = {0};
    char key[KEY_TEXT_SIZE];
    int64_t end = time_unix_ms() + 500;

    (void)state;
    add_key(store, "k1", SCOPE_READ, end, key);
    assert_int_equal(auth_check(auth, key, NULL, &who, &err), 0);
    while (time_unix_ms() < end)
        usleep(10 * 1000);
    assert_int_equal(auth_check(auth, key, NULL, &who, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHENTICATED);
}

static void revocation_by_another_connection_is_seen_within_a_second(void **state)
{
    struct store *cli = NULL;
    struct identity who;
    struct err err = {0};
    char key[KEY_TEXT_SIZE];
    int64_t start;

    (void)state;
    assert_int_equal(store_open(dir, &cli, &err), 0);
    add_key(cli, "k1", SCOPE_READ, 0, key);
    assert_int_equal(auth_check(auth, key, NULL, &who, &err), 0);
    assert_int_equal(store_key_revoke(cli, "k1", &err), 0);
    start = time_mono_ms();
    while (auth_check(auth, key, NULL, &who, &err) == 0 && time_mono_ms() - start < 5000)
        usleep(5 * 1000);
    assert_true(time_mono_ms() - start < 1000);
    store_close(cli);
}

static void scope_that_is_missing_is_named(void **state)
{
    struct identity who = {.scopes = SCOPE_READ};
    struct err err = {0};

    (void)state;
    assert_int_equal(auth_scope(&who, SCOPE_READ, &err), 0);
    assert_int_equal(auth_scope(&who, SCOPE_NONE, &err), 0);
    assert_int_equal(auth_scope(&who, SCOPE_WRITE, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_non_null(strstr(err.msg, "'write'"));
}

static void access_token_works_as_bearer_alone(void **state)
{
    struct key key = {
        .kind = KEY_TOKEN, .namespace_ = "team", .client = "ci", .scopes = SCOPE_READ};
    char text[KEY_TEXT_SIZE], bearer[128];
    struct identity who;
    struct err err = {0};

    (void)state;
    key_make(&key, text);
    assert_int_equal(store_key_add(store, &key, &err), 0);
    assert_int_equal(auth_refresh(auth, &err), 0);
    snprintf(bearer, sizeof(bearer), "Bearer sk_%s", text);
    assert_int_equal(auth_check(auth, NULL, bearer, &who, &err), 0);
    assert_int_equal(auth_check(auth, text, NULL, &who, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHENTICATED);
}

static void admin_token_is_a_key_with_that_scope(void **state)
{
    char plain[KEY_TEXT_SIZE], operator_[KEY_TEXT_SIZE], namespace_[NAMESPACE_SIZE] = "?";
    char team[UUID_SIZE];
    struct identity who;
    struct err err = {0};

    (void)state;
    add_key(store, "k1", SCOPE_READ | SCOPE_WRITE | SCOPE_KEYS, 0, plain);
    add_key(store, "k2", SCOPE_READ | SCOPE_ADMIN, 0, operator_);
    assert_int_equal(auth_check_admin(auth, NULL, &who, &err), -1);
    assert_int_equal(auth_check_admin(auth, plain, &who, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHENTICATED);
    assert_int_equal(auth_check_admin(auth, operator_, &who, &err), 0);
    assert_int_equal(who.scopes, SCOPE_ADMIN);
    assert_string_equal(who.namespace_, "");
    team_id("team", team);
    assert_int_equal(auth_team(auth, team, namespace_, &err), 0);
    assert_string_equal(namespace_, "team");
    team_id("team2", team);
    assert_int_equal(auth_team(auth, team, namespace_, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(auth_team(auth, "team", namespace_, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* The first key of the store. */
static struct key first_key(void)
{
    struct key *keys, key;
    struct err err = {0};
    size_t count;

    assert_int_equal(store_key_list(store, &keys, &count, &err), 0);
    assert_true(count > 0);
    key = keys[count - 1]; /* newest first */
    free(keys);
    return key;
}

static void last_use_is_known_at_once_and_kept(void **state)
{
    char text[KEY_TEXT_SIZE], other[KEY_TEXT_SIZE];
    int64_t before = time_unix_ms(), used;
    struct identity who;
    struct err err = {0};
    struct key key;

    (void)state;
    add_key(store, "k1", SCOPE_READ, 0, text);
    key = first_key();
    assert_int_equal(auth_last_used(auth, &key), 0);
    assert_int_equal(auth_check(auth, text, NULL, &who, &err), 0);
    used = auth_last_used(auth, &key);
    assert_true(used >= before);
    assert_int_equal(first_key().used_unix_ms, 0); /* written down later */
    add_key(store, "k2", SCOPE_READ, 0, other);    /* a new set of keys */
    assert_int_equal(auth_last_used(auth, &key), used);
    auth_free(auth);
    assert_int_equal(auth_new(store, &auth, &err), 0);
    key = first_key();
    assert_int_equal(key.used_unix_ms, used);
    assert_int_equal(auth_last_used(auth, &key), used);
}

struct lookups {
    const char *key;
    atomic_bool stop;
    atomic_long good, bad;
};

static void *look_up(void *arg)
{
    struct lookups *l = arg;

    while (!atomic_load(&l->stop)) {
        struct identity who;
        struct err err;
        if (auth_check(auth, l->key, NULL, &who, &err) == 0 && strcmp(who.key_id, "k1") == 0)
            l->good++;
        else
            l->bad++;
        usleep(100);
    }
    return NULL;
}

static void lookups_go_on_while_keys_change(void **state)
{
    char key[KEY_TEXT_SIZE], other[KEY_TEXT_SIZE], id[32];
    struct lookups l = {.key = key};
    pthread_t threads[LOOKUP_THREADS];

    (void)state;
    add_key(store, "k1", SCOPE_READ, 0, key);
    for (int i = 0; i < LOOKUP_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up, &l), 0);
    for (int i = 0; i < 50; i++) {
        snprintf(id, sizeof(id), "x%d", i);
        add_key(store, id, SCOPE_READ, 0, other);
    }
    while (atomic_load(&l.good) == 0)
        usleep(1000);
    atomic_store(&l.stop, true);
    for (int i = 0; i < LOOKUP_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(l.bad, 0);
}

/* The JSON of one base64url part of a token. */
static json_t *decode_part(const char *part, size_t len)
{
    struct err err = {0};
    uint8_t out[512];
    size_t out_len = 0;
    json_t *json;

    assert_true(len < sizeof(out));
    assert_int_equal(base64_decode(part, len, out, &out_len), 0);
    json = json_parse_object((const char *)out, out_len, &err);
    assert_non_null(json);
    return json;
}

static void check_signature(const char *token, const char *dot2, const uint8_t *key)
{
    char expected[BASE64_SIZE(SHA256_BYTES)];
    uint8_t mac[SHA256_BYTES];

    hash_hmac_sha256(key, SHA256_BYTES, token, (size_t)(dot2 - token), mac);
    base64_encode(BASE64_URL_RAW, mac, sizeof(mac), expected);
    assert_string_equal(dot2 + 1, expected);
}

static void jwt_is_signed_and_says_who_and_until_when(void **state)
{
    static const char *const users[] = {"root", NULL};
    uint8_t key[SHA256_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)i; /* begins with a NUL byte on purpose */
    for (size_t i = 0; i < array_size(users); i++) {
        _cleanup_free_ char *token = NULL;
        _cleanup_json_ json_t *head = NULL, *claims = NULL;
        struct err err = {0};
        assert_int_equal(auth_jwt(key, "iabc", users[i], 1700000000, &token, &err), 0);
        const char *dot1 = strchr(token, '.'), *dot2 = strrchr(token, '.');
        assert_true(dot1 != NULL && dot2 > dot1);
        head = decode_part(token, (size_t)(dot1 - token));
        claims = decode_part(dot1 + 1, (size_t)(dot2 - dot1 - 1));
        assert_string_equal(json_string_value(json_object_get(head, "alg")), "HS256");
        assert_string_equal(json_string_value(json_object_get(claims, "sub")), "iabc");
        assert_int_equal(json_integer_value(json_object_get(claims, "iat")), 1700000000);
        assert_int_equal(json_integer_value(json_object_get(claims, "exp")),
                         1700000000 + JWT_LIFE_S);
        assert_int_equal(json_has(claims, "user"), users[i] != NULL);
        check_signature(token, dot2, key);
    }
}

static void the_platforms_own_jwt_says_so(void **state)
{
    _cleanup_free_ char *token = NULL;
    _cleanup_json_ json_t *claims = NULL;
    uint8_t key[SHA256_BYTES] = {1};
    const char *dot1, *dot2;
    struct err err = {0};

    (void)state;
    assert_int_equal(auth_jwt_platform(key, "iabc", 1700000000, &token, &err), 0);
    dot1 = strchr(token, '.');
    dot2 = strrchr(token, '.');
    claims = decode_part(dot1 + 1, (size_t)(dot2 - dot1 - 1));
    assert_true(json_is_true(json_object_get(claims, "platform")));
    assert_string_equal(json_string_value(json_object_get(claims, "sub")), "iabc");
    check_signature(token, dot2, key);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(known_key_gives_its_identity),
        TEST(refusals_have_the_words_that_clients_know),
        TEST(key_ends_when_its_time_comes),
        TEST(revocation_by_another_connection_is_seen_within_a_second),
        TEST(scope_that_is_missing_is_named),
        TEST(access_token_works_as_bearer_alone),
        TEST(admin_token_is_a_key_with_that_scope),
        TEST(last_use_is_known_at_once_and_kept),
        TEST(lookups_go_on_while_keys_change),
        cmocka_unit_test(jwt_is_signed_and_says_who_and_until_when),
        cmocka_unit_test(the_platforms_own_jwt_says_so),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
