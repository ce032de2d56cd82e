#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/engine/local/launcher_proto.h"

static struct launcher_request good_create(void)
{
    return (struct launcher_request){
        .magic = LAUNCHER_MAGIC,
        .op = LAUNCHER_CREATE,
        .serial = 1,
        .id = "i0123456789abcdefghij",
        .template_id = "team-a/python:v1.2",
        .cpu_count = 2,
        .memory_mb = 512,
        .disk_mb = 1024,
        .pids_max = 100,
        .internet = 1,
    };
}

static int verdict(const struct launcher_request *request, int fds)
{
    struct err err = {0};
    int rc = request_check(request, sizeof(*request), fds, &err);

    assert_int_equal(err.code, rc == 0 ? ERR_NONE : ERR_INVALID);
    return rc;
}

static void every_operation_has_a_well_formed_request(void **state)
{
    struct launcher_request create = good_create();

    (void)state;
    assert_int_equal(verdict(&create, 1), 0);
    for (uint32_t op = LAUNCHER_DESTROY; op < LAUNCHER_OP_COUNT; op++) {
        struct launcher_request request = {.magic = LAUNCHER_MAGIC, .op = op, .id = "a"};
        request.sockets = op == LAUNCHER_DIAL;
        if (op == LAUNCHER_START) {
            request = good_create();
            request.op = op;
        }
        if (op == LAUNCHER_LIST || op == LAUNCHER_SNAPSHOT_LIST || op == LAUNCHER_SNAPSHOT_DELETE ||
            op == LAUNCHER_GROUPS || op == LAUNCHER_VOLUME)
            request.id[0] = '\0';
        if (op == LAUNCHER_SNAPSHOT || op == LAUNCHER_SNAPSHOT_DELETE)
            request.snapshot_id[0] = 's';
        assert_int_equal(verdict(&request, op == LAUNCHER_START || op == LAUNCHER_VOLUME ||
                                               op == LAUNCHER_MOUNTS || op == LAUNCHER_NETWORK),
                         0);
    }
}

static void ids_that_are_not_ids_are_refused(void **state)
{
    static const char *const ids[] = {"", "../etc", "a/b", "A", "a-b", "a b", ".", "spare-1"};
    struct launcher_request request = good_create();

    (void)state;
    for (size_t i = 0; i < array_size(ids); i++) {
        memset(request.id, 0, sizeof(request.id));
        memcpy(request.id, ids[i], strlen(ids[i]));
        if (verdict(&request, 1) == 0)
            fail_msg("accepted: '%s'", ids[i]);
    }
    memset(request.id, 'a', sizeof(request.id)); /* no NUL */
    assert_int_equal(verdict(&request, 1), -1);
    memset(request.id, 0, sizeof(request.id));
    request.id[0] = 'a';
    request.id[2] = 'b'; /* bytes after the NUL */
    assert_int_equal(verdict(&request, 1), -1);
}

static void snapshots_are_named_where_they_belong(void **state)
{
    struct launcher_request create = good_create(), start = good_create();
    struct launcher_request snapshot = {
        .magic = LAUNCHER_MAGIC, .op = LAUNCHER_SNAPSHOT, .id = "a", .snapshot_id = "b"};
    struct launcher_request list = {.magic = LAUNCHER_MAGIC, .op = LAUNCHER_SNAPSHOT_LIST};

    (void)state;
    create.snapshot_id[0] = 's';
    assert_int_equal(verdict(&create, 1), 0);
    create.snapshot_id[0] = '/';
    assert_int_equal(verdict(&create, 1), -1);
    start.op = LAUNCHER_START;
    start.snapshot_id[0] = 's';
    assert_int_equal(verdict(&start, 1), -1);
    assert_int_equal(verdict(&snapshot, 0), 0);
    snapshot.snapshot_id[0] = '\0';
    assert_int_equal(verdict(&snapshot, 0), -1);
    list.snapshot_id[0] = 's';
    assert_int_equal(verdict(&list, 0), -1);
    list.snapshot_id[0] = '\0';
    list.id[0] = 'a';
    assert_int_equal(verdict(&list, 0), -1);
}

