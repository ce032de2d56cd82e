#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/gateway/chunks.h"
#include "server/gateway/dns.h"
#include "server/gateway/hello.h"
#include "server/gateway/policy.h"
#include "server/gateway/socks.h"

/* --- ClientHello ----------------------------------------------------------------------------- */

struct bytes {
    uint8_t data[2048];
    size_t len;
};

static void put(struct bytes *out, uint32_t value, size_t size)
{
    while (size-- > 0)
        out->data[out->len++] = (uint8_t)(value >> (8 * size));
}

static void put_text(struct bytes *out, const char *text)
{
    memcpy(out->data + out->len, text, strlen(text));
    out->len += strlen(text);
}

/* An extension server_name for NAME. */
static void put_name(struct bytes *out, const char *name)
{
    uint32_t len = (uint32_t)strlen(name);

    put(out, 0, 2);
    put(out, len + 5, 2);
    put(out, len + 3, 2);
    put(out, 0, 1);
    put(out, len, 2);
    put_text(out, name);
}

/* A whole hello with EXTENSIONS in one record. */
static struct bytes make_hello(const struct bytes *extensions)
{
    struct bytes out = {.len = 0};
    uint32_t body = 2 + 32 + 1 + 2 + 2 + 1 + 1 + 2 + (uint32_t)extensions->len;

    put(&out, 0x160301, 3);
    put(&out, body + 4, 2);
    put(&out, 1, 1);
    put(&out, body, 3);
    put(&out, 0x0303, 2);
    out.len += 32;
    put(&out, 0, 1);
    put(&out, 2, 2);
    put(&out, 0x1301, 2);
    put(&out, 0x0100, 2);
    put(&out, (uint32_t)extensions->len, 2);
    memcpy(out.data + out.len, extensions->data, extensions->len);
    out.len += extensions->len;
    return out;
}

static void a_name_is_found_and_each_part_of_it_asks_for_more(void **state)
{
    struct bytes extensions = {.len = 0}, whole;
    struct hello hello = {.name = "same"};

    (void)state;
    put_name(&extensions, "WWW.Example.com");
    whole = make_hello(&extensions);
    for (size_t len = 0; len < whole.len; len++) {
        assert_int_equal(hello_parse(whole.data, len, &hello), HELLO_MORE);
        assert_string_equal(hello.name, "same");
    }
    assert_int_equal(hello_parse(whole.data, whole.len, &hello), HELLO_DONE);
    assert_string_equal(hello.name, "www.example.com");
    assert_false(hello.encrypted);
}

static void fragments_are_put_together(void **state)
{
    struct bytes extensions = {.len = 0}, whole, parts = {.len = 0};
    struct hello hello;

    (void)state;
    put_name(&extensions, "example.com");
    whole = make_hello(&extensions);
    for (size_t at = 5; at < whole.len; at += 7) {
        size_t size = whole.len - at < 7 ? whole.len - at : 7;
        put(&parts, 0x160303, 3);
        put(&parts, (uint32_t)size, 2);
        memcpy(parts.data + parts.len, whole.data + at, size);
        parts.len += size;
    }
    assert_int_equal(hello_parse(parts.data, parts.len - 1, &hello), HELLO_MORE);
    assert_int_equal(hello_parse(parts.data, parts.len, &hello), HELLO_DONE);
    assert_string_equal(hello.name, "example.com");
}

static void what_has_no_name_of_use_has_none(void **state)
{
    struct bytes address = {.len = 0}, none = {.len = 0}, encrypted = {.len = 0}, whole;
    struct hello hello;

    (void)state;
    put_name(&address, "192.0.2.1");
    put_name(&encrypted, "public.example.com");
    put(&encrypted, 0xfe0d0001, 4);
    put(&encrypted, 0, 1);
    for (const struct bytes *at = &address;; at = at == &address ? &none : &encrypted) {
        whole = make_hello(at);
        assert_int_equal(hello_parse(whole.data, whole.len, &hello), HELLO_DONE);
        assert_string_equal(hello.name, "");
        if (at == &encrypted)
            break;
    }
    assert_true(hello.encrypted);
}

