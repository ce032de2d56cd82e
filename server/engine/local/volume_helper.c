#include "server/engine/local/volume_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/sig.h"
#include "server/engine/local/launcher_proto.h"
#include "server/engine/local/volume_fs.h"
#include "server/engine/local/volume_store.h"

#define CALL_WAIT_MS 10000 /* the call is sent before the helper is asked for */
#define OPEN_FILES 512     /* a listing holds a few descriptors for each folder on the way */

/* Files of any owner and mode are read, changed, given away; a nameless file gets its name. */
static const int kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
                           CAP_FSETID};

static bool is_kept(int capability)
{
    for (size_t i = 0; i < array_size(kept); i++) {
        if (kept[i] == capability)
            return true;
    }
    return false;
}

static int drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        if (!is_kept(cap) && prctl(PR_CAPBSET_DROP, cap) < 0)
            return err_sys(err, errno, "cannot drop capability %d", cap);
    }
    for (size_t i = 0; i < array_size(kept); i++)
        data[0].permitted |= 1u << kept[i]; /* all of them are below 32 */
    data[0].effective = data[0].permitted;
    if (syscall(SYS_capset, &header, data) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, errno, "cannot drop capabilities");
    return 0;
}

/* Nothing but the files of TOP from now on. */
static int lock_in(int top, struct err *err)
{
    struct rlimit files = {OPEN_FILES, OPEN_FILES}, none = {0, 0};

    if (fchdir(top) < 0 || chroot(".") < 0)
        return err_sys(err, errno, "cannot enter the volume");
    if (setgroups(0, NULL) < 0)
        return err_sys(err, errno, "cannot drop groups");
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_NPROC, &none);
    umask(0);
    return drop_capabilities(err);
}

/* The entries as a file to read from its beginning. */
static int records_fd(const struct buf *records, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("volume-entries", MFD_CLOEXEC);

    if (fd < 0 || fd_write_full(fd, records->data, records->len) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, errno, "cannot pass on the entries of a volume");
    return steal_fd(&fd);
}

/* Answer with OUT, or with ERR when its code is set. Returns -1 when the server has gone. */
static int answer(int sock, const struct volume_result *out, struct err *err)
{
    struct volume_reply reply = {.magic = VOLUME_MAGIC};
    _cleanup_close_ int records = -1;
    int fds[2], count = 0;

    if (err->code == ERR_NONE && out->count > 0) {
        records = records_fd(&out->records, err);
        fds[count++] = records;
        reply.count = out->count;
        reply.bytes = out->records.len;
    }
    if (err->code == ERR_NONE && out->file >= 0)
        fds[count++] = out->file;
    if (err->code != ERR_NONE) {
        count = 0;
        reply.count = 0;
        reply.bytes = 0;
    }
    reply.code = err->code;
    memcpy(reply.msg, err->msg, sizeof(reply.msg));
    memcpy(reply.detail, err->detail, sizeof(reply.detail));
    return packet_send(sock, &reply, sizeof(reply), fds, count, 0);
}

static int receive(int sock, int wait_ms, struct volume_call *call, struct err *err)
{
    struct pollfd poll_fd = {.fd = sock, .events = POLLIN};
    int count;
    ssize_t n;

    if (poll(&poll_fd, 1, wait_ms) != 1)
        _exit(0);
    n = packet_receive(sock, call, sizeof(*call), NULL, 0, &count, 0);
    if (n == 0)
        _exit(0); /* a write that nobody wants any more */
    return volume_call_check(call, n > 0 ? (size_t)n : 0, err);
}

static int manage(const struct context *ctx, const struct volume_call *call,
                  struct volume_result *out, struct err *err)
{
    switch (call->verb) {
    case VOLUME_CALL_CREATE:
        return volume_store_create(ctx, call->volume_id, call->size_mb, err);
    case VOLUME_CALL_DELETE:
        return volume_store_delete(ctx, call->volume_id, err);
    case VOLUME_CALL_NAMES:
        return volume_store_names(ctx, out, err);
    default:
        return err_set(err, ERR_INVALID, "nothing was written");
    }
}

/* A write is not done before the server says so. */
static void commit(int sock, struct volume_write *write)
{
    struct volume_result out = {.file = -1};
    struct volume_call call;
    struct err err = {0};

    buf_init(&out.records, VOLUME_RECORDS_MAX);
    if (receive(sock, -1, &call, &err) == 0 && call.verb != VOLUME_CALL_COMMIT)
        err_set(&err, ERR_INVALID, "a write can only be followed by its commit");
    if (err.code == ERR_NONE)
        volume_fs_commit(write, &out, &err);
    answer(sock, &out, &err);
}

static int content(struct context *ctx, const struct volume_call *call, struct volume_write *write,
                   struct volume_result *out, struct err *err)
{
    _cleanup_close_ int top = volume_store_folder(ctx, call->volume_id, O_RDONLY, err);

    fd_close(&ctx->volumes_dir); /* no way to the others */
    if (top < 0 || lock_in(top, err) < 0)
        return -1;
    return volume_fs_do(top, call, write, out, err);
}

/*
 * Of all that the launcher has open: SOCK becomes 3, the folder of all volumes 4. Its lock is not
 * kept: an upload may take long, and the next launcher does not wait for it.
 */
static void keep_only(struct context *ctx, int *sock)
{
    static const int safe = 64;
    int from[2] = {*sock, ctx->volumes_dir};

    for (int i = 0; i < 2; i++)
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, safe);
    for (int i = 0; i < 2; i++)
        dup3(from[i], 3 + i, O_CLOEXEC);
    close_range(5, ~0U, 0);
    *sock = 3;
    ctx->volumes_dir = 4;
}

void volume_helper_run(const struct context *launcher_ctx, int sock)
{
    struct context ctx = *launcher_ctx;
    struct volume_write write = VOLUME_WRITE_NONE;
    struct volume_result out = {.file = -1};
    struct volume_call call;
    struct err err = {0};

    prctl(PR_SET_NAME, "sandpit-volume");
    sig_defaults();
    buf_init(&out.records, VOLUME_RECORDS_MAX);
    if (receive(sock, CALL_WAIT_MS, &call, &err) == 0) {
        if (call.verb < VOLUME_VERB_COUNT) {
            keep_only(&ctx, &sock);
            content(&ctx, &call, &write, &out, &err);
        } else {
            manage(&ctx, &call, &out, &err);
        }
    }
    if (answer(sock, &out, &err) == 0 && write.file >= 0 && err.code == ERR_NONE)
        commit(sock, &write);
    _exit(0);
}
