#include "server/engine/local/volume_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/volume_mount.h"
#include "server/engine/local/volume_proto.h"

#define ANSWER_WAIT_MS 120000 /* a large tree takes long to remove; a worker waits meanwhile */

/* The entries that FD holds. */
static int read_entries(int fd, const struct volume_reply *reply, struct volume_answer *out,
                        struct err *err)
{
    _cleanup_free_ char *data = NULL;

    if (reply->bytes > VOLUME_RECORDS_MAX)
        return err_set(err, ERR_INTERNAL, "the answer of a volume helper is too long");
    data = mem_zalloc(reply->bytes + 1);
    if (fd_read_full(fd, data, reply->bytes) < 0 ||
        volume_records_parse(data, reply->bytes, reply->count, &out->entries) < 0)
        return err_set(err, ERR_INTERNAL, "the answer of a volume helper cannot be read");
    out->count = reply->count;
    return 0;
}

static int reply_err(const struct volume_reply *reply, struct err *err)
{
    enum err_code code = reply->code < ERR_CODE_COUNT ? (enum err_code)reply->code : ERR_INTERNAL;

    err_set(err, code, "%.*s", (int)strnlen(reply->msg, sizeof(reply->msg)), reply->msg);
    return err_detail(err, "%.*s", (int)strnlen(reply->detail, sizeof(reply->detail)),
                      reply->detail);
}

/* The answer on SOCK. FILE: it comes with one. */
static int receive(int sock, bool file, struct volume_answer *out, struct err *err)
{
    struct pollfd poll_fd = {.fd = sock, .events = POLLIN};
    struct volume_reply reply;
    int fds[2] = {-1, -1}, count = 0, rc = 0;
    ssize_t n;

    if (poll(&poll_fd, 1, ANSWER_WAIT_MS) != 1)
        return err_set(err, ERR_TIMEOUT, "the volume does not answer");
    n = packet_receive(sock, &reply, sizeof(reply), fds, 2, &count, 0);
    if (n != (ssize_t)sizeof(reply) || reply.magic != VOLUME_MAGIC)
        rc = err_set(err, ERR_INTERNAL, "a volume helper ended early");
    else if (reply.code != ERR_NONE)
        rc = reply_err(&reply, err);
    else if (count != (reply.count > 0) + (file ? 1 : 0))
        rc = err_set(err, ERR_INTERNAL, "the answer of a volume helper lacks its files");
    else if (reply.count > 0)
        rc = read_entries(fds[0], &reply, out, err);
    if (rc == 0 && file)
        out->file = steal_fd(&fds[count - 1]);
    fd_close(&fds[0]);
    fd_close(&fds[1]);
    return rc;
}

/* Send CALL to a helper of its own and wait. *SOCK is the connection. */
static int call_helper(struct client *client, struct volume_call *call, bool file, int *sock,
                       struct volume_answer *out, struct err *err)
{
    struct launcher_request request = {.op = LAUNCHER_VOLUME};
    _cleanup_close_ int ours = -1, theirs = -1;
    struct volume_answer answer = VOLUME_ANSWER_NONE;
    int pair[2];

    call->magic = VOLUME_MAGIC;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "cannot create a socket pair");
    ours = pair[0];
    theirs = pair[1];
    if (packet_send(ours, call, sizeof(*call), NULL, 0, 0) < 0)
        return err_sys(err, errno, "cannot ask a volume helper");
    if (client_call(client, &request, theirs, NULL, NULL, NULL, err) < 0)
        return -1;
    fd_close(&theirs); /* else the helper's end would go unnoticed */
    if (receive(ours, file, &answer, err) < 0) {
        volume_answer_clear(&answer);
        return -1;
    }
    if (sock != NULL)
        *sock = steal_fd(&ours);
    if (out != NULL)
        *out = answer;
    else
        volume_answer_clear(&answer);
    return 0;
}

static int call_init(struct volume_call *call, uint32_t verb, const char *volume_id,
                     struct err *err)
{
    *call = (struct volume_call){.verb = verb, .uid = -1, .gid = -1, .mode = -1};
    if (str_copy(call->volume_id, sizeof(call->volume_id), volume_id, strlen(volume_id)) < 0)
        return err_set(err, ERR_INVALID, "Invalid volume ID");
    return 0;
}

