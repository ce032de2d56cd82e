#include "server/engine/local/launcher_proto.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/base/mem.h"

/* A NUL-terminated name inside SIZE bytes, zeros after it; EMPTY says whether "" will do. */
static bool text_ok(const char *s, size_t size, const char *extra, bool empty)
{
    size_t len = strnlen(s, size);

    if (len == size || (len == 0 && !empty))
        return false;
    for (size_t i = 0; i < len; i++) {
        bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');
        if (!alnum && strchr(extra, s[i]) == NULL)
            return false;
    }
    for (size_t i = len; i < size; i++) {
        if (s[i] != '\0')
            return false;
    }
    return true;
}

/* Which fields and how many descriptors each operation has. */
static const struct {
    bool id;
    bool snapshot; /* must have one */
    bool spec;
    int fds;
} shapes[LAUNCHER_OP_COUNT] = {
    [LAUNCHER_CREATE] = {.id = true, .spec = true, .fds = 1},
    [LAUNCHER_DESTROY] = {.id = true},
    [LAUNCHER_ADOPT] = {.id = true},
    [LAUNCHER_LIST] = {.id = false},
    [LAUNCHER_DIAL] = {.id = true},
    [LAUNCHER_NETWORK] = {.id = true, .fds = 1},
    [LAUNCHER_FREEZE] = {.id = true},
    [LAUNCHER_THAW] = {.id = true},
    [LAUNCHER_STOP] = {.id = true},
    [LAUNCHER_START] = {.id = true, .spec = true, .fds = 1},
    [LAUNCHER_SNAPSHOT] = {.id = true, .snapshot = true},
    [LAUNCHER_SNAPSHOT_DELETE] = {.snapshot = true},
    [LAUNCHER_SNAPSHOT_LIST] = {.id = false},
    [LAUNCHER_GROUPS] = {.id = false},
    [LAUNCHER_LOG] = {.id = true},
    [LAUNCHER_VOLUME] = {.fds = 1},
    [LAUNCHER_MOUNTS] = {.id = true, .fds = 1},
};

static int spec_check(const struct launcher_request *request, struct err *err)
{
    if (!text_ok(request->template_id, sizeof(request->template_id),
                 "-_./:ABCDEFGHIJKLMNOPQRSTUVWXYZ", false))
        return err_set(err, ERR_INVALID, "the template id has characters it may not have");
    if (request->cpu_count < 1 || request->cpu_count > LAUNCHER_CPU_MAX)
        return err_set(err, ERR_INVALID, "cpuCount must be between 1 and %d", LAUNCHER_CPU_MAX);
    if (request->memory_mb < LAUNCHER_MEMORY_MIN_MB || request->memory_mb > LAUNCHER_MEMORY_MAX_MB)
        return err_set(err, ERR_INVALID, "memoryMB must be between %d and %d",
                       LAUNCHER_MEMORY_MIN_MB, LAUNCHER_MEMORY_MAX_MB);
    if (request->disk_mb < LAUNCHER_DISK_MIN_MB || request->disk_mb > LAUNCHER_DISK_MAX_MB)
        return err_set(err, ERR_INVALID, "diskSizeMB must be between %d and %d",
                       LAUNCHER_DISK_MIN_MB, LAUNCHER_DISK_MAX_MB);
    if (request->pids_max < LAUNCHER_PIDS_MIN || request->pids_max > LAUNCHER_PIDS_MAX)
        return err_set(err, ERR_INVALID, "the process limit must be between %d and %d",
                       LAUNCHER_PIDS_MIN, LAUNCHER_PIDS_MAX);
    return 0;
}

static bool spec_absent(const struct launcher_request *request)
{
    return request->template_id[0] == '\0' && request->cpu_count == 0 && request->memory_mb == 0 &&
           request->disk_mb == 0 && request->pids_max == 0;
}

