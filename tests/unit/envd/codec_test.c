#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/connect/codec.h"
#include "openapi/filesystem.pb-c.h"
#include "openapi/process.pb-c.h"
#include "server/base/mem.h"

#define START &process__start_request__descriptor
#define EVENT &process__start_response__descriptor
#define INPUT &process__send_input_request__descriptor
#define SIGNAL &process__send_signal_request__descriptor
#define ENTRY &filesystem__entry_info__descriptor
#define LISTING &filesystem__list_dir_request__descriptor
#define WATCH &filesystem__watch_dir_request__descriptor

/* What is read as IN is written as OUT (NULL: the same text). */
static const struct {
    const ProtobufCMessageDescriptor *desc;
    const char *in;
    const char *out;
} good[] = {
    {START, "{}", NULL},
    {START, "{\"process\":{}}", NULL},
    {START, "{\"process\":{\"cmd\":\"a\",\"args\":[\"\",\"\\u0001\\\"\\\\\"]}}", NULL},
    {START, "{\"process\":{\"envs\":{\"A\":\"1\",\"B\":\"\"}}}", NULL},
    {START, "{\"process\":{\"envs\":{}},\"tag\":null}", "{\"process\":{}}"},
    {START, "{\"process\":{\"cmd\":\"\",\"cwd\":\"\"}}", "{\"process\":{\"cwd\":\"\"}}"},
    {START, "{\"stdin\":false}", NULL},
    {START, "{\"stdin\":true,\"tag\":\"t\"}", "{\"tag\":\"t\",\"stdin\":true}"},
    {START, "{\"pty\":{\"size\":{\"cols\":80,\"rows\":0}}}", "{\"pty\":{\"size\":{\"cols\":80}}}"},
    {START, "{\"pty\":{\"size\":{\"cols\":\"80\",\"rows\":2.4e1}}}",
     "{\"pty\":{\"size\":{\"cols\":80,\"rows\":24}}}"},
    {START, "{\"unknown\":{\"a\":[1,2,{}]},\"tag\":\"\\u00e4\"}", "{\"tag\":\"\xc3\xa4\"}"},
    {EVENT, "{\"event\":{\"end\":{\"exit_code\":-1,\"status\":\"x\"}}}",
     "{\"event\":{\"end\":{\"exitCode\":-1,\"status\":\"x\"}}}"},
    {EVENT, "{\"event\":{\"end\":{\"exitCode\":\"-2147483648\",\"exited\":false,\"error\":\"\"}}}",
     "{\"event\":{\"end\":{\"exitCode\":-2147483648,\"error\":\"\"}}}"},
    {EVENT, "{\"event\":{\"keepalive\":{}}}", NULL},
    {EVENT, "{\"event\":{\"data\":{\"pty\":\"\"}}}", NULL},
    {INPUT, "{\"input\":{\"stdin\":\"_-8\"}}", "{\"input\":{\"stdin\":\"/+8=\"}}"},
    {INPUT, "{\"process\":{\"pid\":0}}", NULL},
    {INPUT, "{\"process\":{\"tag\":\"\"}}", NULL},
    {SIGNAL, "{\"signal\":\"SIGNAL_SIGTERM\"}", NULL},
    {SIGNAL, "{\"signal\":9}", "{\"signal\":\"SIGNAL_SIGKILL\"}"},
    {SIGNAL, "{\"signal\":77}", NULL},
    {SIGNAL, "{\"signal\":\"SIGNAL_UNSPECIFIED\"}", "{}"},
    {ENTRY, "{\"name\":\"n\",\"type\":\"FILE_TYPE_FILE\",\"size\":\"9223372036854775807\"}", NULL},
    {ENTRY, "{\"size\":12,\"is_symlink\":true}", "{\"size\":\"12\",\"isSymlink\":true}"},
    {ENTRY, "{\"modifiedTime\":\"2026-01-02T03:04:05Z\"}", NULL},
    {ENTRY, "{\"modifiedTime\":\"2026-01-02T03:04:05.678Z\"}", NULL},
    {ENTRY, "{\"modified_time\":\"2026-01-02T04:04:05.000001+01:00\"}",
     "{\"modifiedTime\":\"2026-01-02T03:04:05.000001Z\"}"},
    {ENTRY, "{\"modifiedTime\":\"1969-12-31T23:59:59.123456789Z\"}", NULL},
    {ENTRY, "{\"symlinkTarget\":\"\",\"metadata\":{\"k\":\"v\"}}", NULL},
    {LISTING, "{\"path\":\"/\",\"depth\":4294967295}", NULL},
    {WATCH, "{\"includeEntry\":true,\"allow_network_mounts\":true}",
     "{\"includeEntry\":true,\"allowNetworkMounts\":true}"},
};

static void json_is_read_and_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < array_size(good); i++) {
        _cleanup_message_ ProtobufCMessage *message = NULL;
        _cleanup_buf_ struct buf out;
        struct err err = {0};

        buf_init(&out, 1000);
        if (codec_decode(CODEC_JSON, good[i].desc, good[i].in, strlen(good[i].in), &message, &err) <
            0)
            fail_msg("%s: %s", good[i].in, err.msg);
        assert_int_equal(codec_encode(CODEC_JSON, message, &out, &err), 0);
        assert_string_equal(buf_str(&out), good[i].out != NULL ? good[i].out : good[i].in);
    }
}