static void two_names_and_wrong_lengths_are_refused(void **state)
{
    struct bytes twice = {.len = 0}, list = {.len = 0}, whole;
    struct hello hello;

    (void)state;
    put_name(&twice, "a.example");
    put_name(&twice, "b.example");
    whole = make_hello(&twice);
    assert_int_equal(hello_parse(whole.data, whole.len, &hello), HELLO_BAD);
    put_name(&list, "a.example");
    list.data[5]++; /* the list says that it is longer */
    whole = make_hello(&list);
    assert_int_equal(hello_parse(whole.data, whole.len, &hello), HELLO_BAD);
    list.data[5]--;
    whole = make_hello(&list);
    whole.data[8]--; /* the hello is shorter than its record */
    assert_int_equal(hello_parse(whole.data, whole.len, &hello), HELLO_BAD);
    assert_int_equal(hello_parse((const uint8_t *)"GET / HTTP/1.1", 14, &hello), HELLO_NONE);
    assert_int_equal(hello_parse((const uint8_t *)"\x16\x03\x01\x00\x00", 5, &hello), HELLO_BAD);
    assert_int_equal(hello_parse((const uint8_t *)"\x16\x03\x01\x40\x01", 5, &hello), HELLO_BAD);
    assert_int_equal(
        hello_parse((const uint8_t *)"\x16\x03\x01\x00\x04\x01\x01\x00\x00", 9, &hello),
        HELLO_BAD); /* 65,536 bytes */
}

/* --- SOCKS5 ---------------------------------------------------------------------------------- */

static void socks_messages_are_those_of_the_rfc(void **state)
{
    uint8_t out[SOCKS_SEND_MAX];
    char longest[257];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[256] = '\0';
    assert_int_equal(socks_greeting(true, out), 3);
    assert_memory_equal(out, "\x05\x01\x02", 3);
    assert_int_equal(socks_password("u", "pw", out), 6);
    assert_memory_equal(out, "\x01\x01u\x02pw", 6);
    assert_int_equal(socks_password(longest, "pw", out), 0);
    assert_int_equal(socks_password("u", longest, out), 0);
    assert_int_equal(socks_password(longest + 1, longest + 1, out), 513);
    assert_int_equal(socks_connect("a.b", 0, 443, out), 10);
    assert_memory_equal(out,
                        "\x05\x01\x00\x03\x03"
                        "a.b\x01\xbb",
                        10);
    assert_int_equal(socks_connect(NULL, 0xc0000201, 80, out), 10);
    assert_memory_equal(out, "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", 10);
    assert_int_equal(socks_connect(longest, 0, 443, out), 0);
}

static void socks_answers_tell_their_size(void **state)
{
    static const uint8_t name[] = {5, 0, 0, 3, 2}, four[] = {5, 5, 0, 1, 9},
                         six[] = {5, 0, 0, 4, 0};

    (void)state;
    assert_int_equal(socks_reply_size(NULL, 0), 5);
    assert_int_equal(socks_reply_size(name, 4), 5);
    assert_int_equal(socks_reply_size(name, 5), 9);
    assert_int_equal(socks_reply_size(four, 5), 10);
    assert_int_equal(socks_reply_size(six, 5), 22);
    assert_int_equal(socks_reply_size((const uint8_t *)"\x04", 1), 0);
    assert_int_equal(socks_reply_size((const uint8_t *)"\x05\x00\x00\x02\x00", 5), 0);
    assert_null(socks_reply_error(name));
    assert_string_equal(socks_reply_error(four), "connection refused");
    assert_non_null(socks_reply_error((const uint8_t *)"\x05\xff"));
}

/* --- DNS ------------------------------------------------------------------------------------- */

/* An answer to the question for a.example with COUNT records of TEXT (LEN bytes). */
static struct bytes make_answer(uint16_t flags, uint32_t count, const char *text, size_t len)
{
    struct bytes out = {.len = 0};

    put(&out, 7, 2);
    put(&out, flags, 2);
    put(&out, 1, 2);
    put(&out, count, 2);
    put(&out, 0, 4);
    put_text(&out, "\x01"
                   "a\x07"
                   "example");
    put(&out, 0, 1);
    put(&out, 0x00010001, 4);
    memcpy(out.data + out.len, text, len);
    out.len += len;
    return out;
}

#define RECORD_A "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x0a\x00\x04\xc0\x00\x02\x01"
#define RECORD_ALIAS "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x04\x01z\xc0\x0e"
#define RECORD_Z "\x01z\xc0\x0e\x00\x01\x00\x01\x00\x00\x00\x63\x00\x04\xc0\x00\x02\x02"
#define RECORD_LOOP "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\xc0\x0c"

