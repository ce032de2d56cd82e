#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/model/network.h"

static void addresses_are_read_as_they_are_written(void **state)
{
    static const struct {
        const char *text;
        int rc;
        bool ipv6;
        uint32_t address;
        uint8_t prefix;
    } cases[] = {
        {"1.2.3.4", 0, false, 0x01020304, 32},
        {"1.2.3.4/24", 0, false, 0x01020300, 24}, /* host bits are cut off */
        {"0.0.0.0/0", 0, false, 0, 0},
        {"255.255.255.255/32", 0, false, 0xffffffff, 32},
        {"::1", 0, true, 0, 0},
        {"2001:db8::/32", 0, true, 0, 0},
        {"::/128", 0, true, 0, 0},
        {"", -1, false, 0, 0},
        {"1.2.3", -1, false, 0, 0},
        {"1.2.3.4.5", -1, false, 0, 0},
        {"1.2.3.256", -1, false, 0, 0},
        {"01.2.3.4", -1, false, 0, 0},
        {"1.2.3.4/33", -1, false, 0, 0},
        {"1.2.3.4/", -1, false, 0, 0},
        {"1.2.3.4/-1", -1, false, 0, 0},
        {"1.2.3.4/ 8", -1, false, 0, 0},
        {"1.2.3.4/8/8", -1, false, 0, 0},
        {"::1/129", -1, false, 0, 0},
        {" 1.2.3.4", -1, false, 0, 0},
        {"example.com", -1, false, 0, 0},
        {"1.2.3.4; drop table", -1, false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct net_cidr cidr = {7, 7};
        bool ipv6 = false;
        int rc = net_cidr_parse(cases[i].text, strlen(cases[i].text), &cidr, &ipv6);
        if (rc != cases[i].rc || ipv6 != cases[i].ipv6)
            fail_msg("%s: %d %d", cases[i].text, rc, ipv6);
        if (rc == 0 && !ipv6 &&
            (cidr.address != cases[i].address || cidr.prefix != cases[i].prefix))
            fail_msg("%s: %x/%u", cases[i].text, cidr.address, cidr.prefix);
    }
}

static void host_names_are_names(void **state)
{
    static const struct {
        const char *name;
        bool plain, wildcard;
    } cases[] = {
        {"example.com", true, true},
        {"a.b-c.D_e", true, true},
        {"*.example.com", false, true},
        {"*.com", false, true},
        {"localhost", false, false},
        {"*", false, false},
        {"*.", false, false},
        {".com", false, false},
        {"a..b", false, false},
        {"a.b.", false, false},
        {"-a.b", false, false},
        {"a-.b", false, false},
        {"a.b-", false, false},
        {"1.2.3.4", false, false},
        {"a.*.b", false, false},
        {"*.*.b", false, false},
        {"a b.c", false, false},
        {"a.b/c", false, false},
        {"xn--bcher-kva.example", true, true},
        {"b\xc3\xbc.de", false, false},
        {"", false, false},
    };
    char long_label[80];

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        size_t len = strlen(cases[i].name);
        if (net_host_valid(cases[i].name, len, false) != cases[i].plain ||
            net_host_valid(cases[i].name, len, true) != cases[i].wildcard)
            fail_msg("%s", cases[i].name);
    }
    memset(long_label, 'a', 64);
    memcpy(long_label + 64, ".b", 3);
    assert_false(net_host_valid(long_label, 66, false));
    assert_true(net_host_valid(long_label + 1, 65, false));
}

