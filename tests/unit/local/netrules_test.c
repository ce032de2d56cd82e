#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/netrules.h"

static const char *const policies[] = {
    "{\"allowOut\":[\"1.2.3.4\",\"1.2.3.0/24\",\"10.0.0.0/8\"],\"denyOut\":[\"0.0.0.0/0\"]}",
    "{\"denyOut\":[\"1.0.0.0/8\",\"1.1.1.1\",\"::/0\"]}",
    "{\"allowOut\":[\"*.a.b\"],\"denyOut\":[\"0.0.0.0/0\"]}",
    "{\"allowOut\":[\"a.b\"],\"denyOut\":[\"0.0.0.0/0\"],\"dnsServers\":[\"1.1.1.1\",\"1.0.0.1\"]}",
    "{\"allowOut\":[\"a.b\"],\"denyOut\":[\"0.0.0.0/0\"],\"dnsServers\":[]}",
    "{\"allowOut\":[\"0.0.0.0/0\"],\"denyOut\":[\"1.1.1.1\"]}",
    "{\"egressProxy\":{\"address\":\"a.b:1\"}}",
};

static void text_of(const char *json, struct buf *out)
{
    struct net_policy policy;
    struct err err = {0};

    assert_int_equal(net_policy_parse(json, strlen(json), &policy, &err), 0);
    buf_init(out, 1 << 20);
    netrules_text(out, &policy);
    assert_false(out->overflow);
    net_policy_clear(&policy);
}

static void nft_accepts_what_policies_become(void **state)
{
    char *nft = router_find_program("nft");

    (void)state;
    if (nft == NULL || geteuid() != 0) {
        free(nft);
        skip();
    }
    for (size_t i = 0; i < array_size(policies); i++) {
        char *argv[] = {nft, (char[]){"--check"}, (char[]){"-f"}, (char[]){"-"}, NULL};
        struct err err = {0};
        struct buf text;
        text_of(policies[i], &text);
        if (router_run_program(argv, text.data, text.len, &err) < 0)
            fail_msg("%s: %s %s", policies[i], err.detail, buf_str(&text));
        buf_clear(&text);
    }
    free(nft);
}

/* Where WORD is in TEXT; fails without. */
static size_t at(const struct buf *text, const char *word)
{
    const char *found = strstr(text->data, word);

    if (found == NULL)
        fail_msg("no '%s' in %s", word, text->data);
    return (size_t)(found - text->data);
}

static void allowed_beats_private_beats_wide_beats_denied(void **state)
{
    struct buf text;

    (void)state;
    text_of(policies[0], &text);
    buf_str(&text);
    assert_true(at(&text, "@named accept") < at(&text, "@private goto refuse"));
    assert_true(at(&text, "@private goto refuse") < at(&text, "@allow accept"));
    at(&text, "    goto refuse\n  }");             /* the rest */
    assert_null(strstr(text.data, "th dport 53")); /* no host names: no resolver either */
    buf_clear(&text);
}

static void host_names_open_the_servers_that_resolve_them(void **state)
{
    struct buf text;

    (void)state;
    text_of(policies[2], &text);
    at(&text, "10.0.2.3 meta l4proto { tcp, udp } th dport 53 accept");
    at(&text, "8.8.8.8 meta l4proto { tcp, udp } th dport 53 accept");
    at(&text, "meta l4proto tcp accept"); /* the gateway's */
    buf_clear(&text);
    text_of(policies[3], &text);
    at(&text, "10.0.2.3 udp dport 53 dnat ip to 1.1.1.1");
    at(&text, "1.0.0.1 meta l4proto { tcp, udp } th dport 53 accept");
    assert_null(strstr(text.data, "8.8.8.8"));
    buf_clear(&text);
    text_of(policies[4], &text);
    assert_null(strstr(text.data, "th dport 53"));
    buf_clear(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nft_accepts_what_policies_become),
        cmocka_unit_test(allowed_beats_private_beats_wide_beats_denied),
        cmocka_unit_test(host_names_open_the_servers_that_resolve_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