/* "" or absent where an operation has none; CREATE alone may have one or not. */
static bool ids_ok(const struct launcher_request *request)
{
    bool create = request->op == LAUNCHER_CREATE;
    bool snapshot = shapes[request->op].snapshot;

    if (!text_ok(request->id, sizeof(request->id), "", !shapes[request->op].id) ||
        !text_ok(request->snapshot_id, sizeof(request->snapshot_id), "", !snapshot))
        return false;
    return (shapes[request->op].id || request->id[0] == '\0') &&
           (snapshot || create || request->snapshot_id[0] == '\0');
}

int request_check(const struct launcher_request *request, size_t len, int fd_count, struct err *err)
{
    if (len != sizeof(*request) || request->magic != LAUNCHER_MAGIC)
        return err_set(err, ERR_INVALID, "not a request of this launcher");
    if (request->op < LAUNCHER_CREATE || request->op >= LAUNCHER_OP_COUNT)
        return err_set(err, ERR_INVALID, "unknown operation %u", request->op);
    if (fd_count != shapes[request->op].fds)
        return err_set(err, ERR_INVALID, "operation %u came with %d descriptors", request->op,
                       fd_count);
    if (request->internet > 1 || request->ipv6 > 1 || request->zero != 0)
        return err_set(err, ERR_INVALID, "a flag is neither 0 nor 1");
    if ((request->op == LAUNCHER_DIAL) != (request->sockets > 0) ||
        request->sockets > PACKET_FDS_MAX)
        return err_set(err, ERR_INVALID, "operation %u with %u sockets", request->op,
                       request->sockets);
    if (!ids_ok(request))
        return err_set(err, ERR_INVALID, "Invalid sandbox ID");
    if (shapes[request->op].spec)
        return spec_check(request, err);
    if (!spec_absent(request))
        return err_set(err, ERR_INVALID, "operation %u takes no limits", request->op);
    return 0;
}

void reply_init(struct launcher_reply *reply, uint64_t serial, const struct err *err)
{
    memset(reply, 0, sizeof(*reply));
    reply->magic = LAUNCHER_MAGIC;
    reply->event = LAUNCHER_DONE;
    reply->serial = serial;
    if (err == NULL)
        return;
    reply->code = err->code == ERR_NONE ? ERR_INTERNAL : err->code;
    memcpy(reply->msg, err->msg, sizeof(reply->msg));
    memcpy(reply->detail, err->detail, sizeof(reply->detail));
}

int reply_result(const struct launcher_reply *reply, struct err *err)
{
    if (reply->code == ERR_NONE)
        return 0;
    *err = (struct err){0};
    err->code = reply->code < ERR_CODE_COUNT ? (enum err_code)reply->code : ERR_INTERNAL;
    memcpy(err->msg, reply->msg, sizeof(err->msg));
    memcpy(err->detail, reply->detail, sizeof(err->detail));
    err->msg[sizeof(err->msg) - 1] = '\0';
    err->detail[sizeof(err->detail) - 1] = '\0';
    return -1;
}

union control {
    char bytes[CMSG_SPACE(sizeof(int) * PACKET_FDS_MAX)];
    struct cmsghdr align;
};

int packet_send(int sock, const void *data, size_t len, const int *fds, int fd_count, int flags)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control = {0};
    ssize_t n;

    if (fd_count > 0) {
        size_t bytes = sizeof(int) * (size_t)fd_count;
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(cmsg), fds, bytes);
    }
    do {
        n = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

/* Take the descriptors out of MSG: FD_MAX at most. Returns how many there were. */
static int take_fds(struct msghdr *msg, int *fds, int fd_max)
{
    int total = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++, total++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
            if (total < fd_max)
                fds[total] = fd;
            else
                close(fd);
        }
    }
    return total;
}

ssize_t packet_receive(int sock, void *data, size_t size, int *fds, int fd_max, int *fd_count,
                       int flags)
{
    struct iovec iov = {.iov_base = data, .iov_len = size};
    union control control = {0};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;
    int count;

    *fd_count = 0;
    do {
        n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    count = take_fds(&msg, fds, fd_max);
    if (count > fd_max || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        for (int i = 0; i < count && i < fd_max; i++)
            close(fds[i]);
        errno = EMSGSIZE;
        return -1;
    }
    *fd_count = count;
    return n;
}
