#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/proxy/pool.h"
#include "server/proxy/sock.h"
#include "server/proxy/token.h"

static const uint8_t key[SHA256_BYTES] = "a key";

static void token_is_kept_for_half_its_life(void **state)
{
    struct token_cache cache;
    struct err err = {0};
    char first[1024];

    (void)state;
    token_cache_init(&cache);
    snprintf(first, sizeof(first), "%s", token_get(&cache, key, "iabc", "user", 1000, &err));
    assert_string_equal(token_get(&cache, key, "iabc", "user", 1000 + JWT_LIFE_S / 2 - 1, &err),
                        first);
    assert_string_not_equal(token_get(&cache, key, "iabc", "user", 1000 + JWT_LIFE_S / 2, &err),
                            first);
    /* the clock went back: that token would not be valid yet */
    assert_string_equal(token_get(&cache, key, "iabc", "user", 1000, &err), first);
    token_cache_clear(&cache);
}

static void users_and_sandboxes_have_tokens_of_their_own(void **state)
{
    static const struct {
        const char *id, *user;
    } cases[] = {{"iabc", NULL}, {"iabc", ""}, {"iabc", "user"}, {"iabd", "user"}, {"iabd", NULL}};
    struct token_cache cache;
    struct err err = {0};
    char seen[array_size(cases)][1024];

    (void)state;
    token_cache_init(&cache);
    for (size_t i = 0; i < array_size(cases); i++) {
        snprintf(seen[i], sizeof(seen[i]), "%s",
                 token_get(&cache, key, cases[i].id, cases[i].user, 1000, &err));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(seen[i], seen[j]);
    }
    token_cache_clear(&cache);
}

static void token_cache_stays_bounded(void **state)
{
    struct token_cache cache;
    struct err err = {0};
    char user[32];

    (void)state;
    token_cache_init(&cache);
    for (int i = 0; i < TOKEN_CACHE_MAX + 10; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_non_null(token_get(&cache, key, "iabc", user, 1000, &err));
    }
    assert_true(cache.entries.count <= TOKEN_CACHE_MAX);
    token_cache_clear(&cache);
}

struct ends {
    h2o_socket_t *sock;
    int peer;
};

static struct ends connection(struct loop *loop)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    h2o_socket_t *sock = h2o_evloop_socket_create(loop_h2o(loop), fds[0], 0);
    sock_prepare(sock, NULL);
    return (struct ends){sock, fds[1]};
}

/* The proxy's side was closed. */
static bool is_closed(struct ends *ends)
{
    char c;
    bool closed = read(ends->peer, &c, 1) == 0;

    close(ends->peer);
    return closed;
}

static void pool_gives_the_newest_of_the_same_run(void **state)
{
    struct loop *loop = loop_new();
    struct ends old = connection(loop), fresh = connection(loop);
    struct pool pool;

    (void)state;
    pool_init(&pool, loop);
    assert_null(pool_take(&pool, "iabc", 1));
    pool_put(&pool, "iabc", 1, old.sock);
    pool_put(&pool, "iabc", 1, fresh.sock);
    assert_null(pool_take(&pool, "iabd", 1));
    assert_ptr_equal(pool_take(&pool, "iabc", 1), fresh.sock);
    assert_null(pool_take(&pool, "iabc", 2)); /* another run: what is left is closed */
    assert_null(pool_take(&pool, "iabc", 1));
    assert_true(is_closed(&old));
    sock_close(&fresh.sock);
    close(fresh.peer);
    pool_clear(&pool);
    loop_free(loop);
}

static void pool_closes_what_is_too_much_or_dropped(void **state)
{
    struct loop *loop = loop_new();
    struct ends all[POOL_IDLE_MAX + 1];
    struct pool pool;

    (void)state;
    pool_init(&pool, loop);
    for (size_t i = 0; i < array_size(all); i++) {
        all[i] = connection(loop);
        pool_put(&pool, "iabc", 1, all[i].sock);
    }
    assert_true(is_closed(&all[POOL_IDLE_MAX]));
    pool_drop(&pool, "iabc");
    for (size_t i = 0; i < POOL_IDLE_MAX; i++)
        assert_true(is_closed(&all[i]));
    assert_int_equal(pool.hosts.count, 0);
    pool_clear(&pool);
    loop_free(loop);
}

static void pool_lets_go_of_what_the_peer_closed(void **state)
{
    struct loop *loop = loop_new();
    struct ends ends = connection(loop);
    struct pool pool;

    (void)state;
    pool_init(&pool, loop);
    pool_put(&pool, "iabc", 1, ends.sock);
    close(ends.peer);
    h2o_evloop_run(loop_h2o(loop), 0);
    assert_null(pool_take(&pool, "iabc", 1));
    pool_clear(&pool);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token_is_kept_for_half_its_life),
        cmocka_unit_test(users_and_sandboxes_have_tokens_of_their_own),
        cmocka_unit_test(token_cache_stays_bounded),
        cmocka_unit_test(pool_gives_the_newest_of_the_same_run),
        cmocka_unit_test(pool_closes_what_is_too_much_or_dropped),
        cmocka_unit_test(pool_lets_go_of_what_the_peer_closed),
    };

    hash_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
