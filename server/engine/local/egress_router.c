/* The router's process: holds the shared network namespace and keeps slirp4netns running. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/time.h"
#include "server/engine/local/egress.h"

#define OUTPUT_MAX_BYTES 400 /* of a failed program's words */
#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 10000
#define FD_FIRST_FREE 3

char *router_find_program(const char *name)
{
    static const char *const folders[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};

    for (size_t i = 0; i < array_size(folders); i++) {
        char *path = mem_asprintf("%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

/* In a child: ARGV with INPUT and OUTPUT as its streams. */
__attribute__((noreturn)) static void exec_program(char *const argv[], int input, int output)
{
    char *const envp[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, (char[]){"LC_ALL=C"},
                          NULL};

    if (dup2(input, 0) >= 0 && dup2(output, 1) >= 0 && dup2(output, 2) >= 0)
        execve(argv[0], argv, envp);
    _exit(127);
}

int router_run_program(char *const argv[], const char *input, size_t input_len, struct err *err)
{
    _cleanup_close_ int in_read = -1, in_write = -1, out_read = -1, out_write = -1;
    char words[OUTPUT_MAX_BYTES + 1];
    int in[2], out[2], status = -1;
    ssize_t n;
    pid_t pid;

    if (pipe2(in, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe");
    in_read = in[0];
    in_write = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe");
    out_read = out[0];
    out_write = out[1];
    pid = fork();
    if (pid < 0)
        return err_sys(err, errno, "cannot start %s", argv[0]);
    if (pid == 0)
        exec_program(argv, in_read, out_write);
    fd_close(&in_read);
    fd_close(&out_write);
    fd_write_full(in_write, input, input_len); /* SIGPIPE is ignored: its status tells */
    fd_close(&in_write);
    n = read(out_read, words, OUTPUT_MAX_BYTES);
    words[n > 0 ? n : 0] = '\0';
    sys_wait(pid, &status);
    if (status == 0)
        return 0;
    err_set(err, ERR_INTERNAL, "%s failed", argv[0]);
    return err_detail(err, "status %d: %s", status, words);
}

static volatile sig_atomic_t stop_wanted;

static void on_term(int sig)
{
    (void)sig;
    stop_wanted = 1;
}

static int enable_forwarding(struct err *err)
{
    return file_poke(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1", err);
}

/* A namespace of its own, or that of the router which died; forwarding and rules in it. */
static int set_up(const struct context *ctx, struct err *err)
{
    struct context here = *ctx;

    if (ctx->router_netns >= 0) {
        if (setns(ctx->router_netns, CLONE_NEWNET) < 0)
            return err_sys(err, errno, "cannot enter the router's network namespace");
    } else if (unshare(CLONE_NEWNET) < 0) {
        return err_sys(err, errno, "cannot create the router's network namespace");
    }
    here.router_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (here.router_netns < 0)
        return err_sys(err, errno, "cannot open the router's network namespace");
    return enable_forwarding(err) < 0 ? -1 : egress_reload(&here, err);
}

/*
 * A mount namespace that passes nothing on. slirp4netns's own sandbox makes only "/" private and
 * then unmounts the rest: where mounts are shared, as systemd makes them, /sys/fs/cgroup,
 * /dev/pts and others would go on the host.
 */
static int keep_mounts(void)
{
    if (unshare(CLONE_NEWNS) < 0)
        return -1;
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* slirp4netns beside the host's network, serving this process's. */
static pid_t start_slirp(const struct context *ctx, char *program)
{
    char target[16];
    pid_t parent = getpid(), pid;

    snprintf(target, sizeof(target), "%d", parent);
    pid = fork();
    if (pid != 0)
        return pid;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent ||
        setns(ctx->host_netns, CLONE_NEWNET) < 0 || keep_mounts() < 0)
        _exit(126);
    char *const argv[] = {program,
                          (char[]){"--configure"},
                          (char[]){"--mtu=65520"},
                          (char[]){"--disable-host-loopback"},
                          (char[]){"--enable-sandbox"},
                          (char[]){"--enable-seccomp"},
                          target,
                          (char[]){"tap0"},
                          NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    exec_program(argv, null, null);
}

/* Wait for slirp4netns to end or SIGTERM to come. */
static void attend(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        if (stop_wanted)
            kill(pid, SIGKILL);
    }
}

__attribute__((noreturn)) static void keep_running(const struct context *ctx, char *program)
{
    int pause_ms = RESTART_MIN_MS;

    while (!stop_wanted) {
        int64_t started_mono_ms = time_mono_ms();
        pid_t pid = start_slirp(ctx, program);
        if (pid > 1)
            attend(pid);
        if (stop_wanted)
            break;
        pause_ms = time_mono_ms() - started_mono_ms > RESTART_MAX_MS ? RESTART_MIN_MS
                   : pause_ms * 2 < RESTART_MAX_MS                   ? pause_ms * 2
                                                                     : RESTART_MAX_MS;
        log_warn("slirp4netns ended; starting it again", "pause_ms", log_num(pause_ms));
        struct timespec pause = {.tv_sec = pause_ms / 1000,
                                 .tv_nsec = (long)(pause_ms % 1000) * 1000000};
        nanosleep(&pause, NULL);
    }
    _exit(0);
}

/* Nothing of the launcher's stays open: neither its lock nor the server's socket. */
static void keep_only(struct context *ctx, int *ready)
{
    int host = fcntl(ctx->host_netns, F_DUPFD_CLOEXEC, 100);
    int router = ctx->router_netns < 0 ? -1 : fcntl(ctx->router_netns, F_DUPFD_CLOEXEC, 100);
    int pipe_fd = fcntl(*ready, F_DUPFD_CLOEXEC, 100);

    dup3(pipe_fd, FD_FIRST_FREE, O_CLOEXEC);
    dup3(host, FD_FIRST_FREE + 1, O_CLOEXEC);
    if (router >= 0)
        dup3(router, FD_FIRST_FREE + 2, O_CLOEXEC);
    close_range(FD_FIRST_FREE + (router >= 0 ? 3 : 2), ~0U, 0);
    *ready = FD_FIRST_FREE;
    ctx->host_netns = FD_FIRST_FREE + 1;
    ctx->router_netns = router >= 0 ? FD_FIRST_FREE + 2 : -1;
}

void router_run(const struct context *ctx, int ready)
{
    struct sigaction term = {.sa_handler = on_term}; /* no SA_RESTART: waits must end */
    _cleanup_free_ char *program = router_find_program("slirp4netns");
    struct context own = *ctx;
    struct err err = {0};

    /* Until it is written down, nobody would find it should the launcher die. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    keep_only(&own, &ready);
    setsid();
    sigaction(SIGTERM, &term, NULL);
    prctl(PR_SET_NAME, "sandpit-router");
    if (program == NULL)
        err_set(&err, ERR_UNSUPPORTED, "slirp4netns is missing: apt-get install slirp4netns");
    if (err.code == ERR_NONE && set_up(&own, &err) == 0)
        egress_record_router(&own, &err);
    prctl(PR_SET_PDEATHSIG, 0);
    fd_write_full(ready, &err, sizeof(err));
    if (err.code != ERR_NONE)
        _exit(1);
    fd_close(&ready);
    keep_running(&own, program);
}
