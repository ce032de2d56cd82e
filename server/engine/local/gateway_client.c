#include "server/engine/local/gateway_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/base/str.h"
#include "server/engine/local/launcher_proto.h"

#define BACKLOG 128

uint64_t gateway_version(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* By way of the folder's descriptor: a path in full may be longer than a socket's name may be. */
static int folder_open(const struct context *ctx, struct sockaddr_un *address, struct err *err)
{
    int fd = open(ctx->config->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", ctx->config->run_dir);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/" GATEWAY_SOCKET, fd);
    return fd;
}

int gateway_connect(const struct context *ctx, struct err *err)
{
    struct sockaddr_un address;
    _cleanup_close_ int folder = folder_open(ctx, &address, err);
    _cleanup_close_ int sock = -1;

    if (folder < 0)
        return -1;
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_sys(err, errno, "cannot reach the egress gateway");
    return steal_fd(&sock);
}

int gateway_listen(const struct context *ctx, struct err *err)
{
    struct sockaddr_un address;
    _cleanup_close_ int folder = folder_open(ctx, &address, err);
    _cleanup_close_ int sock = -1;
    mode_t before;
    int rc;

    if (folder < 0)
        return -1;
    unlinkat(folder, GATEWAY_SOCKET, 0);
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    before = umask(0177);
    rc = sock < 0 ? -1 : bind(sock, (struct sockaddr *)&address, sizeof(address));
    umask(before);
    if (rc < 0 || listen(sock, BACKLOG) < 0)
        return err_sys(err, errno, "cannot listen for the egress gateway");
    return steal_fd(&sock);
}

static int wait_answer(int sock, struct err *err)
{
    const struct timeval limit = {.tv_sec = GATEWAY_WAIT_MS / 1000};
    struct gateway_reply reply;
    int count = 0;
    ssize_t n;

    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
        return err_sys(err, errno, "cannot wait for the egress gateway");
    n = packet_receive(sock, &reply, sizeof(reply), NULL, 0, &count, 0);
    if (n != (ssize_t)sizeof(reply) || reply.magic != GATEWAY_MAGIC)
        return err_set(err, ERR_BUSY, "the egress gateway does not answer; try again");
    if (reply.code == ERR_NONE)
        return 0;
    reply.msg[sizeof(reply.msg) - 1] = '\0';
    return err_set(err, reply.code < ERR_CODE_COUNT ? (enum err_code)reply.code : ERR_INTERNAL,
                   "%s", reply.msg);
}

int gateway_call(const struct context *ctx, enum gateway_op op, uint32_t address, uint64_t version,
                 const char *id, int rules, struct err *err)
{
    struct gateway_request request = {
        .magic = GATEWAY_MAGIC,
        .op = op,
        .address = address,
        .version = version,
    };
    _cleanup_close_ int sock = gateway_connect(ctx, err);

    if (sock < 0)
        return -1;
    str_copy(request.id, sizeof(request.id), id, strlen(id));
    if (packet_send(sock, &request, sizeof(request), &rules, rules >= 0 ? 1 : 0, 0) < 0)
        return err_sys(err, errno, "cannot tell the egress gateway");
    return wait_answer(sock, err);
}
