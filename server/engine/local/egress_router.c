/* The router's process: holds the shared network namespace and keeps slirp4netns running. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/time.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/gateway_client.h"

#define OUTPUT_MAX_BYTES 400 /* of a failed program's words */
#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 10000
#define FD_FIRST_FREE 3

struct keeper;

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

/*
 * Forward, but only what comes from the address of its own link. No IPv6: links made from now on
 * have no address of it that a sandbox could reach.
 */
static int set_kernel(struct err *err)
{
    static const char *const on[] = {"ipv4/ip_forward", "ipv4/conf/all/rp_filter",
                                     "ipv4/conf/default/rp_filter"};
    struct err no_ipv6 = {0};

    for (size_t i = 0; i < array_size(on); i++) {
        _cleanup_free_ char *path = mem_asprintf("/proc/sys/net/%s", on[i]);
        if (file_poke(AT_FDCWD, path, "1", err) < 0)
            return -1;
    }
    file_poke(AT_FDCWD, "/proc/sys/net/ipv6/conf/all/disable_ipv6", "1", &no_ipv6);
    file_poke(AT_FDCWD, "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", &no_ipv6);
    return 0; /* a kernel without IPv6 has nothing to switch off */
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
    return set_kernel(err) < 0 ? -1 : egress_reload(&here, err);
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

/* A program or function that the router's process keeps running. */
struct kept {
    const char *name;
    void (*run)(struct keeper *keeper); /* in the child; does not return */
    pid_t pid;                          /* 0: not running */
    int64_t started_mono_ms;
    int64_t due_mono_ms; /* when to start it */
    int pause_ms;        /* before the next start */
};

struct keeper {
    const struct context *ctx;
    char *slirp;
    pid_t pid; /* the router's process */
    struct gateway_start gateway;
    struct kept kept[2];
};

/* slirp4netns beside the host's network, serving the router's. */
static void run_slirp(struct keeper *keeper)
{
    char target[16];
    int null;

    snprintf(target, sizeof(target), "%d", keeper->pid);
    if (setns(keeper->ctx->host_netns, CLONE_NEWNET) < 0 || keep_mounts() < 0)
        _exit(126);
    char *const argv[] = {keeper->slirp,
                          (char[]){"--configure"},
                          (char[]){"--mtu=" EGRESS_MTU_TEXT},
                          (char[]){"--disable-host-loopback"},
                          (char[]){"--enable-sandbox"},
                          (char[]){"--enable-seccomp"},
                          target,
                          (char[]){"tap0"},
                          NULL};
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    exec_program(argv, null, null);
}

/* The gateway with nothing of the router's but its two sockets, as gateway.h promises. */
static void run_gateway(struct keeper *keeper)
{
    const struct local_config *config = keeper->ctx->config;
    struct gateway_start start = keeper->gateway;
    int control = fcntl(start.control, F_DUPFD, 100);
    int listener = fcntl(start.listener, F_DUPFD, 100);
    int null = open("/dev/null", O_RDWR);

    prctl(PR_SET_NAME, "sandpit-gateway");
    if (control < 0 || listener < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
        _exit(126);
    start.control = dup3(control, FD_FIRST_FREE, O_CLOEXEC);
    start.listener = dup3(listener, FD_FIRST_FREE + 1, O_CLOEXEC);
    close_range(FD_FIRST_FREE + 2, ~0U, 0);
    config->gateway(config->gateway_ctx, &start);
    _exit(125);
}

/* The signals that the router's process waits for. */
static void wait_set(sigset_t *out)
{
    sigemptyset(out);
    sigaddset(out, SIGCHLD);
    sigaddset(out, SIGTERM);
}

static void start_kept(struct keeper *keeper, struct kept *kept)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;

    kept->started_mono_ms = time_mono_ms();
    kept->pid = fork();
    if (kept->pid > 0)
        return;
    if (kept->pid < 0) {
        kept->pid = 0;
        kept->due_mono_ms = kept->started_mono_ms + RESTART_MAX_MS;
        return;
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    sigaction(SIGTERM, &standard, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper->pid)
        _exit(126);
    kept->run(keeper);
    _exit(126);
}

/* KEPT has ended: when to start it again. A short life doubles the pause. */
static void on_end(struct kept *kept)
{
    int64_t now_mono_ms = time_mono_ms();
    int longer = kept->pause_ms * 2 < RESTART_MAX_MS ? kept->pause_ms * 2 : RESTART_MAX_MS;

    kept->pause_ms = now_mono_ms - kept->started_mono_ms > RESTART_MAX_MS || kept->pause_ms == 0
                         ? RESTART_MIN_MS
                         : longer;
    kept->due_mono_ms = now_mono_ms + kept->pause_ms;
    kept->pid = 0;
    log_warn("a helper of the egress router ended; starting it again", "name", kept->name,
             "pause_ms", log_num(kept->pause_ms));
}

static void reap(struct keeper *keeper)
{
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        for (size_t i = 0; i < array_size(keeper->kept); i++)
            if (keeper->kept[i].pid == pid)
                on_end(&keeper->kept[i]);
    }
}

/* Start what is due. Returns how long to sleep, in ms; -1: until a signal. */
static int64_t start_due(struct keeper *keeper)
{
    int64_t wait_ms = -1;

    for (size_t i = 0; i < array_size(keeper->kept); i++) {
        struct kept *kept = &keeper->kept[i];
        int64_t left;
        if (kept->run == NULL || kept->pid != 0)
            continue;
        left = kept->due_mono_ms - time_mono_ms();
        if (left <= 0) {
            start_kept(keeper, kept);
            left = kept->due_mono_ms - time_mono_ms();
        }
        if (kept->pid == 0 && (wait_ms < 0 || left < wait_ms))
            wait_ms = left > 0 ? left : 0;
    }
    return wait_ms;
}

__attribute__((noreturn)) static void keep_running(struct keeper *keeper)
{
    sigset_t signals;

    wait_set(&signals);
    for (;;) {
        int64_t wait_ms = start_due(keeper);
        struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000};
        if (sigtimedwait(&signals, NULL, wait_ms < 0 ? NULL : &wait) == SIGTERM)
            break;
        reap(keeper);
    }
    for (size_t i = 0; i < array_size(keeper->kept); i++)
        if (keeper->kept[i].pid > 1)
            kill(keeper->kept[i].pid, SIGKILL);
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

/* What redirected connections of sandboxes come to. */
static int listen_tcp(struct err *err)
{
    _cleanup_close_ int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(GATEWAY_PORT)};
    int on = 1;

    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(sock, SOMAXCONN) < 0)
        return err_sys(err, errno, "cannot listen for the egress gateway");
    return steal_fd(&sock);
}

