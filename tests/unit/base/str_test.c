#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

static void numbers_are_whole_strings_in_range(void **state)
{
    static const struct {
        const char *text;
        int rc;
        int64_t value;
    } cases[] = {
        {"0", 0, 0},
        {"-5", 0, -5},
        {"0010", 0, 10},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", -1, 0},
        {"-9223372036854775809", -1, 0},
        {"99999999999999999999999", -1, 0},
        {"", -1, 0},
        {"-", -1, 0},
        {"+1", -1, 0},
        {" 1", -1, 0},
        {"1 ", -1, 0},
        {"1e3", -1, 0},
        {"0x10", -1, 0},
        {"--1", -1, 0},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        int64_t out = 77;
        struct err err = {0};
        int rc =
            str_to_i64(cases[i].text, strlen(cases[i].text), INT64_MIN, INT64_MAX, "n", &out, &err);
        if (rc != cases[i].rc)
            fail_msg("'%s' gave %d", cases[i].text, rc);
        assert_int_equal(out, rc == 0 ? cases[i].value : 77);
    }
    uint64_t u = 1;
    struct err err = {0};
    assert_int_equal(str_to_u64("18446744073709551615", 20, 0, UINT64_MAX, "n", &u, &err), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(str_to_u64("18446744073709551616", 20, 0, UINT64_MAX, "n", &u, &err), -1);
    assert_int_equal(str_to_u64("11", 2, 1, 10, "port", &u, &err), -1);
    assert_string_equal(err.msg, "port must be a number between 1 and 10");
}

static void durations_have_units(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } cases[] = {{"90", 90000},
                 {"90s", 90000},
                 {"15m", 900000},
                 {"2h", 7200000},
                 {"30d", 2592000000},
                 {"500ms", 500},
                 {"0", 0},
                 {"", -1},
                 {"s", -1},
                 {"-1s", -1},
                 {"1w", -1},
                 {"1.5h", -1},
                 {"99999999999999999999d", -1},
                 {"9223372036854775807d", -1}};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        int64_t out = -1;
        struct err err = {0};
        assert_int_equal(str_to_duration_ms(cases[i].text, &out, &err), cases[i].ms < 0 ? -1 : 0);
        assert_int_equal(out, cases[i].ms);
    }
}

static void only_well_formed_utf8_passes(void **state)
{
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"", true},
        {"plain", true},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", true},
        {"\xc0\x80", false},         /* overlong */
        {"\xe0\x80\x80", false},     /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* past U+10FFFF */
        {"\x80", false},
        {"\xc3", false}, /* cut */
        {"\xf0\x9f\x98", false},
        {"a\xff", false},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++)
        assert_int_equal(str_is_utf8(cases[i].text, strlen(cases[i].text)), cases[i].ok);
    assert_false(str_is_utf8("a\0b", 3));
}

static void base64_matches_rfc_4648_both_ways(void **state)
{
    static const struct {
        const char *plain, *std, *raw;
    } cases[] = {{"", "", ""},
                 {"f", "Zg==", "Zg"},
                 {"fo", "Zm8=", "Zm8"},
                 {"foo", "Zm9v", "Zm9v"},
                 {"foob", "Zm9vYg==", "Zm9vYg"},
                 {"\xfb\xff\xfe", "+//+", "-__-"}};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        size_t len = strlen(cases[i].plain), n;
        char out[32];
        uint8_t back[32];
        base64_encode(BASE64_STD, cases[i].plain, len, out);
        assert_string_equal(out, cases[i].std);
        base64_encode(BASE64_URL_RAW, cases[i].plain, len, out);
        assert_string_equal(out, cases[i].raw);
        assert_int_equal(base64_decode(cases[i].std, strlen(cases[i].std), back, &n), 0);
        assert_int_equal(n, len);
        assert_memory_equal(back, cases[i].plain, len);
        assert_int_equal(base64_decode(cases[i].raw, strlen(cases[i].raw), back, &n), 0);
        assert_int_equal(n, len);
    }
    static const char *const bad[] = {"A", "A===", "Zg=", "Z g=", "Zm9v\n", "====", "Zg==Zg=="};
    for (size_t i = 0; i < array_size(bad); i++) {
        uint8_t back[32];
        size_t n;
        if (base64_decode(bad[i], strlen(bad[i]), back, &n) != -1)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void hex_goes_both_ways(void **state)
{
    uint8_t bytes[3];
    char text[7];

    (void)state;
    assert_int_equal(hex_decode("00fFa9", 6, bytes, 3), 0);
    hex_encode(bytes, 3, text);
    assert_string_equal(text, "00ffa9");
    assert_int_equal(hex_decode("00fFa", 5, bytes, 3), -1);
    assert_int_equal(hex_decode("00fFag", 6, bytes, 3), -1);
    assert_int_equal(hex_decode("00fFa9ff", 8, bytes, 3), -1);
}

static void percent_escapes_decode_and_encode(void **state)
{
    static const struct {
        const char *text, *plain; /* NULL: refused */
        bool plus;
    } cases[] = {{"a%20b", "a b", false}, {"a+b", "a+b", false}, {"a+b", "a b", true},
                 {"%2F%3a", "/:", false}, {"%", NULL, false},    {"%2", NULL, false},
                 {"%zz", NULL, false}};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_buf_ struct buf out;
        buf_init(&out, 100);
        int rc = url_decode(cases[i].text, strlen(cases[i].text), cases[i].plus, &out);
        assert_int_equal(rc, cases[i].plain == NULL ? -1 : 0);
        if (rc == 0)
            assert_string_equal(buf_str(&out), cases[i].plain);
    }
    _cleanup_buf_ struct buf out;
    buf_init(&out, 100);
    assert_int_equal(url_encode("a b/\xc3\xa9~", 7, &out), 0);
    assert_string_equal(buf_str(&out), "a%20b%2F%C3%A9~");
}

