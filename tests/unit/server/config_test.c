#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/config.h"

#define ARGS_MAX 8

static char file_path[64];

static int setup(void **state)
{
    (void)state;
    snprintf(file_path, sizeof(file_path), "/tmp/config-test-%d.json", (int)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file_path);
    unsetenv("SANDPIT_API_LISTEN");
    unsetenv("SANDPIT_THREADS");
    unsetenv("SANDPIT_DEV");
    unsetenv("SANDPIT_CONFIG");
    return 0;
}

static void write_file(const char *text)
{
    FILE *file = fopen(file_path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Settings of the words in LINE, split at spaces. */
static int load(const char *line, struct settings *out, struct err *err)
{
    char copy[512], *argv[ARGS_MAX], *rest = copy, *word;
    int argc = 0;

    snprintf(copy, sizeof(copy), "%s", line);
    while ((word = strsep(&rest, " ")) != NULL) {
        if (*word != '\0')
            argv[argc++] = word;
    }
    settings_init(out);
    return settings_args(out, argc, argv, err) < 0 || settings_finish(out, err) < 0 ? -1 : 0;
}

static void defaults_are_those_of_the_contract(void **state)
{
    _cleanup_settings_ struct settings s;
    struct err err = {0};

    (void)state;
    assert_int_equal(load("", &s, &err), 0);
    assert_string_equal(settings_text(&s, SETTING_API_LISTEN), "127.0.0.1:3000");
    assert_string_equal(settings_text(&s, SETTING_TRAFFIC_LISTEN), "127.0.0.1:3002");
    assert_string_equal(settings_text(&s, SETTING_OPS_LISTEN), "127.0.0.1:3001");
    assert_string_equal(settings_text(&s, SETTING_STATE_DIR), "/var/lib/sandpit");
    assert_string_equal(settings_text(&s, SETTING_RUN_DIR), "/run/sandpit");
    assert_string_equal(settings_text(&s, SETTING_ENGINE), "local");
    assert_null(settings_text(&s, SETTING_TLS_LISTEN));
    assert_null(settings_text(&s, SETTING_DOMAIN));
    assert_false(settings_on(&s, SETTING_DEV));
    assert_in_range(settings_threads(&s), 1, 16);
}

static void dev_listens_on_both_families(void **state)
{
    _cleanup_settings_ struct settings s, own;
    char addresses[LISTEN_MAX][ADDRESS_SIZE];
    struct err err = {0};

    (void)state;
    assert_int_equal(load("--dev", &s, &err), 0);
    assert_int_equal(settings_addresses(settings_text(&s, SETTING_TLS_LISTEN), addresses), 2);
    assert_string_equal(addresses[0], "127.0.0.1:3443");
    assert_string_equal(addresses[1], "[::1]:3443");
    assert_null(settings_text(&s, SETTING_DOMAIN));
    assert_int_equal(load("--dev --tls-listen 127.0.0.1:9", &own, &err), 0);
    assert_string_equal(settings_text(&own, SETTING_TLS_LISTEN), "127.0.0.1:9");
}

static void flags_win_then_variables_then_the_file(void **state)
{
    _cleanup_settings_ struct settings file, variable, flag;
    struct err err = {0};
    char line[128];

    (void)state;
    write_file("{\"api_listen\": \"127.0.0.1:1\", \"threads\": 3, \"dev\": true}");
    snprintf(line, sizeof(line), "--config %s", file_path);
    assert_int_equal(load(line, &file, &err), 0);
    assert_string_equal(settings_text(&file, SETTING_API_LISTEN), "127.0.0.1:1");
    assert_int_equal(settings_threads(&file), 3);
    assert_true(settings_on(&file, SETTING_DEV));
    setenv("SANDPIT_API_LISTEN", "127.0.0.1:2", 1);
    setenv("SANDPIT_DEV", "false", 1);
    assert_int_equal(load(line, &variable, &err), 0);
    assert_string_equal(settings_text(&variable, SETTING_API_LISTEN), "127.0.0.1:2");
    assert_false(settings_on(&variable, SETTING_DEV));
    assert_int_equal(settings_threads(&variable), 3);
    snprintf(line, sizeof(line), "--api-listen=127.0.0.1:3 --config=%s", file_path);
    assert_int_equal(load(line, &flag, &err), 0);
    assert_string_equal(settings_text(&flag, SETTING_API_LISTEN), "127.0.0.1:3");
}

static void config_file_may_be_named_by_a_variable(void **state)
{
    _cleanup_settings_ struct settings s;
    struct err err = {0};

    (void)state;
    write_file("{\"workers\": 5}");
    setenv("SANDPIT_CONFIG", file_path, 1);
    assert_int_equal(load("", &s, &err), 0);
    assert_int_equal(s.number[SETTING_WORKERS], 5);
}

static void wrong_flags_are_named(void **state)
{
    static const struct {
        const char *line, *named;
    } cases[] = {
        {"--nonsense 1", "--nonsense"},
        {"--api", "--api"},
        {"stray", "stray"},
        {"-x", "-x"},
        {"--api-listen", "--api-listen"},
        {"--api-listen 127.0.0.1", "--api-listen"},
        {"--api-listen 127.0.0.1:65536", "--api-listen"},
        {"--api-listen 127.0.0.1:1,", "--api-listen"},
        {"--tls-listen :1,:2,:3,:4,:5", "--tls-listen"},
        {"--threads 257", "--threads"},
        {"--threads -1", "--threads"},
        {"--threads 2x", "--threads"},
        {"--id-base 65537", "--id-base"},
        {"--engine docker", "--engine"},
        {"--log-level loud", "--log-level"},
        {"--dev=maybe", "--dev"},
        {"--domain *.box.test", "--domain"},
        {"--domain https://box.test", "--domain"},
        {"--domain box.test:0", "--domain"},
        {"--state-dir=", "--state-dir"},
        {"--workers 1 --workers 2", "--workers"},
        {"--config /nonexistent/sandpit.json", "/nonexistent/sandpit.json"},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_settings_ struct settings s;
        struct err err = {0};
        if (load(cases[i].line, &s, &err) != -1)
            fail_msg("accepted: %s", cases[i].line);
        assert_int_equal(err.code, ERR_INVALID);
        if (strstr(err.msg, cases[i].named) == NULL)
            fail_msg("'%s' does not name %s", err.msg, cases[i].named);
    }
}

static void wrong_variables_are_named(void **state)
{
    _cleanup_settings_ struct settings s;
    struct err err = {0};

    (void)state;
    setenv("SANDPIT_THREADS", "many", 1);
    assert_int_equal(load("", &s, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "SANDPIT_THREADS"));
}

static void wrong_files_are_named_with_their_key(void **state)
{
    static const struct {
        const char *text, *named;
    } cases[] = {
        {"{\"api-listen\": \":1\"}", "api-listen"},
        {"{\"nonsense\": 1}", "nonsense"},
        {"{\"config\": \"x\"}", "config"},
        {"{\"threads\": \"3\"}", "threads"},
        {"{\"threads\": 300}", "threads"},
        {"{\"dev\": 1}", "dev"},
        {"{\"api_listen\": 3000}", "api_listen"},
        {"{\"api_listen\": null}", "api_listen"},
        {"[]", "config-test"},
        {"threads = 3", "config-test"},
        {"{\"threads\": 1, \"threads\": 2}", "config-test"},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_settings_ struct settings s;
        struct err err = {0};
        char line[128];
        write_file(cases[i].text);
        snprintf(line, sizeof(line), "--config %s", file_path);
        if (load(line, &s, &err) != -1)
            fail_msg("accepted: %s", cases[i].text);
        assert_int_equal(err.code, ERR_INVALID);
        if (strstr(err.msg, cases[i].named) == NULL)
            fail_msg("'%s' does not name %s", err.msg, cases[i].named);
    }
}

static void paths_become_absolute(void **state)
{
    _cleanup_settings_ struct settings s;
    struct err err = {0};
    char cwd[512], expected[600];

    (void)state;
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    snprintf(expected, sizeof(expected), "%s/build/state", cwd);
    assert_int_equal(load("--state-dir ./build/state", &s, &err), 0);
    assert_string_equal(settings_text(&s, SETTING_STATE_DIR), expected);
}

static void what_belongs_together_is_checked(void **state)
{
    static const struct {
        const char *line, *named;
    } cases[] = {
        {"--envd /bin/true --tls-listen :1", "--tls-cert"},
        {"--envd /bin/true --tls-cert /etc/passwd", "--tls-key"},
        {"--envd /bin/true --dev --domain box.test", "box.test"},
        {"--envd /nonexistent", "--envd"},
        {"--envd /bin/true --namespace x", "--namespace"},
        {"--envd /bin/true --state-dir /etc/passwd", "--state-dir"},
        {"--envd /bin/true --dev", NULL},
        {"--envd /bin/true --dev --domain sandpit.localhost:3443", NULL},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_settings_ struct settings s;
        struct err err = {0};
        assert_int_equal(load(cases[i].line, &s, &err), 0);
        int rc = settings_check(&s, &err);
        if (rc != (cases[i].named == NULL ? 0 : -1))
            fail_msg("%s: %d %s", cases[i].line, rc, err.msg);
        if (rc < 0 && strstr(err.msg, cases[i].named) == NULL)
            fail_msg("'%s' does not name %s", err.msg, cases[i].named);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_those_of_the_contract),
        TEST(dev_listens_on_both_families),
        TEST(flags_win_then_variables_then_the_file),
        TEST(config_file_may_be_named_by_a_variable),
        TEST(wrong_flags_are_named),
        TEST(wrong_variables_are_named),
        TEST(wrong_files_are_named_with_their_key),
        TEST(paths_become_absolute),
        TEST(what_belongs_together_is_checked),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