int volume_client_create(struct client *client, const char *volume_id, uint64_t size_mb,
                         struct err *err)
{
    struct volume_call call;

    if (call_init(&call, VOLUME_CALL_CREATE, volume_id, err) < 0)
        return -1;
    call.size_mb = size_mb;
    return call_helper(client, &call, false, NULL, NULL, err);
}

int volume_client_delete(struct client *client, const char *volume_id, struct err *err)
{
    struct volume_call call;

    if (call_init(&call, VOLUME_CALL_DELETE, volume_id, err) < 0)
        return -1;
    return call_helper(client, &call, false, NULL, NULL, err);
}

int volume_client_list(struct client *client, engine_volume_fn fn, void *ctx, struct err *err)
{
    struct volume_answer answer = VOLUME_ANSWER_NONE;
    struct volume_call call;

    if (call_init(&call, VOLUME_CALL_NAMES, "", err) < 0 ||
        call_helper(client, &call, false, NULL, &answer, err) < 0)
        return -1;
    for (size_t i = 0; i < answer.count; i++)
        fn(ctx, answer.entries[i].path);
    volume_answer_clear(&answer);
    return 0;
}

int volume_client_do(struct client *client, const char *volume_id,
                     const struct volume_request *request, struct volume_answer *answer,
                     struct err *err)
{
    bool write = request->verb == VOLUME_WRITE, file = write || request->verb == VOLUME_READ;
    struct volume_call call;
    int sock = -1;

    if (call_init(&call, request->verb, volume_id, err) < 0)
        return -1;
    call.uid = request->uid;
    call.gid = request->gid;
    call.mode = request->mode;
    call.force = request->force;
    call.depth = request->verb == VOLUME_LIST ? request->depth : 0;
    memcpy(call.path, request->path, strnlen(request->path, sizeof(call.path) - 1));
    if (call_helper(client, &call, file, &sock, answer, err) < 0)
        return -1;
    if (write)
        answer->session = steal_fd(&sock);
    fd_close(&sock);
    return 0;
}

int volume_client_commit(struct volume_answer *answer, struct err *err)
{
    struct volume_call call;
    struct volume_answer committed = VOLUME_ANSWER_NONE;

    if (call_init(&call, VOLUME_CALL_COMMIT, "", err) < 0)
        return -1;
    call.magic = VOLUME_MAGIC;
    if (packet_send(answer->session, &call, sizeof(call), NULL, 0, 0) < 0)
        return err_sys(err, errno, "cannot finish the write");
    if (receive(answer->session, false, &committed, err) < 0)
        return -1;
    volume_answer_clear(answer);
    *answer = committed;
    return 0;
}

/* An outer volume is mounted before one inside it. */
static int by_path_length(const void *a, const void *b)
{
    size_t x = strlen(((const struct volume_mount *)a)->path);
    size_t y = strlen(((const struct volume_mount *)b)->path);

    return (x > y) - (x < y);
}

int volume_client_mounts(struct client *client, const struct engine_spec *spec, struct err *err)
{
    struct launcher_request request = {.op = LAUNCHER_MOUNTS};
    _cleanup_free_ struct volume_mount *mounts = NULL;
    _cleanup_free_ struct volume_order *orders = NULL;
    _cleanup_close_ int fd = -1;
    size_t count = 0;

    if (volume_mounts_parse(spec->volume_mounts, &mounts, &count, err) < 0)
        return -1;
    if (count == 0)
        return 0;
    if (str_copy(request.id, sizeof(request.id), spec->id, strlen(spec->id)) < 0)
        return err_set(err, ERR_INVALID, "Invalid sandbox ID");
    qsort(mounts, count, sizeof(*mounts), by_path_length);
    orders = mem_calloc(count, sizeof(*orders));
    for (size_t i = 0; i < count; i++) {
        memcpy(orders[i].volume_id, mounts[i].volume_id, sizeof(orders[i].volume_id));
        memcpy(orders[i].path, mounts[i].path, strlen(mounts[i].path));
    }
    fd = memfd_create("volumes", MFD_CLOEXEC);
    if (fd < 0 || fd_write_full(fd, orders, count * sizeof(*orders)) < 0)
        return err_sys(err, errno, "cannot pass on the volumes");
    return client_call(client, &request, fd, NULL, NULL, NULL, err);
}
