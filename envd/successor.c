#include "envd/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "envd/clone.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define CHILD_STACK_BYTES (32 << 10)

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3: where memfds are not executable by default */
#endif

extern char **environ;

static int make_memfd(void)
{
    int fd = memfd_create("envd", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("envd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

int successor_new(struct err *err)
{
    int fd = make_memfd();

    return fd >= 0 ? fd : err_sys(err, errno, "cannot keep the new envd in memory");
}

int successor_seal(int program, struct err *err)
{
    if (fcntl(program, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0)
        return 0;
    return err_sys(err, errno, "cannot seal the new envd");
}

struct child {
    int program;
    char *const *argv;
    const int *fds;
    size_t count;
    int output;
    int errnum; /* out: why it could not be executed */
};

/* In the parent's memory: system calls only. */
static int run_child(void *arg)
{
    struct child *child = arg;

    for (size_t i = 0; i < child->count; i++) {
        if (fcntl(child->fds[i], F_SETFD, 0) < 0) {
            child->errnum = errno;
            return 127;
        }
    }
    if (dup2(child->output, 1) >= 0 && dup2(child->output, 2) >= 0)
        syscall(SYS_execveat, child->program, "", child->argv, environ, AT_EMPTY_PATH);
    child->errnum = errno;
    return 127;
}

static int start_child(struct child *child, struct err *err)
{
    _cleanup_free_ char *stack = mem_zalloc(CHILD_STACK_BYTES);
    int pid = clone(run_child, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, child);

    if (pid < 0)
        return err_sys(err, errno, "cannot start the new envd");
    if (child->errnum != 0)
        return err_set(err, ERR_INVALID, "the new envd cannot be executed: %s",
                       strerror(child->errnum)); /* it is reaped with all others */
    return pid;
}

int successor_start(int program, char *const argv[], const int *fds, size_t count,
                    struct successor_run *out, struct err *err)
{
    struct child child = {.program = program, .argv = argv, .fds = fds, .count = count};
    _cleanup_close_ int output = -1, theirs = -1;
    int pipe_fds[2], pid;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    output = pipe_fds[0];
    theirs = child.output = pipe_fds[1];
    if (fd_set_nonblock(output, 1) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    pid = start_child(&child, err);
    if (pid < 0)
        return -1;
    out->pid = pid;
    out->pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* nobody else reaps: it is that process */
    out->output = steal_fd(&output);
    return 0;
}

void successor_stop(struct successor_run *run)
{
    if (run->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
    fd_close(&run->pidfd);
    fd_close(&run->output);
}

static int set_all(const int *fds, size_t count, int flags)
{
    for (size_t i = 0; i < count; i++) {
        if (fcntl(fds[i], F_SETFD, flags) < 0)
            return -1;
    }
    return 0;
}

int successor_become(int program, char *const argv[], const int *fds, size_t count, struct err *err)
{
    int errnum;

    if (set_all(fds, count, 0) == 0)
        syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
    errnum = errno;
    set_all(fds, count, FD_CLOEXEC);
    return err_sys(err, errnum, "cannot become the new envd");
}
