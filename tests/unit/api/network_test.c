#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "server/api/network.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define DENY_ALL "\"denyOut\":[\"0.0.0.0/0\"]"
#define RULE(headers) "{\"rules\":{\"a.b\":[{\"transform\":{\"headers\":{" headers "}}}]}}"

static void egress_is_checked_in_the_contracts_words(void **state)
{
    static const struct {
        const char *body;
        const char *msg; /* NULL: accepted */
    } cases[] = {
        {"{}", NULL},
        {"{\"allowOut\":null,\"denyOut\":null,\"egressProxy\":null,\"rules\":null}", NULL},
        {"{\"allowOut\":[\"1.1.1.1\",\"8.8.0.0/16\"]}", NULL},
        {"{\"allowOut\":[\"a b\"]}", "invalid allowed address a b"},
        {"{\"allowOut\":[\"localhost\"]}", "invalid allowed address localhost"},
        {"{\"allowOut\":[\"*\"]," DENY_ALL "}", "invalid allowed address *"},
        {"{\"allowOut\":[\"::1\"]}", "invalid allowed address ::1: sandboxes have no IPv6"},
        {"{\"allowOut\":[7]}", "validation error: field 'allowOut' must hold strings"},
        {"{\"denyOut\":[\"a.b\"]}", "invalid denied CIDR a.b"},
        {"{\"denyOut\":[\"1.1.1.1/33\"]}", "invalid denied CIDR 1.1.1.1/33"},
        {"{\"denyOut\":[\"::/0\"]}", NULL},
        {"{\"allowOut\":[\"a.b\"]}",
         "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out "
         "to block all other traffic."},
        {"{\"allowOut\":[\"*.a.b\"]," DENY_ALL "}", NULL},
        {"{\"dnsServers\":[]}", NULL},
        {"{\"dnsServers\":[\"1.1.1.1/32\"]}",
         "invalid DNS server 1.1.1.1/32: it must be an IPv4 address"},
        {"{\"dnsServers\":[\"::1\"]}", "invalid DNS server ::1: it must be an IPv4 address"},
        {"{\"egressProxy\":{\"address\":\"a.b:1080\",\"username\":\"u\",\"password\":\"p\"}}",
         NULL},
        {"{\"egressProxy\":{}}", "invalid egress proxy address : it must be host:port"},
        {"{\"egressProxy\":{\"address\":\"a.b\"}}",
         "invalid egress proxy address a.b: it must be host:port"},
        {"{\"egressProxy\":{\"address\":\"a.b:0\"}}",
         "invalid egress proxy address a.b:0: it must be host:port"},
        {"{\"egressProxy\":{\"address\":\"[::1]:1\"}}",
         "invalid egress proxy address [::1]:1: it must be host:port"},
        {"{\"egressProxy\":{\"address\":\"a.b:1\",\"password\":\"p\"}}",
         "egress proxy password needs a username"},
        {"{\"egressProxy\":{\"address\":\"a.b:1\",\"tls\":{\"enabled\":true,\"caCert\":\"x\"}}}",
         "egressProxy.tls.caCert must be a certificate in PEM form of at most 65536 bytes"},
        {"{\"rules\":{\"A.b\":[{}]}}", NULL},
        {"{\"rules\":{\"*\":[]}}", "invalid domain * in network rules"},
        {"{\"rules\":{\"a.b\":[],\"A.B\":[]}}", "network rules name the domain a.b twice"},
        {"{\"rules\":{\"a.b\":[{},{}]}}", "network rules for a.b: only one rule is allowed"},
        {"{\"rules\":{\"a.b\":{}}}", "validation error: field 'rules' must hold arrays"},
        {RULE("\"x-y\":\"v\""), NULL},
        {RULE("\"x y\":\"v\""),
         "a header name in network rules for a.b is not a token of at most 64 bytes"},
        {RULE("\"x\":1"), "validation error: header 'x' in network rules must be a string"},
        {RULE("\"x\":\"a\\r\\nb\""),
         "the value of header 'x' in network rules must have at most 2048 "
         "bytes and no control characters"},
        {RULE("\"x\":\"Bearer ${e2b.secrets.key}\""), NULL},
        {RULE("\"x\":\"$ {e2b. ${HOME} ${e2\""), NULL},
        {RULE("\"x\":\"${e2b.secrets.}\""),
         "Network transform header contains a malformed E2B placeholder."},
        {RULE("\"x\":\"${e2b.secrets.a\""),
         "Network transform header contains a malformed E2B placeholder."},
        {RULE("\"x\":\"${e2b.other.a}\""),
         "Network transform header contains a malformed E2B placeholder."},
        {RULE("\"x\":\"${e2b.identity.tokens.t}\""),
         "identity tokens (iam) are not enabled on this server"},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        _cleanup_json_ json_t *body = json_parse_object(cases[i].body, strlen(cases[i].body), &err);
        _cleanup_json_ json_t *kept = json_object();
        int rc;
        assert_non_null(body);
        rc = network_egress_parse(body, false, kept, &err);
        if (rc != (cases[i].msg == NULL ? 0 : -1) ||
            (rc < 0 && (err.code != ERR_INVALID || !str_eq(err.msg, cases[i].msg))))
            fail_msg("%s: %d '%s'", cases[i].body, rc, err.msg);
    }
}

