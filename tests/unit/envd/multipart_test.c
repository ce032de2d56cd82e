#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/multipart.h"
#include "server/base/mem.h"

#define TYPE "multipart/form-data; boundary=XbX"

/* Everything the callbacks saw, as text: "<name|filename>content." per part. */
static int on_begin(void *arg, const struct multipart_part *part, struct err *err)
{
    (void)err;
    return buf_printf(arg, "<%s|%s>", part->name, part->filename != NULL ? part->filename : "-");
}
static int on_data(void *arg, const char *data, size_t len, struct err *err)
{
    (void)err;
    return buf_add(arg, data, len);
}
static int on_end(void *arg, struct err *err)
{
    (void)err;
    return buf_add_char(arg, '.');
}
static const struct multipart_events events = {on_begin, on_data, on_end};

/* Feed BODY cut at FIRST and then every STEP bytes. Returns what feed and finish returned. */
static int run(const char *body, size_t len, size_t first, size_t step, struct buf *seen)
{
    struct multipart mp;
    struct err err = {0};
    int rc = 0;

    buf_reset(seen);
    assert_int_equal(multipart_init(&mp, TYPE, &events, seen, &err), 0);
    for (size_t at = 0; rc == 0 && at < len;) {
        size_t size = at == 0 && first > 0 ? first : step;
        if (size > len - at)
            size = len - at;
        /* its own allocation, so that a read past the chunk is seen */
        _cleanup_free_ char *chunk = mem_strndup(body + at, size);
        rc = multipart_feed(&mp, chunk, size, &err);
        at += size;
    }
    if (rc == 0)
        rc = multipart_finish(&mp, &err);
    if (rc < 0)
        assert_int_equal(err.code, ERR_INVALID);
    multipart_clear(&mp);
    return rc;
}

#define HEAD_A "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n"

static const struct {
    const char *body, *want;
} good[] = {
    {"--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX--\r\n", "<file|a>hello."},
    {"--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX--", "<file|a>hello."},
    {"pre\r\namble\r\n--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX--\r\nepilogue --XbX", "<file|a>hello."},
    {"\r\n--XbX\r\n" HEAD_A "\r\n\r\n--XbX--\r\n", "<file|a>."},
    {"--XbX\r\n" HEAD_A "\r\n--XbX--\r\n", "<file|a>."}, /* the head's CRLF serves the boundary */
    {"--XbX\r\n\r\nx\r\n--XbX--\r\n", "<|->x."},
    {"--XbX \t\r\n" HEAD_A "\r\nx\r\n--XbX  \r\n" HEAD_A "\r\ny\r\n--XbX--\r\n",
     "<file|a>x.<file|a>y."},
    {"--XbX\r\n" HEAD_A "\r\n\r\n--Xb\r\n--XbY\r\n-\r\r\n--XbXX\r\n--XbX--\r\n",
     "<file|a>\r\n--Xb\r\n--XbY\r\n-\r\r\n--XbXX."},
    {"--XbX\r\n" HEAD_A "\r\n--XbXno\r\n--XbX--\r\n", "<file|a>--XbXno."},
    {"--XbX\r\ncontent-type: x/y\r\nCONTENT-DISPOSITION: form-data; Name=f; FileName=g.txt\r\n\r\n"
     "z\r\n--XbX--\r\n",
     "<f|g.txt>z."},
    {"--XbX--\r\n", ""},
};

static void parts_come_out_whatever_the_division(void **state)
{
    _cleanup_(buf_clear) struct buf seen;

    (void)state;
    buf_init(&seen, 1 << 20);
    for (size_t i = 0; i < array_size(good); i++) {
        size_t len = strlen(good[i].body);
        for (size_t first = 0; first <= len; first++) {
            assert_int_equal(run(good[i].body, len, first, len, &seen), 0);
            assert_string_equal(buf_str(&seen), good[i].want);
        }
        for (size_t step = 1; step < 9; step++) {
            assert_int_equal(run(good[i].body, len, 0, step, &seen), 0);
            assert_string_equal(buf_str(&seen), good[i].want);
        }
    }
}