static void questions_are_well_formed(void **state)
{
    uint8_t out[DNS_MESSAGE_MAX];
    char label[70];

    (void)state;
    memset(label, 'x', 64);
    label[64] = '\0';
    assert_int_equal(dns_question(7, "a.example", out), 12 + 11 + 4 + 11);
    assert_memory_equal(out + 12,
                        "\x01"
                        "a\x07"
                        "example\x00\x00\x01\x00\x01",
                        15);
    assert_int_equal(dns_question(7, label, out), 0);
    assert_int_equal(dns_question(7, "a..b", out), 0);
    assert_int_equal(dns_question(7, "", out), 0);
}

static void answers_are_read_and_aliases_followed(void **state)
{
    struct dns_answer answer;
    struct bytes data = make_answer(0x8180, 1, RECORD_A, sizeof(RECORD_A) - 1);

    (void)state;
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_OK);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.addresses[0], 0xc0000201);
    assert_int_equal(answer.ttl_s, 10);
    data = make_answer(0x8180, 2, RECORD_Z RECORD_ALIAS, sizeof(RECORD_Z RECORD_ALIAS) - 1);
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "A.Example", &answer), DNS_OK);
    assert_int_equal(answer.addresses[0], 0xc0000202);
    assert_int_equal(answer.ttl_s, 5);
}

static void other_answers_are_not_believed(void **state)
{
    struct dns_answer answer;
    struct bytes data = make_answer(0x8180, 1, RECORD_A, sizeof(RECORD_A) - 1);

    (void)state;
    assert_int_equal(dns_answer_parse(data.data, data.len, 8, "a.example", &answer), DNS_BAD);
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "b.example", &answer), DNS_BAD);
    for (size_t len = 0; len < data.len; len++)
        assert_int_equal(dns_answer_parse(data.data, len, 7, "a.example", &answer), DNS_BAD);
    data = make_answer(0x8183, 0, "", 0);
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_NO_NAME);
    data = make_answer(0x8182, 0, "", 0);
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_FAILED);
    data = make_answer(0x8180, 0, "", 0);
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_NO_NAME);
    data = make_answer(0x8180, 1, RECORD_Z, sizeof(RECORD_Z) - 1); /* of another name */
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_NO_NAME);
    data = make_answer(0x8180, 1, RECORD_LOOP, sizeof(RECORD_LOOP) - 1);
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_NO_NAME);
    data = make_answer(0x0100, 1, RECORD_A, sizeof(RECORD_A) - 1); /* a question */
    assert_int_equal(dns_answer_parse(data.data, data.len, 7, "a.example", &answer), DNS_BAD);
}

/* --- chunked bodies -------------------------------------------------------------------------- */

