#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/mem.h"
#include "server/proxy/body.h"

static const char good[] = "5\r\nhello\r\n"
                           "1a;name=\"v\"\r\nabcdefghijklmnopqrstuvwxyz\r\n"
                           "000\r\n"
                           "X-Sum: 1, 2\r\n"
                           "X-Empty:\r\n"
                           "\r\n";
static const char content[] = "helloabcdefghijklmnopqrstuvwxyz";

static void chunks_split_at_every_byte_give_the_same_end(void **state)
{
    size_t len = sizeof(good) - 1;

    (void)state;
    for (size_t cut = 0; cut <= len; cut++) {
        struct body body;
        struct err err = {0};
        char data[sizeof(good) + 4];
        size_t used, send;

        memcpy(data, good, len);
        memcpy(data + len, "GET ", 4);
        body_init(&body, BODY_CHUNKED, 0);
        assert_int_equal(body_take(&body, data, cut, &used, &send, &err), 0);
        assert_int_equal(used, cut);
        assert_int_equal(body.done, cut == len);
        if (cut == len)
            continue;
        assert_int_equal(body_take(&body, data + cut, len + 4 - cut, &used, &send, &err), 0);
        assert_int_equal(used, len - cut); /* the next request is not touched */
        assert_int_equal(send, used);
        assert_true(body.done);
    }
}

static void framing_can_be_taken_out_whatever_the_pieces(void **state)
{
    size_t len = sizeof(good) - 1;

    (void)state;
    for (size_t piece = 1; piece <= len; piece++) {
        struct body body;
        struct err err = {0};
        char out[sizeof(good)];
        size_t out_len = 0, used, send;

        body_init(&body, BODY_CHUNKED, 0);
        body.strip = true;
        for (size_t at = 0; at < len; at += used) {
            char data[sizeof(good)];
            size_t n = len - at < piece ? len - at : piece;

            memcpy(data, good + at, n);
            assert_int_equal(body_take(&body, data, n, &used, &send, &err), 0);
            assert_int_equal(used, n);
            memcpy(out + out_len, data, send);
            out_len += send;
        }
        assert_true(body.done);
        assert_int_equal(out_len, sizeof(content) - 1);
        assert_memory_equal(out, content, out_len);
    }
}

static void malformed_chunks_are_refused_however_they_arrive(void **state)
{
    static const char *const cases[] = {
        "\r\n",                    /* no size */
        "g\r\n",                   /* not hex */
        "-1\r\n",                  /* a sign */
        "0x5\r\n",                 /* a prefix */
        " 5\r\n",                  /* a blank before the size */
        "5\nhello\r\n",            /* LF alone */
        "5\rhello",                /* CR alone */
        "5\r\nhelloX",             /* no CRLF after the data */
        "5\r\nhello\rX",           /* no LF after it */
        "5;a=\x01\r\n",            /* control character in an extension */
        "fffffffffffffffff\r\n",   /* more than 63 bits */
        "0\r\n: x\r\n\r\n",        /* trailer without a name */
        "0\r\nA b: x\r\n\r\n",     /* blank in a name */
        "0\r\nA: x\r\n b\r\n\r\n", /* folded trailer */
        "0\r\nA: x\n\r\n",         /* LF alone in a trailer */
        "0\r\n\rX",                /* end without LF */
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct body body;
        struct err err = {0};
        size_t used, send;
        int rc = 0;

        body_init(&body, BODY_CHUNKED, 0);
        for (size_t at = 0; rc == 0 && at < strlen(cases[i]); at++) {
            char c = cases[i][at];
            rc = body_take(&body, &c, 1, &used, &send, &err);
        }
        if (rc != -1 || err.code != ERR_INVALID || body.done)
            fail_msg("accepted: case %zu", i);
    }
}

static void endless_lines_are_refused(void **state)
{
    static char data[CHUNK_TRAILERS_MAX_BYTES * 2];
    struct body body;
    struct err err = {0};
    size_t used, send;

    (void)state;
    memset(data, 'a', sizeof(data));
    memcpy(data, "1;", 2);
    body_init(&body, BODY_CHUNKED, 0);
    assert_int_equal(body_take(&body, data, CHUNK_LINE_MAX_BYTES + 1, &used, &send, &err), -1);
    memcpy(data, "0\r\nA:", 5);
    body_init(&body, BODY_CHUNKED, 0);
    assert_int_equal(body_take(&body, data, sizeof(data), &used, &send, &err), -1);
}

static void length_ends_where_it_says(void **state)
{
    struct body body;
    struct err err = {0};
    char data[] = "0123456789";
    size_t used, send;

    (void)state;
    body_init(&body, BODY_LENGTH, 12);
    assert_false(body_is_whole(&body, data, 10));
    assert_int_equal(body_take(&body, data, 10, &used, &send, &err), 0);
    assert_int_equal(used, 10);
    assert_false(body.done);
    assert_true(body_is_whole(&body, data, 2));
    assert_int_equal(body_take(&body, data, 10, &used, &send, &err), 0);
    assert_int_equal(used, 2);
    assert_true(body.done);
    assert_int_equal(body_take(&body, data, 10, &used, &send, &err), 0);
    assert_int_equal(used, 0);
    body_init(&body, BODY_LENGTH, 0);
    assert_true(body.done);
}

static void whole_means_the_end_is_at_hand(void **state)
{
    struct body body;
    char data[sizeof(good)];

    (void)state;
    memcpy(data, good, sizeof(good));
    body_init(&body, BODY_CHUNKED, 0);
    for (size_t len = 0; len < sizeof(good) - 1; len++)
        assert_false(body_is_whole(&body, data, len));
    assert_true(body_is_whole(&body, data, sizeof(good) - 1));
    assert_int_equal(body.chunked.state, CHUNKED_SIZE_FIRST);
    body_init(&body, BODY_TO_EOF, 0);
    assert_false(body_is_whole(&body, data, 10));
    body_init(&body, BODY_NONE, 0);
    assert_true(body_is_whole(&body, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_split_at_every_byte_give_the_same_end),
        cmocka_unit_test(framing_can_be_taken_out_whatever_the_pieces),
        cmocka_unit_test(malformed_chunks_are_refused_however_they_arrive),
        cmocka_unit_test(endless_lines_are_refused),
        cmocka_unit_test(length_ends_where_it_says),
        cmocka_unit_test(whole_means_the_end_is_at_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
