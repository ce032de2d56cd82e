#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/http_body.h"
#include "envd/request_head.h"
#include "server/base/mem.h"

#define H "Host: x\r\n"

static const struct {
    const char *text;
    const char *path, *query;
    int64_t length;
    bool chunked, keep_alive, expect;
} good[] = {
    {"GET / HTTP/1.1\r\n" H "\r\n", "/", "", 0, false, true, false},
    {"\r\nGET /a?b=c?d HTTP/1.1\r\n" H "\r\n", "/a", "b=c?d", 0, false, true, false},
    {"GET http://h:1/a/b?q HTTP/1.1\r\n" H "\r\n", "/a/b", "q", 0, false, true, false},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "*", "", 0, false, true, false},
    {"GET /a HTTP/1.0\r\n\r\n", "/a", "", 0, false, false, false},
    {"GET /a HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", "/a", "", 0, false, true, false},
    {"GET /a HTTP/1.1\r\n" H "Connection: x,close\r\n\r\n", "/a", "", 0, false, false, false},
    {"POST /a HTTP/1.1\r\n" H "Content-Length: \t 12 \r\n\r\n", "/a", "", 12, false, true, false},
    {"POST /a HTTP/1.1\r\n" H "TRANSFER-encoding: Chunked\r\n\r\n", "/a", "", 0, true, true, false},
    {"POST /a HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n", "/a", "", 1,
     false, true, true},
    {"GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", "/\xc3\xa4", "", 0, false, true, false},
};

static void a_good_head_is_read_and_waits_for_its_last_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < array_size(good); i++) {
        struct request_head head;
        struct err err = {0};
        size_t len = strlen(good[i].text);

        for (size_t cut = 0; cut < len; cut++) {
            _cleanup_free_ char *part = mem_strndup(good[i].text, cut);

            assert_int_equal(request_head_parse(part, cut, &head, &err), 0);
        }
        if (request_head_parse(good[i].text, len, &head, &err) != (ssize_t)len)
            fail_msg("refused: %s: %s", good[i].text, err.msg);
        assert_string_equal(head.path, good[i].path);
        assert_string_equal(head.query, good[i].query);
        assert_int_equal(head.content_length, good[i].length);
        assert_int_equal(head.chunked, good[i].chunked);
        assert_int_equal(head.keep_alive, good[i].keep_alive);
        assert_int_equal(head.expect_continue, good[i].expect);
        request_head_clear(&head);
    }
}

