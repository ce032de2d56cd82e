/* The pure parts: samples' ring, lines, addresses, signatures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/observe/address.h"
#include "server/observe/log_line.h"
#include "server/observe/ring.h"
#include "server/observe/signature.h"

static void a_ring_keeps_the_newest_in_order(void **state)
{
    struct ring ring = {.samples = NULL};

    (void)state;
    for (uint32_t i = 1; i <= RING_MAX + 100; i++) {
        struct ring_sample sample = {.at_unix_s = i, .memory_used = i};
        ring_add(&ring, &sample);
        assert_int_equal(ring.count, i < RING_MAX ? i : RING_MAX);
        assert_int_equal(ring_at(&ring, ring.count - 1)->at_unix_s, i);
    }
    for (uint32_t i = 0; i < ring.count; i++)
        assert_int_equal(ring_at(&ring, i)->at_unix_s, 101 + i);
    ring_clear(&ring);
    assert_int_equal(ring.count, 0);
}

static void a_sample_of_the_same_second_replaces(void **state)
{
    struct ring ring = {.samples = NULL};

    (void)state;
    ring_add(&ring, &(struct ring_sample){.at_unix_s = 5, .memory_used = 1});
    ring_add(&ring, &(struct ring_sample){.at_unix_s = 5, .memory_used = 2});
    assert_int_equal(ring.count, 1);
    assert_int_equal(ring_at(&ring, 0)->memory_used, 2);
    ring_clear(&ring);
}

static void cpu_is_a_share_of_all_cores(void **state)
{
    (void)state;
    assert_int_equal(ring_cpu_centi(1000000, 1000000, 2), 5000);  /* one of two */
    assert_int_equal(ring_cpu_centi(2100000, 1000000, 2), 10000); /* never more than all */
    assert_int_equal(ring_cpu_centi(1234, 1000000, 1), 12);
    assert_int_equal(ring_cpu_centi(5, 0, 1), 0);
    assert_int_equal(ring_cpu_centi(5, 5, 0), 0);
    assert_int_equal(ring_cpu_centi(UINT64_MAX, 1, 1), 10000);
}

static void check_line(const char *line, size_t len, enum log_level level, const char *wanted)
{
    enum log_level found;
    _cleanup_json_ json_t *json = log_line_parse(line, len, &found);
    _cleanup_free_ char *text = json != NULL ? json_text(json) : NULL;

    assert_non_null(text);
    assert_string_equal(text, wanted);
    assert_int_equal(found, level);
}

static void lines_of_envd_and_others_become_objects(void **state)
{
    static const struct {
        const char *line;
        enum log_level level;
        const char *wanted;
    } cases[] = {
        {"{\"time\":\"x\",\"level\":\"warn\",\"msg\":\"m\",\"pid\":\"4\"}", LOG_WARN,
         "{\"level\":\"warn\",\"logger\":\"envd\",\"message\":\"m\",\"pid\":\"4\"}"},
        {"{\"level\":\"fatal\",\"message\":\"m\",\"logger\":\"l\",\"n\":7,\"b\":true,\"o\":{}}",
         LOG_INFO, "{\"level\":\"info\",\"logger\":\"l\",\"message\":\"m\",\"n\":7,\"b\":true}"},
        {"{\"level\":5,\"msg\":null,\"logger\":{}}", LOG_INFO,
         "{\"level\":\"info\",\"logger\":\"envd\",\"message\":\"\"}"},
        {"plain words", LOG_INFO,
         "{\"level\":\"info\",\"logger\":\"envd\",\"message\":\"plain words\"}"},
        {"{\"a\":1,\"a\":2}", LOG_INFO,
         "{\"level\":\"info\",\"logger\":\"envd\",\"message\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}"},
        {"\xff\x01", LOG_INFO, "{\"level\":\"info\",\"logger\":\"envd\",\"message\":\"??\"}"},
    };
    enum log_level level;

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        check_line(cases[i].line, strlen(cases[i].line), cases[i].level, cases[i].wanted);
    check_line("a\0b", 3, LOG_INFO, "{\"level\":\"info\",\"logger\":\"envd\",\"message\":\"a?b\"}");
    assert_null(log_line_parse("", 0, &level));
}

static void what_is_too_long_is_cut_at_a_character(void **state)
{
    char *words = mem_calloc(LOG_LINE_TEXT_MAX + 10, 1);
    _cleanup_json_ json_t *line = NULL;

    (void)state;
    memset(words, 'x', LOG_LINE_TEXT_MAX - 1);
    memcpy(words + LOG_LINE_TEXT_MAX - 1, "\xc3\xa4!", 4); /* its second byte would be too much */
    line = log_line_make(LOG_INFO, "l", words, NULL);
    assert_int_equal(json_string_length(json_object_get(line, "message")), LOG_LINE_TEXT_MAX - 1);
    free(words);
}

static bool is_private(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return address_is_private((struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return address_is_private((struct sockaddr *)&v6);
}

static void inside_is_told_from_outside(void **state)
{
    static const char *const inside[] = {
        "127.0.0.1",
        "127.255.0.1",
        "0.0.0.0",
        "10.9.8.7",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001::1",
        "::7f00:1",
    };
    static const char *const outside[] = {
        "1.1.1.1",          "8.8.8.8",
        "172.32.0.1",       "100.128.0.1",
        "193.0.0.1",        "2606:4700::1111",
        "2a00:1450::1",     "::ffff:8.8.8.8",
        "64:ff9b::808:808", "2001:4860:4860::8888",
    };
    const struct sockaddr unix_socket = {.sa_family = AF_UNIX};

    (void)state;
    for (size_t i = 0; i < array_size(inside); i++)
        if (!is_private(inside[i]))
            fail_msg("outside: %s", inside[i]);
    for (size_t i = 0; i < array_size(outside); i++)
        if (is_private(outside[i]))
            fail_msg("inside: %s", outside[i]);
    assert_true(address_is_private(&unix_socket));
}

static void a_signature_is_a_hash_of_secret_and_body(void **state)
{
    char out[SIGNATURE_SIZE];

    (void)state;
    /* printf 'secret{"a":1}' | openssl dgst -sha256 -binary | base64 */
    signature_make("secret", 6, "{\"a\":1}", 7, out);
    assert_string_equal(out, "N7005LKS7534v+cOP1BSYTkklJDDwllM8gF1unZl4B0");
    assert_null(strchr(out, '='));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_keeps_the_newest_in_order),
        cmocka_unit_test(a_sample_of_the_same_second_replaces),
        cmocka_unit_test(cpu_is_a_share_of_all_cores),
        cmocka_unit_test(lines_of_envd_and_others_become_objects),
        cmocka_unit_test(what_is_too_long_is_cut_at_a_character),
        cmocka_unit_test(inside_is_told_from_outside),
        cmocka_unit_test(a_signature_is_a_hash_of_secret_and_body),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