static int open_gateway(struct keeper *keeper, struct err *err)
{
    struct gateway_start *start = &keeper->gateway;

    start->uid = egress_gateway_uid(keeper->ctx);
    start->gid = start->uid;
    start->control = gateway_listen(keeper->ctx, err);
    if (start->control < 0)
        return -1;
    start->listener = listen_tcp(err);
    return start->listener < 0 ? -1 : 0;
}

void router_run(const struct context *ctx, int ready)
{
    struct context own = *ctx;
    struct keeper keeper = {
        .ctx = &own,
        .slirp = router_find_program("slirp4netns"),
        .pid = getpid(),
        .kept = {{.name = "slirp4netns", .run = run_slirp},
                 {.name = "gateway", .run = ctx->config->gateway != NULL ? run_gateway : NULL}},
    };
    struct err err = {0};
    sigset_t signals;

    /* Until it is written down, nobody would find it should the launcher die. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    keep_only(&own, &ready);
    setsid();
    wait_set(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGTERM, SIG_DFL); /* blocked: waited for, even where the launcher ignores it */
    prctl(PR_SET_NAME, "sandpit-router");
    if (keeper.slirp == NULL)
        err_set(&err, ERR_UNSUPPORTED, "slirp4netns is missing: apt-get install slirp4netns");
    if (err.code == ERR_NONE && set_up(&own, &err) == 0 && open_gateway(&keeper, &err) == 0)
        egress_record_router(&own, &err);
    prctl(PR_SET_PDEATHSIG, 0);
    fd_write_full(ready, &err, sizeof(err));
    if (err.code != ERR_NONE)
        _exit(1);
    fd_close(&ready);
    keep_running(&keeper);
}