static void limits_of_lists_hold(void **state)
{
    _cleanup_json_ json_t *body = json_object(), *kept = json_object();
    json_t *list = json_array(), *rules = json_object();
    struct err err = {0};

    (void)state;
    json_put(body, "denyOut", list);
    for (int i = 0; i < 1000; i++)
        json_array_append_new(list, json_string("1.1.1.1"));
    assert_int_equal(network_egress_parse(body, false, kept, &err), 0);
    json_array_append_new(list, json_string("1.1.1.1"));
    assert_int_equal(network_egress_parse(body, false, kept, &err), -1);
    json_array_clear(list);
    json_put(body, "rules", rules);
    for (int i = 0; i < 11; i++) {
        char name[16];
        snprintf(name, sizeof(name), "a%d.b", i);
        assert_int_equal(network_egress_parse(body, false, kept, &err), 0);
        json_put(rules, name, json_array());
    }
    assert_int_equal(network_egress_parse(body, false, kept, &err), -1);
    assert_string_equal(err.msg, "network rules name more than 10 domains");
}

static void names_need_no_denial_where_the_internet_is_off(void **state)
{
    _cleanup_json_ json_t *body = json_pack("{s:[s]}", "allowOut", "a.b");
    _cleanup_json_ json_t *kept = json_object();
    struct err err = {0};

    (void)state;
    assert_int_equal(network_egress_parse(body, true, kept, &err), 0);
    assert_int_equal(json_object_size(kept), 1);
}

static void ingress_is_checked(void **state)
{
    static const struct {
        const char *body;
        bool ok;
    } cases[] = {
        {"{\"maskRequestHost\":\"localhost:${PORT}\"}", true},
        {"{\"maskRequestHost\":\"${PORT}.a.b\"}", true},
        {"{\"maskRequestHost\":\"a.b:80\"}", true},
        {"{\"maskRequestHost\":\"[::1]:80\"}", true},
        {"{\"maskRequestHost\":\"\"}", true},
        {"{\"maskRequestHost\":\"a.b:x\"}", false},
        {"{\"maskRequestHost\":\"a.b:70000\"}", false},
        {"{\"maskRequestHost\":\":80\"}", false},
        {"{\"maskRequestHost\":\"b\xc3\xbc.de\"}", false},
        {"{\"maskRequestHost\":\"a b\"}", false},
        {"{\"maskRequestHost\":\"a\\r\\nX: y\"}", false},
        {"{\"maskRequestHost\":\"http://a.b\"}", false},
        {"{\"maskRequestHost\":\"a.b/c\"}", false},
        {"{\"maskRequestHost\":\"[a\"}", false},
        {"{\"maskRequestHost\":7}", false},
        {"{\"httpsPorts\":[1,65535]}", true},
        {"{\"httpsPorts\":[0]}", false},
        {"{\"httpsPorts\":[65536]}", false},
        {"{\"httpsPorts\":[\"443\"]}", false},
        {"{\"httpsPorts\":[49983]}", false},
        {"{\"allowPublicTraffic\":null}", true},
        {"{\"allowPublicTraffic\":\"no\"}", false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};
        _cleanup_json_ json_t *body = json_parse_object(cases[i].body, strlen(cases[i].body), &err);
        _cleanup_json_ json_t *kept = json_object();
        bool open = true;
        assert_non_null(body);
        if ((network_ingress_parse(body, kept, &open, &err) == 0) != cases[i].ok)
            fail_msg("%s: %s", cases[i].body, err.msg);
        assert_true(open);
    }
}

static void a_proxys_password_is_not_shown(void **state)
{
    _cleanup_json_ json_t *shown = network_shown(
        "{\"egressProxy\":{\"address\":\"a.b:1\",\"username\":\"u\",\"password\":\"p\"}}");
    json_t *proxy = json_object_get(shown, "egressProxy");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(proxy, "username")), "u");
    assert_null(json_object_get(proxy, "password"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(egress_is_checked_in_the_contracts_words),
        cmocka_unit_test(limits_of_lists_hold),
        cmocka_unit_test(names_need_no_denial_where_the_internet_is_off),
        cmocka_unit_test(ingress_is_checked),
        cmocka_unit_test(a_proxys_password_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