static void numbers_outside_their_range_are_refused(void **state)
{
    struct launcher_request request;

    (void)state;
#define REFUSES(member, value)                                                                     \
    do {                                                                                           \
        request = good_create();                                                                   \
        request.member = (value);                                                                  \
        assert_int_equal(verdict(&request, 1), -1);                                                \
    } while (0)
    REFUSES(magic, 0);
    REFUSES(op, 0);
    REFUSES(op, LAUNCHER_OP_COUNT);
    REFUSES(op, UINT32_MAX);
    REFUSES(cpu_count, 0);
    REFUSES(cpu_count, LAUNCHER_CPU_MAX + 1);
    REFUSES(memory_mb, LAUNCHER_MEMORY_MIN_MB - 1);
    REFUSES(memory_mb, UINT32_MAX);
    REFUSES(disk_mb, 0);
    REFUSES(disk_mb, UINT32_MAX);
    REFUSES(pids_max, 0);
    REFUSES(pids_max, LAUNCHER_PIDS_MAX + 1);
    REFUSES(internet, 2);
    REFUSES(ipv6, 255);
    REFUSES(zero, 1);
    REFUSES(sockets, 1);
    REFUSES(template_id[0], '\n');
    REFUSES(template_id[0], '\0');
#undef REFUSES
}

static void descriptors_and_sizes_must_match_the_operation(void **state)
{
    struct launcher_request create = good_create();
    struct launcher_request list = {.magic = LAUNCHER_MAGIC, .op = LAUNCHER_LIST};
    struct err err = {0};

    (void)state;
    assert_int_equal(verdict(&create, 0), -1);
    assert_int_equal(verdict(&create, 2), -1);
    assert_int_equal(verdict(&list, 1), -1);
    assert_int_equal(request_check(&create, sizeof(create) - 1, 1, &err), -1);
    list.memory_mb = 64; /* limits where none belong */
    assert_int_equal(verdict(&list, 0), -1);
}

static void a_reply_carries_an_error_whole(void **state)
{
    struct launcher_reply reply;
    struct err sent = {0}, got = {0};

    (void)state;
    err_set(&sent, ERR_LIMIT, "no room");
    err_detail(&sent, "slot %d", 7);
    reply_init(&reply, 42, &sent);
    assert_int_equal(reply.serial, 42);
    assert_int_equal(reply_result(&reply, &got), -1);
    assert_int_equal(got.code, ERR_LIMIT);
    assert_string_equal(got.msg, "no room");
    assert_string_equal(got.detail, "slot 7");
    reply_init(&reply, 43, NULL);
    assert_int_equal(reply_result(&reply, &got), 0);
    reply.code = 9999; /* unknown to this side */
    assert_int_equal(reply_result(&reply, &got), -1);
    assert_int_equal(got.code, ERR_INTERNAL);
}

static void packets_carry_descriptors_and_close_those_too_many(void **state)
{
    char data[16] = "hello", back[16] = "";
    int pair[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[PACKET_FDS_MAX], count = 0;
    int two[2] = {null, null}, next;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(packet_send(pair[0], data, sizeof(data), &null, 1, 0), 0);
    assert_int_equal(packet_receive(pair[1], back, sizeof(back), fds, 1, &count, 0), sizeof(back));
    assert_string_equal(back, "hello");
    assert_int_equal(count, 1);
    assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
    close(fds[0]);
    next = fds[0];
    assert_int_equal(packet_send(pair[0], data, sizeof(data), two, 2, 0), 0);
    assert_int_equal(packet_receive(pair[1], back, sizeof(back), fds, 1, &count, 0), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(fcntl(next, F_GETFD), -1); /* both were closed */
    assert_int_equal(packet_send(pair[0], data, sizeof(data), NULL, 0, 0), 0);
    assert_int_equal(packet_receive(pair[1], back, 4, fds, 1, &count, 0), -1);
    assert_int_equal(errno, EMSGSIZE);
    close(pair[0]);
    assert_int_equal(packet_receive(pair[1], back, sizeof(back), fds, 1, &count, 0), 0);
    close(pair[1]);
    close(null);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_a_well_formed_request),
        cmocka_unit_test(ids_that_are_not_ids_are_refused),
        cmocka_unit_test(snapshots_are_named_where_they_belong),
        cmocka_unit_test(numbers_outside_their_range_are_refused),
        cmocka_unit_test(descriptors_and_sizes_must_match_the_operation),
        cmocka_unit_test(a_reply_carries_an_error_whole),
        cmocka_unit_test(packets_carry_descriptors_and_close_those_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
