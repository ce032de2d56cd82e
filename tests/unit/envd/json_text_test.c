#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/connect/codec.h"
#include "envd/connect/envelope.h"
#include "envd/connect/gzip.h"
#include "envd/connect/json_text.h"
#include "openapi/process.pb-c.h"
#include "server/base/mem.h"

static bool is_json(const char *s, size_t len)
{
    struct json_text text;

    json_text_init(&text, s, len);
    return json_text_skip(&text, NULL) == 0 && json_text_end(&text) == 0;
}

static void json_is_told_from_what_is_none(void **state)
{
    static const char *const good[] = {
        "0",
        "-0",
        "-1.5e+9",
        "1E0",
        "true",
        "false",
        "null",
        "\"\"",
        " [ ] ",
        "{}",
        "[[],{}]",
        "{\"a\":[1,{\"b\":null}],\"\":\"\\u00e4\\n\\\"\"}",
        "\"12345678901234567\xc3\xa4\"",
    };
    static const char *const bad[] = {
        "",
        " ",
        "01",
        "-",
        "1.",
        "1e",
        ".5",
        "+1",
        "tru",
        "nul",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\xff\"",
        "\"1234567\x01\"",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{1:2}",
        "[}",
        "{]",
        "1 1",
        "{}x",
        "\xef\xbb\xbf{}",
    };

    (void)state;
    for (size_t i = 0; i < array_size(good); i++) {
        if (!is_json(good[i], strlen(good[i])))
            fail_msg("refused: %s", good[i]);
    }
    for (size_t i = 0; i < array_size(bad); i++) {
        if (is_json(bad[i], strlen(bad[i])))
            fail_msg("accepted: %s", bad[i]);
    }
    assert_false(is_json("\"a\0b\"", 5));
}

static void nesting_is_bounded(void **state)
{
    char text[2 * JSON_DEPTH_MAX + 3];

    (void)state;
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(is_json(text, 2 * (size_t)depth), depth == JSON_DEPTH_MAX);
    }
}

static void escapes_are_resolved(void **state)
{
    static const struct {
        const char *in;
        const char *out; /* NULL: refused */
    } cases[] = {
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00df\\u20ac\"", "A\xc3\x9f\xe2\x82\xac"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"\"\\ud83d\"", NULL},
        {"\"\\ude00\\ud83d\"", NULL},
        {"\"\\ud83d\\u0041\"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct json_text text;
        struct json_slice slice;
        char out[64] = {0};
        ptrdiff_t len;

        json_text_init(&text, cases[i].in, strlen(cases[i].in));
        assert_int_equal(json_text_string(&text, &slice), 0);
        len = json_slice_decode(&slice, out);
        if (cases[i].out == NULL)
            assert_int_equal(len, -1);
        else
            assert_memory_equal(out, cases[i].out, strlen(cases[i].out) + 1);
    }
}

static void a_small_text_cannot_take_much_memory(void **state)
{
    size_t count = 100000;
    _cleanup_buf_ struct buf json, proto;
    ProtobufCMessage *message = NULL;
    struct err err = {0};

    (void)state;
    buf_init(&json, 1 << 20);
    buf_init(&proto, 1 << 20);
    buf_add_str(&json, "{\"process\":{\"args\":[");
    buf_add(&proto, "\x0a\xc0\x9a\x0c", 4); /* 200,000 bytes of process */
    for (size_t i = 0; i < count; i++) {
        buf_add_str(&json, "\"\",");
        buf_add(&proto, "\x12\0", 2);
    }
    buf_add_str(&json, "\"\"]}}");
    assert_int_equal(
        codec_json_decode(&process__start_request__descriptor, json.data, json.len, &message, &err),
        -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(codec_proto_decode(&process__start_request__descriptor, proto.data, proto.len,
                                        &message, &err),
                     -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_null(message);
}

static void one_envelope_is_split_off(void **state)
{
    struct envelope envelope = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(envelope_split("\x01\0\0\0\x02"
                                    "abc",
                                    8, 9, &envelope, &err),
                     0);
    assert_int_equal(envelope.flags, 1);
    assert_int_equal(envelope.len, 2);
    assert_int_equal(envelope.used, 7);
    assert_memory_equal(envelope.payload, "ab", 2);
    assert_int_equal(envelope_split("\0\0\0\0", 4, 9, &envelope, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(envelope_split("\0\0\0\0\x04"
                                    "abc",
                                    8, 9, &envelope, &err),
                     -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(envelope_split("\0\xff\xff\xff\xff"
                                    "abc",
                                    8, 9, &envelope, &err),
                     -1);
    assert_int_equal(err.code, ERR_LIMIT);
}

static void gzip_is_accepted_by_its_weight(void **state)
{
    static const struct {
        const char *header;
        bool accepted;
    } cases[] = {
        {"gzip", true},     {"GZip", true},      {"br, gzip;q=0.001", true},
        {"x-gzip", true},   {"*", true},         {"identity", false},
        {"", false},        {"gzip;q=0", false}, {"gzip;q=0.0, *", false},
        {"gzipped", false}, {"*;q=0", false},    {" ,, gzip ; q=1", true},
    };
    _cleanup_buf_ struct buf packed, plain;
    struct err err;

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        if (gzip_accepted(cases[i].header) != cases[i].accepted)
            fail_msg("%s", cases[i].header);
    }
    buf_init(&packed, 1000);
    buf_init(&plain, 1000);
    assert_int_equal(gzip_deflate("hello hello hello", 17, &packed), 0);
    assert_int_equal(gzip_inflate(packed.data, packed.len, &plain, &err), 0);
    assert_string_equal(buf_str(&plain), "hello hello hello");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_told_from_what_is_none),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(escapes_are_resolved),
        cmocka_unit_test(a_small_text_cannot_take_much_memory),
        cmocka_unit_test(one_envelope_is_split_off),
        cmocka_unit_test(gzip_is_accepted_by_its_weight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
