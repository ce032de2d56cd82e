#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/rootfs_base.h"
#include "server/engine/local/seccomp.h"

static void the_rules_forbid_every_private_range_and_the_host(void **state)
{
    static const char *const needed[] = {
        "0.0.0.0/8",      "10.0.0.0/8",
        "100.64.0.0/10",  "127.0.0.0/8",
        "169.254.0.0/16", "172.16.0.0/12",
        "192.168.0.0/16", "192.0.2.7",
        "policy drop",    "oifname != \"tap0\" drop",
    };
    const uint32_t hosts[] = {0xc0000207};
    struct buf rules;

    (void)state;
    buf_init(&rules, 65536);
    egress_rules(&rules, hosts, 1, 999);
    assert_false(rules.overflow);
    for (size_t i = 0; i < array_size(needed); i++) {
        if (strstr(buf_str(&rules), needed[i]) == NULL)
            fail_msg("missing: %s", needed[i]);
    }
    buf_clear(&rules);
}

static void nft_accepts_the_rules(void **state)
{
    char *nft = router_find_program("nft");
    const uint32_t hosts[] = {0xc0000207, 0x7f000001, 0x0a000001};
    struct err err = {0};
    struct buf rules;

    (void)state;
    if (nft == NULL || geteuid() != 0) {
        free(nft);
        skip();
    }
    buf_init(&rules, 65536);
    egress_rules(&rules, hosts, 3, 999);
    char *argv[] = {nft, (char[]){"--check"}, (char[]){"-f"}, (char[]){"-"}, NULL};
    if (router_run_program(argv, rules.data, rules.len, &err) < 0)
        fail_msg("%s: %s", err.msg, err.detail);
    buf_clear(&rules);
    free(nft);
}

static void a_failing_program_tells_its_words(void **state)
{
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"},
                    (char[]){"read line; echo \"no $line\"; exit 3"}, NULL};
    struct err err = {0};

    (void)state;
    assert_int_equal(router_run_program(argv, "bread\n", 6, &err), -1);
    assert_non_null(strstr(err.detail, "no bread"));
    argv[0] = (char[]){"/no/such/program"};
    assert_int_equal(router_run_program(argv, "", 0, &err), -1);
}

static void the_base_template_names_each_path_once_and_parents_first(void **state)
{
    (void)state;
    for (size_t i = 0; i < base_entry_count; i++) {
        const char *path = base_entries[i].path;
        const char *slash = strrchr(path, '/');
        bool parent = slash == NULL;
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(path, base_entries[j].path);
            parent |= slash != NULL && S_ISDIR(base_entries[j].mode) &&
                      mem_is(path, (size_t)(slash - path), base_entries[j].path);
        }
        if (!parent)
            fail_msg("no folder for %s before it", path);
        if (S_ISREG(base_entries[i].mode) || S_ISLNK(base_entries[i].mode))
            assert_non_null(base_entries[i].text);
    }
}

static void the_seccomp_filter_compiles(void **state)
{
    struct seccomp_program *program = NULL;
    struct err err = {0};

    (void)state;
    if (seccomp_compile(&program, &err) < 0)
        fail_msg("%s: %s", err.msg, err.detail);
    seccomp_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_forbid_every_private_range_and_the_host),
        cmocka_unit_test(nft_accepts_the_rules),
        cmocka_unit_test(a_failing_program_tells_its_words),
        cmocka_unit_test(the_base_template_names_each_path_once_and_parents_first),
        cmocka_unit_test(the_seccomp_filter_compiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