static void a_pattern_covers_names_below_it(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool match;
    } cases[] = {
        {"example.com", "example.com", true},
        {"example.com", "EXAMPLE.com.", true},
        {"example.com", "a.example.com", false},
        {"*.example.com", "a.example.com", true},
        {"*.example.com", "a.b.example.com", true},
        {"*.example.com", "example.com", false},
        {"*.example.com", ".example.com", false},
        {"*.example.com", "aexample.com", false},
        {"*.example.com", "a.example.com.evil.org", false},
        {"example.com", "", false},
        {"example.com", ".", false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        if (net_host_match(cases[i].pattern, cases[i].name, strlen(cases[i].name)) !=
            cases[i].match)
            fail_msg("%s %s", cases[i].pattern, cases[i].name);
}

static void load(const char *text, struct net_policy *out)
{
    struct err err = {0};

    if (net_policy_parse(text, strlen(text), out, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
}

static void what_a_policy_says_of_an_address(void **state)
{
    static const struct {
        const char *policy;
        uint32_t address;
        enum net_verdict verdict;
    } cases[] = {
        {"{}", 0x01010101, NET_OPEN},
        {"{}", 0x0a000001, NET_PRIVATE},
        {"{}", 0xa9fea9fe, NET_PRIVATE}, /* metadata */
        {"{}", 0x64800001, NET_OPEN},    /* 100.128.0.1: past CGNAT */
        {"{}", 0x647f0001, NET_PRIVATE},
        {"{}", 0x7f000001, NET_NEVER},
        {"{}", 0x0a000202, NET_NEVER}, /* 10.0.2.2 */
        {"{}", 0x64400006, NET_NEVER}, /* another sandbox */
        {"{\"denyOut\":[\"1.0.0.0/8\"]}", 0x01010101, NET_DENIED},
        {"{\"denyOut\":[\"1.0.0.0/8\"],\"allowOut\":[\"1.1.1.1\"]}", 0x01010101, NET_ALLOWED},
        {"{\"denyOut\":[\"0.0.0.0/0\"],\"allowOut\":[\"1.1.1.1\"]}", 0x01010102, NET_DENIED},
        /* a wide entry does not open what is private; a narrow one does */
        {"{\"allowOut\":[\"0.0.0.0/0\"]}", 0x0a000001, NET_PRIVATE},
        {"{\"allowOut\":[\"8.0.0.0/5\"]}", 0x0a000001, NET_PRIVATE},
        {"{\"allowOut\":[\"10.0.0.0/8\"]}", 0x0a000001, NET_ALLOWED},
        {"{\"allowOut\":[\"10.0.0.0/24\"]}", 0x0a000101, NET_PRIVATE},
        {"{\"allowOut\":[\"169.254.169.254\"]}", 0xa9fea9fe, NET_ALLOWED},
        /* never is never */
        {"{\"allowOut\":[\"127.0.0.1\"]}", 0x7f000001, NET_NEVER},
        {"{\"allowOut\":[\"100.64.0.0/16\"]}", 0x64400006, NET_NEVER},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_net_policy_ struct net_policy policy = {0};
        enum net_verdict verdict;
        load(cases[i].policy, &policy);
        verdict = net_policy_address(&policy, cases[i].address);
        if (verdict != cases[i].verdict)
            fail_msg("%s %x: %d", cases[i].policy, cases[i].address, verdict);
    }
}

static void a_policy_knows_when_it_needs_the_gateway(void **state)
{
    static const struct {
        const char *policy;
        bool gateway;
    } cases[] = {
        {"{}", false},
        {"{\"allowOut\":[\"1.1.1.1\"],\"denyOut\":[\"0.0.0.0/0\",\"::/0\"]}", false},
        {"{\"dnsServers\":[\"1.1.1.1\"],\"rules\":{}}", false},
        {"{\"allowOut\":[\"*.a.b\"]}", true},
        {"{\"rules\":{\"a.b\":[]}}", true},
        {"{\"egressProxy\":{\"address\":\"a.b:1\"}}", true},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_net_policy_ struct net_policy policy = {0};
        load(cases[i].policy, &policy);
        if (policy.gateway != cases[i].gateway)
            fail_msg("%s", cases[i].policy);
    }
}

static void a_broken_policy_is_refused_whole(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"allowOut\":{}}",
        "{\"allowOut\":[1]}",
        "{\"allowOut\":[\"not a name\"]}",
        "{\"denyOut\":[\"example.com\"]}",
        "{\"dnsServers\":[\"1.1.1.0/24\"]}",
        "{\"dnsServers\":[\"::1\"]}",
        "{\"rules\":[]}",
    };

    (void)state;
    for (size_t i = 1; i < array_size(bad); i++) {
        struct net_policy policy = {.host_count = 77};
        struct err err = {0};
        if (net_policy_parse(bad[i], strlen(bad[i]), &policy, &err) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(policy.host_count, 77);
    }
}

static void ingress_settings_are_read_from_what_is_stored(void **state)
{
    struct net_ingress ingress;

    (void)state;
    net_ingress_read(NULL, &ingress);
    assert_string_equal(ingress.mask_host, "");
    assert_false(net_ingress_https(&ingress, 443));
    net_ingress_read("{\"maskRequestHost\":\"a:${PORT}\",\"httpsPorts\":[443,8443]}", &ingress);
    assert_string_equal(ingress.mask_host, "a:${PORT}");
    assert_true(net_ingress_https(&ingress, 8443));
    assert_false(net_ingress_https(&ingress, 80));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_as_they_are_written),
        cmocka_unit_test(host_names_are_names),
        cmocka_unit_test(a_pattern_covers_names_below_it),
        cmocka_unit_test(what_a_policy_says_of_an_address),
        cmocka_unit_test(a_policy_knows_when_it_needs_the_gateway),
        cmocka_unit_test(a_broken_policy_is_refused_whole),
        cmocka_unit_test(ingress_settings_are_read_from_what_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
