#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "envd/handover.h"
#include "server/base/mem.h"

static void put_agent(struct handover_out *out, const char *version)
{
    Handover__Record record = HANDOVER__RECORD__INIT;
    Handover__Agent agent = HANDOVER__AGENT__INIT;

    agent.format = HANDOVER_FORMAT;
    agent.version = (char *)(uintptr_t)version;
    record.kind_case = HANDOVER__RECORD__KIND_AGENT;
    record.agent = &agent;
    handover_put(out, &record);
}

static void put_connection(struct handover_out *out, size_t len)
{
    Handover__Record record = HANDOVER__RECORD__INIT;
    Handover__Connection connection = HANDOVER__CONNECTION__INIT;
    _cleanup_free_ char *bytes = mem_zalloc(len + 1);

    memset(bytes, 'x', len);
    connection.in = handover_bytes(bytes, len);
    record.kind_case = HANDOVER__RECORD__KIND_CONNECTION;
    record.connection = &connection;
    handover_put(out, &record);
}

/* The bytes of a state with an agent and connections of so many bytes; to free(). */
static uint8_t *state_of(const size_t *sizes, size_t count, size_t *len)
{
    struct err err = {0};
    struct handover_out *out = handover_out_new(&err);
    uint8_t *data;
    int fd;

    assert_non_null(out);
    put_agent(out, "1.2.3");
    for (size_t i = 0; i < count; i++)
        put_connection(out, sizes[i]);
    fd = handover_out_seal(out, &err);
    assert_true(fd >= 0);
    *len = (size_t)lseek(fd, 0, SEEK_END);
    data = mem_zalloc(*len);
    assert_int_equal(pread(fd, data, *len, 0), (ssize_t)*len);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1); /* sealed */
    handover_out_free(out);
    return data;
}

static void what_is_written_is_read(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 70000, 3000000};
    struct handover_in in;
    struct err err = {0};
    size_t len;
    _cleanup_free_ uint8_t *data = state_of(sizes, array_size(sizes), &len);

    (void)state;
    handover_in_memory(data, len, &in);
    for (size_t i = 0; i <= array_size(sizes); i++) {
        _cleanup_record_ Handover__Record *record = NULL;

        assert_int_equal(handover_next(&in, &record, &err), 1);
        if (i == 0)
            assert_string_equal(record->agent->version, "1.2.3");
        else
            assert_int_equal(record->connection->in.len, sizes[i - 1]);
    }
    Handover__Record *none = NULL;
    assert_int_equal(handover_next(&in, &none, &err), 0);
    assert_int_equal(handover_next(&in, &none, &err), 0);
}

/* 0: a whole state, -1: refused. */
static int read_all(const uint8_t *data, size_t len)
{
    struct handover_in in;
    struct err err = {0};
    int rc;

    handover_in_memory(data, len, &in);
    do {
        _cleanup_record_ Handover__Record *record = NULL;

        rc = handover_next(&in, &record, &err);
    } while (rc > 0);
    return rc;
}

static void a_state_that_is_cut_anywhere_is_refused(void **state)
{
    static const size_t sizes[] = {5, 100};
    size_t len;
    _cleanup_free_ uint8_t *data = state_of(sizes, array_size(sizes), &len);

    (void)state;
    assert_int_equal(read_all(data, len), 0);
    for (size_t i = 0; i < len; i++) {
        if (read_all(data, i) != -1)
            fail_msg("%zu of %zu bytes pass", i, len);
    }
}

static void a_length_beyond_the_end_is_refused(void **state)
{
    uint8_t data[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    (void)state;
    assert_int_equal(read_all(data, sizeof(data)), -1);
    data[7] = 0;
    assert_int_equal(read_all(data, sizeof(data)), -1);
}

/* Field 14 of Record, which this envd does not know; then an End that counts it. */
static void a_record_of_a_kind_to_come_is_passed_over(void **state)
{
    static const uint8_t data[] = {5, 0, 0, 0, 0, 0, 0, 0, 0x72, 3, 1, 2, 3,
                                   4, 0, 0, 0, 0, 0, 0, 0, 0x7a, 2, 8, 1};
    struct handover_in in;
    struct err err = {0};
    Handover__Record *record = NULL;

    (void)state;
    handover_in_memory(data, sizeof(data), &in);
    assert_int_equal(handover_next(&in, &record, &err), 1);
    assert_int_equal(record->kind_case, HANDOVER__RECORD__KIND__NOT_SET);
    handover__record__free_unpacked(record, NULL);
    assert_int_equal(handover_next(&in, &record, &err), 0);
}

static void what_cannot_be_handed_over_refuses_all(void **state)
{
    struct err err = {0};
    struct handover_out *out = handover_out_new(&err);

    (void)state;
    put_agent(out, "1");
    handover_refuse(out, "a thing");
    assert_int_equal(handover_out_seal(out, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    handover_out_free(out);
}

static void descriptors_are_checked(void **state)
{
    int fd = open("/dev/null", O_RDONLY), out = 7; /* not close-on-exec */
    struct err err = {0};

    (void)state;
    assert_int_equal(handover_take_fd(fd, &out, &err), 0);
    assert_int_equal(out, fd);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(handover_take_fd(-1, &out, &err), 0);
    assert_int_equal(out, -1);
    close(fd);
    assert_int_equal(handover_take_fd(fd, &out, &err), -1);
    assert_int_equal(handover_take_fd(2, &out, &err), -1);
    assert_int_equal(handover_take_fd(-2, &out, &err), -1);
    assert_int_equal(handover_take_fd(INT32_MAX, &out, &err), -1);
}

static void a_string_with_a_nul_is_refused(void **state)
{
    ProtobufCBinaryData bytes = handover_bytes("a\0b", 3);
    struct err err = {0};
    char *out = NULL;

    (void)state;
    assert_int_equal(handover_take_str(&bytes, &out, &err), -1);
    bytes.len = 1;
    assert_int_equal(handover_take_str(&bytes, &out, &err), 0);
    assert_string_equal(out, "a");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_state_that_is_cut_anywhere_is_refused),
        cmocka_unit_test(a_length_beyond_the_end_is_refused),
        cmocka_unit_test(a_record_of_a_kind_to_come_is_passed_over),
        cmocka_unit_test(what_cannot_be_handed_over_refuses_all),
        cmocka_unit_test(descriptors_are_checked),
        cmocka_unit_test(a_string_with_a_nul_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
