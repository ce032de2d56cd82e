#include "server/engine/local/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define STAT_MAX_BYTES 4096
#define STAT_START_FIELD 22

pid_t sys_clone(uint64_t flags, int cgroup, int *pidfd)
{
    int fd = -1;
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};

    if (pidfd != NULL) {
        args.flags |= CLONE_PIDFD;
        args.pidfd = (uint64_t)(uintptr_t)&fd;
    }
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)(unsigned)cgroup;
    }
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid > 0 && pidfd != NULL)
        *pidfd = fd;
    return (pid_t)pid;
}

pid_t sys_wait(pid_t pid, int *status)
{
    pid_t rc;

    do {
        rc = waitpid(pid, status, 0);
    } while (rc < 0 && errno == EINTR);
    return rc;
}

int sys_run(const char *const *argv)
{
    char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
                         (char[]){"LC_ALL=C"}, NULL};
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        sigset_t none;
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        close_range(3, ~0U, 0);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(argv[0], (char *const *)(uintptr_t)argv, env);
        _exit(127);
    }
    if (pid < 0 || sys_wait(pid, &status) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int sys_pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int sys_pidfd_kill(int pidfd, int sig)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

int sys_pidfd_ended(int pidfd, int wait_ms)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;

    do {
        n = poll(&p, 1, wait_ms);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

int sys_parse_start_ticks(const char *text, uint64_t *out)
{
    /* Field 2 is the name in parentheses and may hold anything, also ')': begin after the last. */
    const char *at = strrchr(text, ')');
    struct err err = {0};

    if (at == NULL)
        return -1;
    at++;
    for (int field = 2; field < STAT_START_FIELD; field++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return -1;
        at++;
    }
    return str_to_u64(at, strcspn(at, " \n"), 0, UINT64_MAX, "start time", out, &err);
}

int sys_start_ticks(pid_t pid, uint64_t *out, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (file_read(AT_FDCWD, path, STAT_MAX_BYTES, &text, NULL, err) < 0)
        return -1;
    if (sys_parse_start_ticks(text, out) < 0)
        return err_set(err, ERR_INTERNAL, "%s has an unknown form", path);
    return 0;
}

int sys_boot_id(char out[BOOT_ID_SIZE], struct err *err)
{
    _cleanup_free_ char *text = NULL;

    if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL, err) < 0)
        return -1;
    if (str_copy(out, BOOT_ID_SIZE, text, strcspn(text, "\n")) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel's boot id has an unknown form");
    return 0;
}