static void chunked_bodies_end_where_they_end(void **state)
{
    static const struct {
        const char *text;
        size_t used; /* SIZE_MAX: malformed */
        bool done;
    } cases[] = {
        {"0\r\n\r\nGET", 5, true},
        {"3\r\nabc\r\n0\r\n\r\nx", 13, true},
        {"A;x=\"y\"\r\n0123456789\r\n0\r\nT: v\r\n\r\n", 32, true},
        {"3\r\nab", 5, false},
        {"", 0, false},
        {"\r\n", SIZE_MAX, false},
        {"3\nabc\r\n", SIZE_MAX, false},
        {"3\r\nabcd\r\n", SIZE_MAX, false},
        {" 3\r\nabc\r\n", SIZE_MAX, false},
        {"0x3\r\nabc\r\n", SIZE_MAX, false},
        {"0\r\nT: v\n\r\n", SIZE_MAX, false},
        {"1000000000000000\r\n", SIZE_MAX, false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        const char *text = cases[i].text;
        struct chunks whole = {0}, bytes = {0};
        bool done = false;
        size_t used = 0;
        assert_int_equal(chunks_scan(&whole, text, strlen(text), &done), cases[i].used);
        assert_int_equal(done, cases[i].done);
        done = false; /* the same byte by byte */
        while (!done && used < strlen(text)) {
            size_t n = chunks_scan(&bytes, text + used, 1, &done);
            used = n == SIZE_MAX ? n : used + n;
            if (n == SIZE_MAX)
                break;
        }
        assert_int_equal(used, cases[i].used);
    }
}

/* --- policies -------------------------------------------------------------------------------- */

static struct policy *parse(const char *text)
{
    struct err err = {0};
    struct policy *policy = policy_parse(text, strlen(text), &err);

    if (policy == NULL)
        fail_msg("%s: %s", text, err.msg);
    return policy;
}

static void policies_decide_by_address_and_name(void **state)
{
    static const struct {
        const char *policy;
        uint32_t address;
        const char *name;
        enum verdict verdict;
        bool wants_name;
    } cases[] = {
        {"{}", 0x08080808, "", VERDICT_ADDRESS, false},
        {"{}", 0x0a000001, "", VERDICT_REFUSE, false},
        {"{}", 0x7f000001, "", VERDICT_REFUSE, false},
        {"{\"denyOut\":[\"0.0.0.0/0\"],\"allowOut\":[\"*.a.test\"]}", 0x08080808, "b.a.test",
         VERDICT_NAME, true},
        {"{\"denyOut\":[\"0.0.0.0/0\"],\"allowOut\":[\"*.a.test\"]}", 0x08080808, "a.test",
         VERDICT_REFUSE, true},
        {"{\"denyOut\":[\"0.0.0.0/0\"],\"allowOut\":[\"a.test\"]}", 0x7f000001, "a.test",
         VERDICT_REFUSE, false},
        {"{\"denyOut\":[\"0.0.0.0/0\"],\"allowOut\":[\"8.8.8.8\",\"a.test\"]}", 0x08080808, "",
         VERDICT_ADDRESS, false},
        {"{\"rules\":{\"a.test\":[{\"transform\":{\"headers\":{\"x\":\"y\"}}}]}}", 0x08080808,
         "a.test", VERDICT_NAME, true},
        {"{\"rules\":{\"a.test\":[{\"transform\":{\"headers\":{\"x\":\"y\"}}}]}}", 0x08080808,
         "b.test", VERDICT_ADDRESS, true},
        {"{\"rules\":{\"a.test\":[{\"transform\":{\"headers\":{\"x\":\"y\"}}}]},"
         "\"denyOut\":[\"8.8.8.8\"]}",
         0x08080808, "a.test", VERDICT_REFUSE, false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct policy *policy = parse(cases[i].policy);
        const char *why = "";
        assert_int_equal(policy_decide(policy, cases[i].address, 443, cases[i].name, &why),
                         cases[i].verdict);
        assert_int_equal(policy_wants_name(policy, cases[i].address, 443), cases[i].wants_name);
        policy_free(policy);
    }
}

static void the_closest_rule_counts(void **state)
{
    struct policy *policy =
        parse("{\"rules\":{\"*.b.test\":[{\"transform\":{\"headers\":{\"x\":\"1\"}}}],"
              "\"*.test\":[{\"transform\":{\"headers\":{\"x\":\"2\"}}}],"
              "\"a.b.test\":[{\"transform\":{\"headers\":{\"x\":\"3\"}}}],\"none.test\":[{}]}}");
    static const struct {
        const char *name, *value;
    } cases[] = {{"a.b.test", "3"}, {"c.b.test", "1"}, {"b.test", "2"}, {"other", NULL}};

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        const char *value =
            json_string_value(json_object_get(policy_headers(policy, cases[i].name), "x"));
        if (cases[i].value == NULL)
            assert_null(value);
        else
            assert_string_equal(value, cases[i].value);
    }
    policy_free(policy);
}

static void what_a_name_leads_to_is_held_against_the_addresses(void **state)
{
    struct policy *policy = parse("{\"allowOut\":[\"a.test\",\"10.9.0.0/16\"],"
                                  "\"denyOut\":[\"0.0.0.0/0\"]}");

    (void)state;
    assert_true(policy_resolved_ok(policy, 0x08080808, true));
    assert_false(policy_resolved_ok(policy, 0x08080808, false));
    assert_true(policy_resolved_ok(policy, 0x0a090001, true));
    assert_false(policy_resolved_ok(policy, 0x0a080001, true));
    assert_false(policy_resolved_ok(policy, 0xa9fea9fe, true)); /* metadata */
    assert_false(policy_resolved_ok(policy, 0x7f000001, true));
    policy_free(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_found_and_each_part_of_it_asks_for_more),
        cmocka_unit_test(fragments_are_put_together),
        cmocka_unit_test(what_has_no_name_of_use_has_none),
        cmocka_unit_test(two_names_and_wrong_lengths_are_refused),
        cmocka_unit_test(socks_messages_are_those_of_the_rfc),
        cmocka_unit_test(socks_answers_tell_their_size),
        cmocka_unit_test(questions_are_well_formed),
        cmocka_unit_test(answers_are_read_and_aliases_followed),
        cmocka_unit_test(other_answers_are_not_believed),
        cmocka_unit_test(chunked_bodies_end_where_they_end),
        cmocka_unit_test(policies_decide_by_address_and_name),
        cmocka_unit_test(the_closest_rule_counts),
        cmocka_unit_test(what_a_name_leads_to_is_held_against_the_addresses),
    };
    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