static void binary_and_json_hold_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < array_size(good); i++) {
        _cleanup_message_ ProtobufCMessage *first = NULL, *second = NULL;
        _cleanup_buf_ struct buf wire, out;
        struct err err = {0};

        buf_init(&wire, 1000);
        buf_init(&out, 1000);
        assert_int_equal(
            codec_json_decode(good[i].desc, good[i].in, strlen(good[i].in), &first, &err), 0);
        assert_int_equal(codec_encode(CODEC_PROTO, first, &wire, &err), 0);
        if (codec_decode(CODEC_PROTO, good[i].desc, buf_str(&wire), wire.len, &second, &err) < 0)
            fail_msg("%s: %s", good[i].in, err.msg);
        assert_int_equal(codec_encode(CODEC_JSON, second, &out, &err), 0);
        assert_string_equal(buf_str(&out), good[i].out != NULL ? good[i].out : good[i].in);
    }
}

static const struct {
    const ProtobufCMessageDescriptor *desc;
    const char *in;
} bad[] = {
    {START, ""},
    {START, "[]"},
    {START, "null"},
    {START, "{"},
    {START, "{} x"},
    {START, "{\"process\":[]}"},
    {START, "{\"process\":{\"cmd\":1}}"},
    {START, "{\"process\":{\"cmd\":\"\xff\"}}"},
    {START, "{\"process\":{\"cmd\":\"a\\u0000b\"}}"},
    {START, "{\"process\":{\"args\":\"a\"}}"},
    {START, "{\"process\":{\"args\":[\"a\",null]}}"},
    {START, "{\"process\":{\"envs\":[]}}"},
    {START, "{\"process\":{\"envs\":{\"a\":1}}}"},
    {START, "{\"process\":{\"cmd\":\"a\",\"cmd\":\"b\"}}"},
    {START, "{\"stdin\":\"true\"}"},
    {START, "{\"pty\":{\"size\":{\"cols\":-1}}}"},
    {START, "{\"pty\":{\"size\":{\"cols\":4294967296}}}"},
    {START, "{\"pty\":{\"size\":{\"cols\":1.5}}}"},
    {START, "{\"pty\":{\"size\":{\"cols\":\"\"}}}"},
    {START, "{\"pty\":{\"size\":{\"cols\":1e300}}}"},
    {INPUT, "{\"input\":{\"stdin\":\"***\"}}"},
    {INPUT, "{\"input\":{\"stdin\":\"eA==\",\"pty\":\"eA==\"}}"},
    {INPUT, "{\"process\":{\"pid\":1,\"tag\":\"x\"}}"},
    {EVENT, "{\"event\":{\"end\":{\"exit_code\":1,\"status\":\"a\",\"exitCode\":2147483648}}}"},
    {SIGNAL, "{\"signal\":\"SIGKILL\"}"},
    {SIGNAL, "{\"signal\":true}"},
    {ENTRY, "{\"modifiedTime\":\"yesterday\"}"},
    {ENTRY, "{\"modifiedTime\":5}"},
    {ENTRY, "{\"size\":\"9223372036854775808\"}"},
    {ENTRY, "{\"modifiedTime\":\"2026-01-02T03:04:05Z\",\"modified_time\":null,"
            "\"modifiedTime \":1,\"name\":\"a\",\"metadata\":{\"a\":null}}"},
};

static void json_that_is_wrong_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        ProtobufCMessage *message = NULL;
        struct err err = {0};

        if (codec_decode(CODEC_JSON, bad[i].desc, bad[i].in, strlen(bad[i].in), &message, &err) !=
            -1)
            fail_msg("accepted: %s", bad[i].in);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(err.msg[0] != '\0');
        assert_null(message);
    }
}

static void binary_that_is_wrong_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\x0a", 1},                     /* no length */
        {"\x0a\x05\x0a", 3},             /* cut */
        {"\x0a\x04\x0a\x02\xff\xfe", 6}, /* cmd is not UTF-8 */
        {"\x0a\x03\x0a\x01\x00", 5},     /* cmd holds NUL */
        {"\x1a\x01\xff", 3},             /* tag is not UTF-8 */
        {"\x00\x01", 2},                 /* field 0 */
        {"\x0b\x0c", 2},                 /* groups */
        {"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11},
        {"\x0d\x01\x02", 3}, /* fixed32, cut */
    };

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        ProtobufCMessage *message = NULL;
        struct err err = {0};

        if (codec_decode(CODEC_PROTO, START, cases[i].bytes, cases[i].len, &message, &err) != -1)
            fail_msg("accepted: case %zu", i);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void a_message_larger_than_its_buffer_is_an_error(void **state)
{
    Process__ProcessInput in;
    uint8_t data[100] = {0};
    _cleanup_buf_ struct buf out;

    (void)state;
    process__process_input__init(&in);
    in.input_case = PROCESS__PROCESS_INPUT__INPUT_PTY;
    in.pty.data = data;
    in.pty.len = sizeof(data);
    buf_init(&out, 90);
    for (enum codec codec = CODEC_JSON; codec <= CODEC_PROTO; codec++) {
        struct err err = {0};

        buf_reset(&out);
        assert_int_equal(codec_encode(codec, &in.base, &out, &err), -1);
        assert_int_equal(err.code, ERR_LIMIT);
    }
}

static void a_string_that_is_not_utf8_is_not_sent(void **state)
{
    Filesystem__EntryInfo entry = FILESYSTEM__ENTRY_INFO__INIT;
    char name[] = "\xff";
    _cleanup_buf_ struct buf out;
    struct err err = {0};

    (void)state;
    entry.name = name;
    buf_init(&out, 100);
    assert_int_equal(codec_json_encode(&entry.base, &out, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_read_and_written),
        cmocka_unit_test(binary_and_json_hold_the_same),
        cmocka_unit_test(json_that_is_wrong_is_refused),
        cmocka_unit_test(binary_that_is_wrong_is_refused),
        cmocka_unit_test(a_message_larger_than_its_buffer_is_an_error),
        cmocka_unit_test(a_string_that_is_not_utf8_is_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
