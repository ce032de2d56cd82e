/*
 * What the request-head scanner takes, what it refuses and what it waits for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/http_head.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define POST "POST /x HTTP/1.1\r\nHost: a\r\n"

/* Scan a copy of exactly LEN bytes, so that a read past its end is found. */
static int scan(const char *data, size_t len, struct http_head *head, struct err *err, char **copy)
{
    *copy = malloc(len > 0 ? len : 1);
    assert_non_null(*copy);
    memcpy(*copy, data, len);
    return http_head_scan(*copy, len, head, err);
}

static void what_two_parsers_could_read_differently_is_refused(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        const char *says;
    } cases[] = {
#define CASE(text, says) {text, sizeof(text) - 1, says}
        CASE(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        CASE(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "both"),
        CASE(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "more than one Content-Length"),
        CASE(POST "content-length: 3\r\nCONTENT-LENGTH: 4\r\n\r\n", "more than one Content-Length"),
        CASE(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
             "more than one Transfer-Encoding"),
        CASE(LINE HOST "Host: b\r\n\r\n", "more than one Host"),
        CASE(LINE HOST "host: a\r\n\r\n", "more than one Host"),
        CASE(LINE "\r\n", "no Host"),
        CASE(LINE "Accept: x\r\n\r\n", "no Host"),
        CASE(LINE HOST "A: b\r\n c\r\n\r\n", "obs-fold"),
        CASE(LINE HOST "A: b\r\n\tc\r\n\r\n", "obs-fold"),
        CASE(LINE " Host: a\r\n\r\n", "obs-fold"),
        CASE(LINE "Host : a\r\n\r\n", "blank before"),
        CASE(LINE "Host\t: a\r\n\r\n", "blank before"),
        CASE(LINE HOST ": a\r\n\r\n", "invalid name"),
        CASE(LINE HOST "A\r\n\r\n", "invalid name"),
        CASE(LINE HOST "A\xc3\xa4: a\r\n\r\n", "invalid name"),
        CASE(LINE HOST "A(b): a\r\n\r\n", "invalid name"),
        CASE(LINE HOST "A\0: a\r\n\r\n", "invalid name"),
        CASE(LINE HOST "A: b\0c\r\n\r\n", "invalid character"),
        CASE(LINE HOST "A: b\x01\r\n\r\n", "invalid character"),
        CASE(LINE HOST "A: b\x7f\r\n\r\n", "invalid character"),
        CASE(LINE HOST "A: b\rc\r\n\r\n", "CR without LF"),
        CASE(LINE HOST "A: b\r\r\n\r\n", "CR without LF"),
        CASE(LINE HOST "A: b\n\r\n", "without CR"),
        CASE(LINE HOST "\n", "without CR"),
        CASE("GET / HTTP/1.1\nHost: a\r\n\r\n", "without CR"),
        CASE("\nGET / HTTP/1.1\r\n", "without CR"),
        CASE("\r\n\r\nGET / HTTP/1.1\r\n", "method"),
        CASE(" GET / HTTP/1.1\r\n", "method"),
        CASE("G(T / HTTP/1.1\r\n", "method"),
        CASE("GET\t/ HTTP/1.1\r\n", "method"),
        CASE("GET  / HTTP/1.1\r\n", "target"),
        CASE("GET /\tHTTP/1.1\r\n", "target"),
        CASE("GET /a\0b HTTP/1.1\r\n", "target"),
        CASE("GET / HTTP/1.1 \r\n", "invalid character"),
        CASE("GET / HTTP/1.2\r\n", "HTTP/1.1 or"),
        CASE("GET / HTTP/2.0\r\n", "HTTP/1.1 or"),
        CASE("GET / http/1.1\r\n", "HTTP/1.1 or"),
        CASE("GET /\r\n", "target"),
        CASE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 or"),
        CASE("\x16\x03\x01\x02\x00", "method"), /* TLS on a plain port */
        CASE(POST "Content-Length: \r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: +3\r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: -3\r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: 3, 3\r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: 0x3\r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: 3 4\r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: 9223372036854775808\r\n\r\n", "Content-Length must"),
        CASE(POST "Content-Length: 18446744073709551617\r\n\r\n", "Content-Length must"),
        CASE(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", "only Transfer-Encoding"),
        CASE(POST "Transfer-Encoding: chunked, chunked\r\n\r\n", "only Transfer-Encoding"),
        CASE(POST "Transfer-Encoding: chunked,\r\n\r\n", "only Transfer-Encoding"),
        CASE(POST "Transfer-Encoding: xchunked\r\n\r\n", "only Transfer-Encoding"),
        CASE(POST "Transfer-Encoding: \x0b"
                  "chunked\r\n\r\n",
             "invalid character"),
        CASE(POST "Transfer-Encoding: identity\r\n\r\n", "only Transfer-Encoding"),
        CASE(POST "Transfer-Encoding:\r\n\r\n", "only Transfer-Encoding"),
        CASE("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "needs HTTP/1.1"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct http_head head;
        struct err err = {0};
        _cleanup_free_ char *copy = NULL;

        if (scan(cases[i].data, cases[i].len, &head, &err, &copy) != -1)
            fail_msg("case %zu accepted: %s", i, cases[i].data);
        assert_true(err.code == ERR_INVALID || err.code == ERR_LIMIT ||
                    err.code == ERR_UNSUPPORTED);
        if (strstr(err.msg, cases[i].says) == NULL)
            fail_msg("case %zu says: %s", i, err.msg);
    }
}

static void framing_and_connection_are_read(void **state)
{
    static const struct {
        const char *data;
        enum http_framing framing;
        uint64_t content_length;
        bool keep_alive;
        bool upgrade;
    } cases[] = {
        {LINE HOST "\r\n", HTTP_BODY_NONE, 0, true, false},
        {"\r\n" LINE HOST "\r\n", HTTP_BODY_NONE, 0, true, false},
        {POST "Content-Length: 0\r\n\r\n", HTTP_BODY_LENGTH, 0, true, false},
        {POST "content-length:\t 17 \t\r\n\r\n", HTTP_BODY_LENGTH, 17, true, false},
        {POST "Content-Length: 9223372036854775807\r\n\r\n", HTTP_BODY_LENGTH, INT64_MAX, true,
         false},
        {POST "Transfer-Encoding: Chunked\r\n\r\n", HTTP_BODY_CHUNKED, 0, true, false},
        {LINE HOST "Connection: close\r\n\r\n", HTTP_BODY_NONE, 0, false, false},
        {LINE HOST "Connection: x, Close ,y\r\n\r\n", HTTP_BODY_NONE, 0, false, false},
        {LINE HOST "Connection: x\r\nConnection: close\r\n\r\n", HTTP_BODY_NONE, 0, false, false},
        {"GET / HTTP/1.0\r\n\r\n", HTTP_BODY_NONE, 0, false, false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", HTTP_BODY_NONE, 0, true, false},
        {LINE HOST "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n", HTTP_BODY_NONE,
         0, true, true},
        {LINE HOST "Upgrade: websocket\r\n\r\n", HTTP_BODY_NONE, 0, true, false},
        {LINE HOST "Connection: upgrade\r\n\r\n", HTTP_BODY_NONE, 0, true, false},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct http_head head;
        struct err err = {0};
        _cleanup_free_ char *copy = NULL;

        if (scan(cases[i].data, strlen(cases[i].data), &head, &err, &copy) != 0)
            fail_msg("case %zu refused: %s", i, err.msg);
        assert_int_equal(head.framing, cases[i].framing);
        assert_int_equal(head.content_length, cases[i].content_length);
        assert_int_equal(head.keep_alive, cases[i].keep_alive);
        assert_int_equal(head.upgrade, cases[i].upgrade);
        assert_int_equal(head.size, strlen(cases[i].data));
    }
}

static void slices_name_the_parts(void **state)
{
    static const char text[] = "M-SEARCH /a?b=%20#x HTTP/1.1\r\nhOsT:  h:1 \r\nEmpty:\r\n"
                               "Expect: 100-continue\r\nX: a b\xff\tc\r\n\r\nbody\n";
    struct http_head head;
    struct err err = {0};
    _cleanup_free_ char *copy = NULL;

    (void)state;
    assert_int_equal(scan(text, sizeof(text) - 1, &head, &err, &copy), 0);
    assert_true(mem_is(head.method, head.method_len, "M-SEARCH"));
    assert_true(mem_is(head.target, head.target_len, "/a?b=%20#x"));
    assert_int_equal(head.minor_version, 1);
    assert_int_equal(head.header_count, 4);
    assert_true(mem_is(head.host->value, head.host->value_len, "h:1"));
    assert_true(mem_is(head.expect->value, head.expect->value_len, "100-continue"));
    assert_int_equal(http_head_find(&head, "empty")->value_len, 0);
    assert_true(mem_is(http_head_find(&head, "x")->value, http_head_find(&head, "x")->value_len,
                       "a b\xff\tc"));
    assert_null(http_head_find(&head, "body"));
    assert_int_equal(head.size, sizeof(text) - 1 - 5);
}

static void every_beginning_of_a_good_head_waits_for_more(void **state)
{
    static const char text[] = "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n"
                               "X: y\r\n\r\n";

    (void)state;
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        struct http_head head;
        struct err err = {0};
        _cleanup_free_ char *copy = NULL;

        if (scan(text, len, &head, &err, &copy) != 1)
            fail_msg("%zu bytes: not 1; %s", len, err.msg);
        assert_int_equal(err.code, ERR_NONE);
    }
}

static void the_number_of_fields_is_limited(void **state)
{
    (void)state;
    for (int count = HTTP_HEADERS_MAX - 1; count <= HTTP_HEADERS_MAX; count++) {
        static char text[8192];
        size_t len = (size_t)snprintf(text, sizeof(text), "%s", LINE HOST);
        struct http_head head;
        struct err err = {0};
        _cleanup_free_ char *copy = NULL;
        int want = count + 1 > HTTP_HEADERS_MAX ? -1 : 0;

        for (int i = 0; i < count; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "X-%d: y\r\n", i);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "\r\n");
        assert_int_equal(scan(text, len, &head, &err, &copy), want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_two_parsers_could_read_differently_is_refused),
        cmocka_unit_test(framing_and_connection_are_read),
        cmocka_unit_test(slices_name_the_parts),
        cmocka_unit_test(every_beginning_of_a_good_head_waits_for_more),
        cmocka_unit_test(the_number_of_fields_is_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