static void what_two_readers_could_disagree_on_is_refused(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", ERR_INVALID}, /* no Host */
        {"GET / HTTP/1.1\r\n" H H "\r\n", ERR_INVALID},
        {"GET / HTTP/1.0\r\n" H H "\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A: b\n\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\n" H "\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A : b\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H ": b\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", ERR_INVALID},
        {"GET / HTTP/1.1\r\n" H "A: \x7f\r\n\r\n", ERR_INVALID},
        {"GET  / HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"GET / HTTP/1.1 \r\n" H "\r\n", ERR_INVALID},
        {"GET / HTTP/2.0\r\n" H "\r\n", ERR_UNSUPPORTED},
        {"GET /\r\n" H "\r\n", ERR_INVALID},
        {"GET a HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"GET * HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"GET http://h HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"GET /#a HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"G(T / HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"\r\n\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", ERR_INVALID},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         ERR_INVALID},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct request_head head = {.minor = 7};
        struct err err = {0};

        if (request_head_parse(cases[i].text, strlen(cases[i].text), &head, &err) != -1)
            fail_msg("accepted: %s", cases[i].text);
        if (err.code != cases[i].code)
            fail_msg("%s: %s", cases[i].text, err.msg);
        assert_int_equal(head.minor, 7); /* untouched */
    }
}

static void names_are_lower_case_and_values_trimmed(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHOST: x\r\n"
                               "X-Metadata-A:\t b c \t\r\nx-a:\r\n\r\n";
    struct request_head head;
    struct err err = {0};

    (void)state;
    assert_true(request_head_parse(text, sizeof(text) - 1, &head, &err) > 0);
    assert_string_equal(request_head_get(&head, "x-metadata-a"), "b c");
    assert_string_equal(request_head_get(&head, "x-a"), "");
    assert_null(request_head_get(&head, "x-b"));
    request_head_clear(&head);
}

static void a_head_has_a_largest_size_and_number(void **state)
{
    _cleanup_buf_ struct buf text;
    struct request_head head;
    struct err err = {0};

    (void)state;
    buf_init(&text, 1 << 20);
    buf_add_str(&text, "GET / HTTP/1.1\r\n");
    while (text.len <= REQUEST_HEAD_MAX_BYTES)
        buf_add_str(&text, "A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n");
    assert_int_equal(request_head_parse(text.data, text.len, &head, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    buf_reset(&text);
    buf_add_str(&text, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        buf_add_str(&text, "A: b\r\n");
    buf_add_str(&text, "\r\n");
    err.code = ERR_NONE;
    assert_int_equal(request_head_parse(text.data, text.len, &head, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
}

static void query_parameters_are_decoded(void **state)
{
    static const struct {
        const char *query, *name, *value;
        int rc;
    } cases[] = {
        {"path=a%2Fb+c&x=1", "path", "a/b c", 1},
        {"x=1&path=&path=2", "path", "", 1},
        {"path", "path", "", 1},
        {"p%61th=1", "path", "1", 1},
        {"paths=1&apath=2", "path", NULL, 0},
        {"", "path", NULL, 0},
        {"path=a=b", "path", "a=b", 1},
        {"path=%zz", "path", NULL, -1},
        {"path=%00", "path", NULL, -1},
        {"path=0123456789", "path", NULL, -1}, /* longer than the buffer */
        {"%zz=1&path=2", "path", "2", 1},
    };
    _cleanup_buf_ struct buf out;

    (void)state;
    buf_init(&out, 8);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct err err = {0};

        assert_int_equal(http_query_get(cases[i].query, cases[i].name, &out, &err), cases[i].rc);
        if (cases[i].rc > 0)
            assert_string_equal(buf_str(&out), cases[i].value);
    }
}

/* All of TEXT in steps of STEP through a body decoder; the content goes to OUT. */
static enum http_body_step decode(const char *text, size_t step, bool chunked, int64_t length,
                                  struct buf *out, size_t *used_all)
{
    struct http_body body;
    enum http_body_step result = HTTP_BODY_MORE;
    size_t len = strlen(text), at = 0;

    http_body_init(&body, chunked, length);
    while (at < len || http_body_done(&body)) {
        size_t used = 0, data_len, left = len - at;
        const char *data;

        result =
            http_body_next(&body, text + at, left < step ? left : step, &used, &data, &data_len);
        at += used;
        if (result == HTTP_BODY_DATA)
            buf_add(out, data, data_len);
        else if (result != HTTP_BODY_MORE)
            break;
    }
    *used_all = at;
    return result;
}

static void a_body_is_the_same_however_it_is_cut(void **state)
{
    static const struct {
        const char *text;
        bool chunked;
        int64_t length;
        enum http_body_step end;
        const char *content;
        size_t used;
    } cases[] = {
        {"", false, 0, HTTP_BODY_END, "", 0},
        {"abcdef", false, 4, HTTP_BODY_END, "abcd", 4},
        {"abc", false, 4, HTTP_BODY_DATA, "abc", 3},
        {"0\r\n\r\nGET", true, 0, HTTP_BODY_END, "", 5},
        {"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n00\r\nT: v\r\nU:\r\n\r\nrest", true, 0,
         HTTP_BODY_END, "abc0123456789", 45},
        {"3\r\nabc\r\n", true, 0, HTTP_BODY_MORE, "abc", 8},
        {"3\nabc", true, 0, HTTP_BODY_BAD, "", 2},
        {"3\r\nabcd", true, 0, HTTP_BODY_BAD, "abc", 7},
        {" 3\r\nabc", true, 0, HTTP_BODY_BAD, "", 1},
        {"3 \r\nabc", true, 0, HTTP_BODY_BAD, "", 2},
        {"\r\n", true, 0, HTTP_BODY_BAD, "", 1},
        {"-1\r\n", true, 0, HTTP_BODY_BAD, "", 1},
        {"0x1\r\n", true, 0, HTTP_BODY_BAD, "", 2},
        {"1111111111111111\r\n", true, 0, HTTP_BODY_BAD, "", 16},
        {"1;\n\r\n", true, 0, HTTP_BODY_BAD, "", 3},
        {"0\r\nA: b\nC: d\r\n\r\n", true, 0, HTTP_BODY_BAD, "", 8},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        for (size_t step = 1; step < 30; step++) {
            _cleanup_buf_ struct buf out;
            enum http_body_step end;
            size_t used;

            buf_init(&out, 100);
            end = decode(cases[i].text, step, cases[i].chunked, cases[i].length, &out, &used);
            if (end != cases[i].end || used != cases[i].used)
                fail_msg("case %zu, step %zu: %d after %zu", i, step, (int)end, used);
            assert_string_equal(buf_str(&out), cases[i].content);
        }
    }
}

static void endless_framing_is_refused(void **state)
{
    static const char *const starts[] = {"1;", "0\r\nA: "};

    (void)state;
    for (size_t i = 0; i < array_size(starts); i++) {
        _cleanup_buf_ struct buf text, out;
        size_t used;

        buf_init(&text, 1 << 20);
        buf_init(&out, 10);
        buf_add_str(&text, starts[i]);
        while (text.len < 2 * HTTP_BODY_LINE_MAX)
            buf_add_char(&text, 'x');
        assert_int_equal(decode(buf_str(&text), 100, true, 0, &out, &used), HTTP_BODY_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_head_is_read_and_waits_for_its_last_byte),
        cmocka_unit_test(what_two_readers_could_disagree_on_is_refused),
        cmocka_unit_test(names_are_lower_case_and_values_trimmed),
        cmocka_unit_test(a_head_has_a_largest_size_and_number),
        cmocka_unit_test(query_parameters_are_decoded),
        cmocka_unit_test(a_body_is_the_same_however_it_is_cut),
        cmocka_unit_test(endless_framing_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