static void malformed_bodies_are_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "hello",
        "--XbX\r\n" HEAD_A "\r\nhello",
        "--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX\r\n",
        "--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX-",
        "--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX-x",
        "--XbX\r\n" HEAD_A "\r\nhello\r\n--XbX \r--",
        "--XbX\rx",
        "--XbX\r\nContent-Disposition: form-data; name=\"file\r\n\r\nx\r\n--XbX--",
        "--XbX\r\nContent-Disposition: form-data; name\r\n\r\nx\r\n--XbX--",
    };
    _cleanup_(buf_clear) struct buf seen;

    (void)state;
    buf_init(&seen, 1 << 20);
    for (size_t i = 0; i < array_size(cases); i++)
        for (size_t step = 1; step < 80; step += 13)
            if (run(cases[i], strlen(cases[i]), 0, step, &seen) != -1)
                fail_msg("row %zu was accepted", i);
}

static void a_head_that_is_too_long_is_refused(void **state)
{
    _cleanup_(buf_clear) struct buf seen, body;

    (void)state;
    buf_init(&seen, 1 << 20);
    buf_init(&body, 1 << 20);
    buf_add_str(&body, "--XbX\r\nX: ");
    while (body.len < MULTIPART_HEAD_MAX_BYTES + 100)
        buf_add_str(&body, "aaaaaaaaaaaaaaaa");
    buf_add_str(&body, "\r\n\r\nx\r\n--XbX--");
    assert_int_equal(run(body.data, body.len, 0, 1000, &seen), -1);
}

static void content_may_hold_any_byte(void **state)
{
    static const char head[] = "--XbX\r\n" HEAD_A "\r\n";
    static const char tail[] = "\r\n--XbX--\r\n";
    char body[sizeof(head) + sizeof(tail) + 512];
    _cleanup_(buf_clear) struct buf seen;
    size_t len = sizeof(head) - 1;

    (void)state;
    buf_init(&seen, 1 << 20);
    memcpy(body, head, len);
    for (int i = 0; i < 512; i++)
        body[len++] = (char)(i & 255);
    memcpy(body + len, tail, sizeof(tail) - 1);
    len += sizeof(tail) - 1;
    assert_int_equal(run(body, len, 7, 11, &seen), 0);
    assert_int_equal(seen.len, strlen("<file|a>") + 512 + 1);
    assert_memory_equal(seen.data + strlen("<file|a>"), body + sizeof(head) - 1, 512);
}

static void a_boundary_is_wanted(void **state)
{
    static const char *const cases[] = {
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"a\nb\"",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"open",
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct multipart mp;
        struct err err = {0};
        assert_int_equal(multipart_init(&mp, cases[i], &events, NULL, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void parameters_are_read_as_clients_write_them(void **state)
{
    static const struct {
        const char *value, *want;
        int rc;
    } cases[] = {
        {"form-data; name=\"file\"; filename=\"/a/b c.txt\"", "/a/b c.txt", 1},
        {"form-data; name=file; filename=plain.txt", "plain.txt", 1},
        {"form-data; filename=\"q\\\"uote\\\\d\"", "q\"uote\\d", 1},
        {"form-data; filename=\"C:\\dir\\file\"", "C:\\dir\\file", 1},
        {"form-data; filename=\"gr\xc3\xbc n\"", "gr\xc3\xbc n", 1},
        {"form-data; filename=\"x\"; filename*=utf-8''gr%C3%BC%20n", "gr\xc3\xbc n", 1},
        {"form-data; filename*=UTF-8'de'%e2%82%ac.txt; filename=\"x\"", "\xe2\x82\xac.txt", 1},
        {"form-data; filename=\"\"", "", 1},
        {"form-data; filename=\"a;b\" ; name=x", "a;b", 1},
        {"form-data; name=\"file\";", "", 0},
        {"form-data", "", 0},
        {"form-data; name=filename", "", 0},
        {"form-data; filename=\"open", "", -1},
        {"form-data; filename", "", -1},
        {"form-data; ; filename=x", "", -1},
        {"form-data; filename=\"a\"b", "", -1},
        {"form-data; filename*=utf-8''%zz", "", -1},
        {"form-data; filename*=utf-8''%ff", "", -1},
        {"form-data; filename*=koi8-r''a", "", -1},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_(buf_clear) struct buf out;
        buf_init(&out, 256);
        int rc = multipart_param(cases[i].value, "filename", &out);
        if (rc != cases[i].rc)
            fail_msg("%s: %d", cases[i].value, rc);
        if (rc == 1)
            assert_string_equal(buf_str(&out), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_come_out_whatever_the_division),
        cmocka_unit_test(malformed_bodies_are_refused),
        cmocka_unit_test(a_head_that_is_too_long_is_refused),
        cmocka_unit_test(content_may_hold_any_byte),
        cmocka_unit_test(a_boundary_is_wanted),
        cmocka_unit_test(parameters_are_read_as_clients_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