static void a_buffer_never_passes_its_maximum(void **state)
{
    _cleanup_buf_ struct buf buf;

    (void)state;
    buf_init(&buf, 10);
    assert_string_equal(buf_str(&buf), "");
    assert_int_equal(buf_add(&buf, "12345", 5), 0);
    assert_int_equal(buf_printf(&buf, "%d", 67890), 0);
    assert_int_equal(buf_add_char(&buf, 'x'), -1);
    assert_true(buf.overflow);
    assert_int_equal(buf_add(&buf, "", 0), -1); /* once over, always over */
    assert_string_equal(buf_str(&buf), "1234567890");
    buf_consume(&buf, 4);
    assert_string_equal(buf_str(&buf), "567890");
    buf_reset(&buf);
    assert_int_equal(buf_add_str(&buf, "ok"), 0);
    _cleanup_free_ char *taken = buf_steal(&buf);
    assert_string_equal(taken, "ok");
    assert_int_equal(buf.len, 0);
    assert_null(buf_reserve(&buf, SIZE_MAX));
}

/* Long enough for whole blocks, against the definition. */
static void base64_of_any_length_is_right(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t in[300], back[303];
    char out[BASE64_SIZE(sizeof(in))];
    size_t n;

    (void)state;
    for (size_t len = 0; len <= sizeof(in); len++) {
        for (size_t i = 0; i < len; i++)
            in[i] = (uint8_t)((i * 7919 + len * 104729) >> 3);
        assert_int_equal(base64_encode(BASE64_STD_RAW, in, len, out), (len * 8 + 5) / 6);
        for (size_t bit = 0; bit < len * 8; bit += 6) {
            unsigned v = (unsigned)in[bit / 8] << 8 | (bit / 8 + 1 < len ? in[bit / 8 + 1] : 0);

            assert_int_equal(out[bit / 6], alphabet[v >> (10 - bit % 8) & 63]);
        }
        assert_int_equal(base64_decode(out, strlen(out), back, &n), 0);
        assert_int_equal(n, len);
        assert_memory_equal(back, in, len);
    }
}

static void base64_sees_one_wrong_character_anywhere(void **state)
{
    uint8_t in[150] = {0}, back[153];
    char out[BASE64_SIZE(sizeof(in))];
    size_t n;

    (void)state;
    n = base64_encode(BASE64_STD, in, sizeof(in), out);
    assert_int_equal(n, 200);
    for (size_t i = 0; i < 200; i++) {
        for (int c = 0; c < 256; c++) {
            bool good = (c < 128 && isalnum(c)) || (c != 0 && strchr("+/-_", c) != NULL) ||
                        (c == '=' && i == 199);

            out[i] = (char)c;
            if (base64_decode(out, 200, back, &n) != (good ? 0 : -1))
                fail_msg("character %d at %zu", c, i);
        }
        out[i] = 'A';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_whole_strings_in_range),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(only_well_formed_utf8_passes),
        cmocka_unit_test(base64_matches_rfc_4648_both_ways),
        cmocka_unit_test(base64_of_any_length_is_right),
        cmocka_unit_test(base64_sees_one_wrong_character_anywhere),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(percent_escapes_decode_and_encode),
        cmocka_unit_test(a_buffer_never_passes_its_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
