/*
 * Listening addresses, and a port that is in use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/loop/address.h"
#include "server/loop/listener.h"

static void text_of(const struct address *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN];

    if (address->sa.any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &address->sa.v6.sin6_addr, host, sizeof(host));
    else
        inet_ntop(AF_INET, &address->sa.v4.sin_addr, host, sizeof(host));
    snprintf(out, size, "%s %u", host, address_port(address));
}

static void addresses_are_parsed(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        const char *want[ADDRESS_MAX];
    } cases[] = {
        {"127.0.0.1:3000", 1, {"127.0.0.1 3000", NULL}},
        {"0.0.0.0:1", 1, {"0.0.0.0 1", NULL}},
        {"[::1]:65535", 1, {"::1 65535", NULL}},
        {"[2001:db8::1:2]:80", 1, {"2001:db8::1:2 80", NULL}},
        {"localhost:0", 2, {"127.0.0.1 0", "::1 0"}},
        {":3000", 2, {"0.0.0.0 3000", ":: 3000"}},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct address out[ADDRESS_MAX];
        size_t count = 0;
        struct err err = {0};

        if (address_parse(cases[i].text, out, &count, &err) < 0)
            fail_msg("%s: %s", cases[i].text, err.msg);
        assert_int_equal(count, cases[i].count);
        for (size_t k = 0; k < count; k++) {
            char text[80];

            text_of(&out[k], text, sizeof(text));
            assert_string_equal(text, cases[i].want[k]);
        }
    }
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        ":",
        "::1:80",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "[1.2.3.4]:1",
        "example.com:80",
        "localhost:http",
        "256.0.0.1:80",
        "1.2.3:80",
        " 1.2.3.4:80",
        "1.2.3.4:80 ",
        "[::1%lo]:80",
        "LOCALHOST:1",
        "[[::1]]:1",
        "a:b:1",
        "1.2.3.4:0x50",
        "[::1]x:80",
        "x[::1]:80",
        "unix:/s:1",
        "*:80",
        "1.2.3.4:+80",
        "127.0.0.1:3000:3001",
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct address out[ADDRESS_MAX];
        size_t count = 7;
        struct err err = {0};

        if (address_parse(cases[i], out, &count, &err) != -1)
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(count, 7);
    }
}

static void a_port_in_use_is_busy(void **state)
{
    struct loop *loops[2] = {loop_new(), loop_new()};
    struct listener *first = NULL;
    struct listener *second = NULL;
    struct err err = {0};
    char address[64];

    (void)state;
    assert_int_equal(listener_new("localhost:0", loops, 2, NULL, &first, &err), 0);
    assert_int_not_equal(listener_port(first), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", listener_port(first));
    assert_int_equal(listener_new(address, loops, 2, NULL, &second, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_non_null(strstr(err.msg, address));
    assert_null(second);
    listener_free(first);
    assert_int_equal(listener_new(address, loops, 2, NULL, &second, &err), 0); /* free again */
    listener_free(second);
    assert_int_equal(listener_new("192.0.2.1:0", loops, 2, NULL, &first, &err), -1); /* not ours */
    loop_free(loops[0]);
    loop_free(loops[1]);
}

static void a_missing_certificate_is_named(void **state)
{
    struct tls *tls = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(tls_new("/nowhere/cert.pem", "/nowhere/key.pem", &tls, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "/nowhere/cert.pem"));
    assert_null(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_parsed),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_port_in_use_is_busy),
        cmocka_unit_test(a_missing_certificate_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
