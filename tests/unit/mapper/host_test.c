#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mapper/host.h"

#define ID "iabcdefghij0123456789"

static void host_names_a_sandbox_and_port(void **state)
{
    static const struct {
        const char *host, *domain, *id_header, *port_header, *id;
        uint16_t port;
    } cases[] = {
        {"49983-" ID ".box.test", "box.test", NULL, NULL, ID, 49983},
        {"3000-" ID ".box.test:8443", "box.test", NULL, NULL, ID, 3000},
        {"3000-" ID ".box.test", "box.test:3443", NULL, NULL, ID, 3000},
        {"3000-" ID ".box.test.", "box.test", NULL, NULL, ID, 3000},
        {"3000-" ID ".box.test.:80", "box.test.", NULL, NULL, ID, 3000},
        {"3000-IABCDEFGHIJ0123456789.BOX.Test", "box.test", NULL, NULL, ID, 3000},
        {"49983-" ID "-6532622b.box.test", "box.test", NULL, NULL, ID, 49983}, /* old clients */
        {ID ".box.test", "box.test", NULL, NULL, ID, HOST_DEFAULT_PORT},
        {"80-ab12.a.b-c.d.example", NULL, NULL, NULL, "ab12", 80}, /* any domain */
        {"49983-ab12.localhost:8080", NULL, NULL, NULL, "ab12", 49983},
        {"sandbox.box.test", "box.test", ID, "49999", ID, 49999},
        {"SANDBOX.box.test:443", "box.test", ID, "49999", ID, 49999},
        {"localhost:3002", "box.test", ID, "1", ID, 1},
        {"LOCALHOST", NULL, ID "-6532622b", "65535", ID, 65535},
        {"127.0.0.1:3002", "box.test", ID, "8080", ID, 8080},
        {"[::1]:3002", "box.test", ID, "8080", ID, 8080},
        {"[2001:db8::1]", NULL, ID, "8080", ID, 8080},
        /* headers never override a per-sandbox host */
        {"3000-ab12.box.test", "box.test", ID, "49983", "ab12", 3000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host_target out = {0};
        struct err err = {0};
        if (host_parse(cases[i].host, strlen(cases[i].host), cases[i].domain, cases[i].id_header,
                       cases[i].port_header, &out, &err) != 0)
            fail_msg("refused: %s (%s)", cases[i].host, err.msg);
        assert_int_equal(out.kind, HOST_SANDBOX);
        assert_string_equal(out.id, cases[i].id);
        assert_int_equal(out.port, cases[i].port);
    }
}

static void host_refuses_what_is_not_a_sandbox_name(void **state)
{
    static const struct {
        const char *host, *domain, *id_header, *port_header, *msg;
    } cases[] = {
        {"", "box.test", NULL, NULL, "Invalid host"},
        {".", "box.test", NULL, NULL, "Invalid host"},
        {":80", "box.test", NULL, NULL, "Invalid host"},
        {"box", "box.test", NULL, NULL, "Invalid host"},
        {"nodash.box.test", "box.test", NULL, NULL, "Invalid host"},
        {"80-ab12.box.test.evil", "box.test", NULL, NULL, "Invalid host"},
        {"80-ab12.evilbox.test", "box.test", NULL, NULL, "Invalid host"},
        {"80-ab12.box.test:x", "box.test", NULL, NULL, "Invalid host"},
        {"80-ab12.box.test:99999", "box.test", NULL, NULL, "Invalid host"},
        {"localhost", NULL, NULL, NULL, "Invalid host"},
        {"127.0.0.1", NULL, NULL, NULL, "Invalid host"},
        {"[::1", NULL, ID, "80", "Invalid host"},
        {"[]", NULL, ID, "80", "Invalid host"},
        {"[::1]x", NULL, ID, "80", "Invalid host"},
        {"::1", NULL, ID, "80", "Invalid host"},
        {"sandbox.box.test", "box.test", NULL, NULL, "Invalid host"},
        {"sandbox.box.test", "box.test", "", "", "Invalid host"},
        {"sandbox.box.test", "box.test", ID, NULL, "missing header"},
        {"sandbox.box.test", "box.test", NULL, "80", "missing header"},
        {"localhost", NULL, ID, "", "missing header"},
        {"localhost", NULL, ID, "8x", "Invalid sandbox port"},
        {"localhost", NULL, ID, "-1", "Invalid sandbox port"},
        {"localhost", NULL, ID, "18446744073709551616", "Invalid sandbox port"},
        {"18446744073709551616-ab12.box.test", "box.test", NULL, NULL, "Invalid sandbox port"},
        {"localhost", NULL, "../etc", "80", "Invalid sandbox ID"},
        {"localhost", NULL, "IABCDEFGHIJ0123456789", "80", "Invalid sandbox ID"},
        {"localhost", NULL, "-", "80", "Invalid sandbox ID"},
        {"80-.box.test", "box.test", NULL, NULL, "Invalid sandbox ID"},
        {"80-a_b.box.test", "box.test", NULL, NULL, "Invalid sandbox ID"},
        {"80-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.box.test", "box.test", NULL, NULL,
         "Invalid sandbox ID"},
        {"x-ab12.box.test", "box.test", NULL, NULL, "Invalid sandbox port"},
        {"-ab12.box.test", "box.test", NULL, NULL, "Invalid sandbox port"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host_target out = {.port = 7};
        struct err err = {0};
        if (host_parse(cases[i].host, strlen(cases[i].host), cases[i].domain, cases[i].id_header,
                       cases[i].port_header, &out, &err) != -1)
            fail_msg("accepted: %s", cases[i].host);
        assert_int_equal(err.code, ERR_INVALID);
        if (strcmp(err.msg, cases[i].msg) != 0)
            fail_msg("%s: '%s', not '%s'", cases[i].host, err.msg, cases[i].msg);
        assert_int_equal(out.port, 7); /* untouched */
    }
}

static void host_knows_an_impossible_port_from_a_bad_host(void **state)
{
    static const char *const hosts[] = {"0-ab12.box.test", "65536-ab12.box.test",
                                        "18446744073709551615-ab12.box.test"};
    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct host_target out = {.port = 7};
        struct err err = {0};
        assert_int_equal(host_parse(hosts[i], strlen(hosts[i]), "box.test", NULL, NULL, &out, &err),
                         -1);
        assert_int_equal(err.code, ERR_NOT_FOUND);
        assert_string_equal(out.id, "ab12");
        assert_int_equal(out.port, 0);
    }
}

static void host_finds_the_platform_api(void **state)
{
    static const struct {
        const char *host, *domain;
    } cases[] = {{"api.box.test", "box.test"},
                 {"API.box.test.:3443", "box.test:3443"},
                 {"api.anything.example", NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host_target out = {0};
        struct err err = {0};
        assert_int_equal(
            host_parse(cases[i].host, strlen(cases[i].host), cases[i].domain, ID, "80", &out, &err),
            0);
        assert_int_equal(out.kind, HOST_API);
    }
}

static void host_of_256_bytes_is_refused(void **state)
{
    char host[300];
    struct host_target out;
    struct err err = {0};

    (void)state;
    memset(host, 'a', sizeof(host));
    memcpy(host, "80-ab.", 6);
    assert_int_equal(host_parse(host, 256, NULL, NULL, NULL, &out, &err), -1);
    assert_int_equal(host_parse(host, 255, NULL, NULL, NULL, &out, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_names_a_sandbox_and_port),
        cmocka_unit_test(host_refuses_what_is_not_a_sandbox_name),
        cmocka_unit_test(host_knows_an_impossible_port_from_a_bad_host),
        cmocka_unit_test(host_finds_the_platform_api),
        cmocka_unit_test(host_of_256_bytes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
