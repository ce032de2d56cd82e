#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/connect/envelope.h"
#include "server/base/mem.h"

static const char wire[] = "\0\0\0\0\3abc"
                           "\2\0\0\0\0"
                           "\1\0\0\0\2xy";

static void an_envelope_is_the_same_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t step = 1; step < sizeof(wire); step++) {
        struct envelope_reader reader;
        struct buf seen;
        struct err err = {0};

        envelope_reader_init(&reader, 100);
        buf_init(&seen, 200);
        for (size_t at = 0; at < sizeof(wire) - 1;) {
            size_t left = sizeof(wire) - 1 - at, used;
            int rc =
                envelope_reader_feed(&reader, wire + at, left < step ? left : step, &used, &err);

            assert_true(rc >= 0);
            at += used;
            if (rc == 0)
                continue;
            buf_printf(&seen, "%d:%s;", reader.head[0], buf_str(&reader.payload));
            envelope_reader_next(&reader);
        }
        assert_string_equal(buf_str(&seen), "0:abc;2:;1:xy;");
        assert_false(envelope_reader_partial(&reader));
        buf_clear(&seen);
        envelope_reader_clear(&reader);
    }
}

static void a_large_message_and_unknown_flags_are_refused(void **state)
{
    static const struct {
        const char *head;
        enum err_code code;
    } cases[] = {
        {"\0\0\0\0\x0b", ERR_LIMIT},
        {"\0\xff\xff\xff\xff", ERR_LIMIT},
        {"\4\0\0\0\1", ERR_INVALID},
        {"\x80\0\0\0\1", ERR_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct envelope_reader reader;
        struct err err = {0};
        size_t used;

        envelope_reader_init(&reader, 10);
        assert_int_equal(envelope_reader_feed(&reader, cases[i].head, 5, &used, &err), -1);
        assert_int_equal(err.code, cases[i].code);
        envelope_reader_clear(&reader);
    }
}

static void an_unfinished_envelope_is_noticed(void **state)
{
    struct envelope_reader reader;
    struct err err = {0};
    size_t used;

    (void)state;
    envelope_reader_init(&reader, 10);
    assert_false(envelope_reader_partial(&reader));
    assert_int_equal(envelope_reader_feed(&reader, "\0\0\0\0\3ab", 7, &used, &err), 0);
    assert_int_equal(used, 7);
    assert_true(envelope_reader_partial(&reader));
    envelope_reader_clear(&reader);
}

static void a_head_has_the_length_in_network_order(void **state)
{
    uint8_t head[ENVELOPE_HEAD_BYTES];

    (void)state;
    envelope_head(head, ENVELOPE_END, 0x01020304);
    assert_memory_equal(head, "\2\1\2\3\4", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_envelope_is_the_same_however_it_is_cut),
        cmocka_unit_test(a_large_message_and_unknown_flags_are_refused),
        cmocka_unit_test(an_unfinished_envelope_is_noticed),
        cmocka_unit_test(a_head_has_the_length_in_network_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
