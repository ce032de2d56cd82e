#include "envd/volumes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "envd/clone.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define STACK_BYTES (64 << 10)
#define REAP_TRIES 100
#define REAP_WAIT_NS 10000000

/*
 * "sync" is MS_SYNCHRONOUS, and "fg" is what mount(2) does. Server and mount protocol share the
 * port: nothing is asked of a port mapper.
 */
#define OPTIONS                                                                                    \
    "vers=3,proto=tcp,mountproto=tcp,port=2049,mountport=2049,hard,rsize=1048576,wsize=1048576,"   \
    "noacl,noac,lookupcache=none,addr=%s"

static int check_path(const char *path, struct err *err)
{
    if (path[0] != '/' || strlen(path) >= PATH_MAX)
        return err_set(err, ERR_INVALID, "the path of a volume mount must be absolute");
    for (const char *at = path; *at != '\0';) {
        size_t len = strcspn(at, "/");
        if (mem_is(at, len, "..") || mem_is(at, len, "."))
            return err_set(err, ERR_INVALID, "the path of a volume mount may not have '.' or '..'");
        at += len + (at[len] == '/');
    }
    if (path[strspn(path, "/")] == '\0')
        return err_set(err, ERR_INVALID, "a volume cannot be mounted at /");
    return 0;
}

static int check_target(const char *target, char *host, size_t size, struct err *err)
{
    const char *colon = strstr(target, ":/");
    struct in_addr address;

    if (colon == NULL || strlen(target) >= PATH_MAX ||
        str_copy(host, size, target, (size_t)(colon - target)) < 0 ||
        inet_pton(AF_INET, host, &address) != 1)
        return err_set(err, ERR_INVALID, "nfs_target must be an IPv4 address, ':' and a path");
    return 0;
}

int volume_parse(const char *target, const char *path, struct volume *out, struct err *err)
{
    char host[64];
    size_t len = 0;

    if (check_target(target, host, sizeof(host), err) < 0 || check_path(path, err) < 0)
        return -1;
    memset(out, 0, sizeof(*out));
    str_copy(out->target, sizeof(out->target), target, strlen(target));
    for (const char *at = path; *at != '\0'; at++)
        if (*at != '/' || (at[1] != '/' && at[1] != '\0'))
            out->path[len++] = *at;
    snprintf(out->options, sizeof(out->options), OPTIONS, host);
    return 0;
}

enum step { STEP_UNMOUNT, STEP_FOLDER, STEP_MOUNT };

struct outcome {
    enum step step;
    int errnum; /* 0: done */
};

struct helper {
    struct volume volume; /* its path is cut and mended */
    int fd;               /* takes the outcome */
};

static int unmount(const char *path)
{
    if (umount2(path, MNT_FORCE) == 0 || errno == EINVAL || errno == ENOENT || errno == ENOTDIR)
        return 0; /* EINVAL: nothing is mounted there */
    if (umount2(path, MNT_DETACH) == 0 || errno == EPERM)
        return 0; /* EPERM: mounting tells */
    return -1;
}

static int make_folders(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST && errno != EROFS)
            return -1;
        *at = '/';
    }
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

/* In a copy of envd with one thread: system calls alone, for any lock may be held. */
static int run_helper(void *arg)
{
    struct helper *helper = arg;
    struct volume *volume = &helper->volume;
    struct outcome out = {.step = STEP_UNMOUNT};

    if (dup2(helper->fd, STDIN_FILENO) < 0)
        _exit(1);
    syscall(SYS_close_range, 1, ~0U, 0); /* pipes of others must not stay open for this */
    if (unmount(volume->path) < 0)
        out.errnum = errno;
    else if (out.step = STEP_FOLDER, make_folders(volume->path) < 0)
        out.errnum = errno;
    else if (out.step = STEP_MOUNT,
             mount(volume->target, volume->path, "nfs", MS_SYNCHRONOUS, volume->options) < 0)
        out.errnum = errno;
    _exit(write(STDIN_FILENO, &out, sizeof(out)) == (ssize_t)sizeof(out) ? 0 : 1);
}

static int explain(const struct volume *volume, const struct outcome *out, struct err *err)
{
    static const char *const verbs[] = {"unmount what is at", "make the folder",
                                        "mount a volume at"};
    const char *why = strerrordesc_np(out->errnum);

    if (out->step == STEP_MOUNT && out->errnum == EPERM)
        why = "EPERM: sandboxes of this engine may not mount NFS";
    else if (out->step == STEP_MOUNT && out->errnum == ENODEV)
        why = "ENODEV: this kernel has no NFS client";
    return err_set(err, ERR_UNSUPPORTED, "cannot %s %.200s: %s", verbs[out->step], volume->path,
                   why != NULL ? why : "unknown error");
}

/* Not for ever: one in a system call that cannot be killed is left behind. */
static void reap(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = REAP_WAIT_NS};

    for (int i = 0; i < REAP_TRIES && waitpid(pid, NULL, WNOHANG | __WALL) == 0; i++)
        nanosleep(&pause, NULL);
}

static int await_helper(const struct volume *volume, pid_t pid, int fd, int64_t deadline_mono_ms,
                        struct err *err)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    struct outcome out;
    int64_t left_ms;
    ssize_t n = -1;

    do {
        left_ms = deadline_mono_ms - time_mono_ms();
        left_ms = left_ms > 0 ? left_ms : 0;
        if (poll(&pfd, 1, (int)left_ms) > 0)
            n = read(fd, &out, sizeof(out));
    } while (n < 0 && left_ms > 0);
    if (n < 0)
        kill(pid, SIGKILL);
    reap(pid);
    if (n < 0)
        return err_set(err, ERR_TIMEOUT, "cannot mount a volume at %.200s: no answer in time",
                       volume->path);
    if (n != (ssize_t)sizeof(out))
        return err_set(err, ERR_INTERNAL, "cannot mount a volume at %.200s: its helper was killed",
                       volume->path);
    return out.errnum == 0 ? 0 : explain(volume, &out, err);
}

int volume_mount(const struct volume *volume, int64_t deadline_mono_ms, struct err *err)
{
    _cleanup_close_ int from = -1, to = -1;
    _cleanup_free_ char *stack = mem_zalloc(STACK_BYTES);
    struct helper helper = {.volume = *volume};
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    from = fds[0];
    to = helper.fd = fds[1];
    /* Without a signal for its end, so that only reap() waits for it. */
    pid = clone(run_helper, stack + STACK_BYTES, 0, &helper);
    if (pid < 0)
        return err_sys(err, errno, "cannot start a process that mounts");
    fd_close(&to);
    return await_helper(volume, pid, from, deadline_mono_ms, err);
}
