/*
 * envd - the agent in a sandbox: processes, files, over HTTP.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "envd/config.h"
#include "envd/exchange.h"
#include "envd/groups.h"
#include "envd/process.h"
#include "envd/resume.h"
#include "envd/spawn.h"
#include "envd/spawner.h"
#include "envd/trim.h"
#include "envd/upgrade.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/sig.h"
#include "server/base/str.h"
#include "server/base/version.h"

#define LISTEN_DEFAULT "0.0.0.0:49983"
#define LISTEN_BACKLOG 1024
#define RUN_DIR "/run/e2b"
#define LOG_FILE_MAX_BYTES (1 << 20)

struct options {
    const char *listen;
    int listen_fd; /* -1: none was passed */
    int config_fd;
    uint64_t idle_timeout_s;
    bool insecure;
    bool init;     /* we are pid 1 of the sandbox */
    int resume_fd; /* the state of the envd before; -1: there was none */
    bool rehearse; /* read it, change nothing, end */
};

static const char usage[] =
    "usage: envd [--listen ADDRESS:PORT | --listen-fd N] [--config-fd N]\n"
    "            [--group-fds KIND=N,...] [--init] [--insecure]\n"
    "  --listen ADDRESS:PORT  where to serve, default " LISTEN_DEFAULT "; [::1]:PORT for IPv6\n"
    "  --listen-fd N          serve this listening socket instead\n"
    "  --config-fd N          read JSON settings from this descriptor before serving\n"
    "  --group-fds KIND=N,... open files of the sandbox's control groups\n"
    "  --init                 be the sandbox's first process: reap orphans, ignore stray signals\n"
    "  --idle-timeout SECONDS cut off a request whose body stands still, default 300\n"
    "  --insecure             ask nobody for a token (tests, benchmarks)\n"
    "  --resume-handover N    go on where another envd was; its state is in this descriptor\n"
    "  --rehearse             with it: read the state, change nothing, say so and end\n"
    "  --handover-format      print which states this envd reads\n"
    "  --version              print the version\n";

static int parse_fd(const char *text, int *out, struct err *err)
{
    uint64_t value;

    if (str_to_u64(text, strlen(text), 0, 1 << 20, "a descriptor", &value, err) < 0)
        return -1;
    *out = (int)value;
    return 0;
}

/* Returns 0; 1 when there is nothing left to do; -1 with *ERR. */
static int parse_options(int argc, char **argv, struct options *out, struct err *err)
{
    static const struct option longs[] = {
        {"listen", required_argument, NULL, 'l'},
        {"listen-fd", required_argument, NULL, 'f'},
        {"config-fd", required_argument, NULL, 'c'},
        {"group-fds", required_argument, NULL, 'g'},
        {"init", no_argument, NULL, 'i'},
        {"idle-timeout", required_argument, NULL, 't'},
        {"insecure", no_argument, NULL, 'u'},
        {"resume-handover", required_argument, NULL, 'r'},
        {"rehearse", no_argument, NULL, 'R'},
        {"handover-format", no_argument, NULL, 'H'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'l':
            out->listen = optarg;
            break;
        case 'f':
            if (parse_fd(optarg, &out->listen_fd, err) < 0)
                return -1;
            break;
        case 'c':
            if (parse_fd(optarg, &out->config_fd, err) < 0)
                return -1;
            break;
        case 'g':
            if (groups_option(optarg, err) < 0)
                return -1;
            break;
        case 't':
            if (str_to_u64(optarg, strlen(optarg), 1, 86400, "--idle-timeout", &out->idle_timeout_s,
                           err) < 0)
                return -1;
            break;
        case 'i':
            out->init = true;
            break;
        case 'u':
            out->insecure = true;
            break;
        case 'r':
            if (parse_fd(optarg, &out->resume_fd, err) < 0)
                return -1;
            break;
        case 'R':
            out->rehearse = true;
            break;
        case 'H':
            upgrade_print_format();
            return 1;
        case 'v':
            puts(ENVD_VERSION);
            return 1;
        case 'h':
            fputs(usage, stdout);
            return 1;
        default:
            return err_set(err, ERR_INVALID, "unknown option");
        }
    }
    return optind < argc ? err_set(err, ERR_INVALID, "unexpected argument '%s'", argv[optind]) : 0;
}

/* "127.0.0.1:49983", "[::1]:49983". */
static int parse_address(const char *text, struct sockaddr_storage *out, socklen_t *len,
                         struct err *err)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    const char *colon = strrchr(text, ':');
    char host[64];
    uint64_t port;

    if (colon == NULL || str_to_u64(colon + 1, strlen(colon + 1), 0, 65535, "port", &port, err) < 0)
        return err_set(err, ERR_INVALID, "--listen wants ADDRESS:PORT, not '%s'", text);
    memset(out, 0, sizeof(*out));
    if (text[0] == '[' && colon[-1] == ']' &&
        str_copy(host, sizeof(host), text + 1, (size_t)(colon - text) - 2) == 0 &&
        inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *len = sizeof(*v6);
        return 0;
    }
    if (str_copy(host, sizeof(host), text, (size_t)(colon - text)) < 0 ||
        inet_pton(AF_INET, host, &v4->sin_addr) != 1)
        return err_set(err, ERR_INVALID, "--listen wants a numeric address, not '%s'", text);
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *len = sizeof(*v4);
    return 0;
}

static int listen_on(const char *text, struct err *err)
{
    struct sockaddr_storage address;
    _cleanup_close_ int fd = -1;
    socklen_t len = 0;
    int on = 1;

    if (parse_address(text, &address, &len, err) < 0)
        return -1;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        return err_sys(err, errno, "cannot listen on %s", text);
    return steal_fd(&fd);
}

/* 0, 1 and 2 are open, whatever we were started with, and nothing else is inherited further. */
static void tidy_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd < 3);
    if (fd >= 3)
        close(fd);
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* Signals at their defaults: an ignored one would pass on to every command. */
static void tidy_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};

    sig_defaults();
    sigaction(SIGPIPE, &action, NULL);
}

struct agent {
    struct loop *loop;
    bool init;
    struct http_server *server;
};

static void on_signal(void *ctx, int signo)
{
    struct agent *agent = ctx;

    if (signo == SIGCHLD)
        process_reap();
    else if (!agent->init) /* nobody inside may stop the sandbox's first process */
        loop_stop(agent->loop);
}

static int watch_signals(struct agent *agent, struct err *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return loop_signals(agent->loop, &set, on_signal, agent, err);
}

/*
 * The launcher leaves us /dev/null as standard error. A file in the sandbox it is then: what its
 * processes make us say fills no log but their own.
 */
static void open_log(void)
{
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    struct err ignored = {0};
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (dir_make(RUN_DIR, 0755, &ignored) < 0)
        return;
    fd = open(RUN_DIR "/envd.log", flags, 0600);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || dup2(fd, STDERR_FILENO) < 0)
        return;
    log_bound_file(LOG_FILE_MAX_BYTES);
}

static void write_mark(const char *name, const char *value)
{
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    _cleanup_free_ char *path = mem_asprintf("%s/%s", RUN_DIR, name);
    _cleanup_close_ int fd = open(path, flags, 0644);
    struct err err = {0};

    if (fd < 0 || fd_write_full(fd, value, strlen(value)) < 0) {
        err_sys(&err, errno, "cannot write %s", path);
        log_err(LOG_WARN, "sandbox mark", NULL, &err);
    }
}

/* Programs inside look at these files to learn where they are (envd-api section 1). */
static void write_marks(void)
{
    _cleanup_settings_ struct settings *settings = settings_get();
    struct err err = {0};

    if (dir_make(RUN_DIR, 0755, &err) < 0) {
        log_err(LOG_WARN, "sandbox marks", NULL, &err);
        return;
    }
    write_mark(".E2B_SANDBOX", "true");
    write_mark(".E2B_SANDBOX_ID", settings->sandbox_id);
    write_mark(".E2B_TEMPLATE_ID", settings->template_id);
}

static int configure(const struct options *options, struct err *err)
{
    int fd = options->config_fd;

    if (options->init)
        open_log();
    config_init(options->insecure);
    if (fd >= 0 && config_read_fd(fd, err) < 0)
        return -1;
    fd_close(&fd);
    if (options->init)
        write_marks();
    return 0;
}

static struct agent agent; /* lives until the process ends, as what it points to does */

/* Go on where another envd was, in this very process. */
static int resume(const struct options *options, struct err *err)
{
    struct resume resume;

    prctl(PR_SET_NAME, "envd");
    agent.loop = loop_new(err);
    if (agent.loop == NULL || watch_signals(&agent, err) < 0 ||
        resume_load(agent.loop, options->resume_fd, options->rehearse, &resume, err) < 0) {
        if (options->rehearse)
            upgrade_print_refusal(err);
        return -1;
    }
    if (options->rehearse)
        upgrade_print_ready();
    agent.init = resume.init;
    if (resume.init)
        log_bound_file(LOG_FILE_MAX_BYTES); /* standard error is still that file */
    agent.server = resume.server;
    upgrade_init(resume.init);
    resume_go_on(&resume);
    loop_run(agent.loop);
    spawner_end();
    return 0;
}

static int serve(const struct options *options, struct err *err)
{
    int fd = options->listen_fd;

    agent.init = options->init;
    upgrade_init(options->init);
    agent.loop = loop_new(err);
    if (agent.loop == NULL || watch_signals(&agent, err) < 0 || configure(options, err) < 0)
        return -1;
    stats_begin();
    process_init(agent.loop);
    if (fd < 0)
        fd = listen_on(options->listen, err);
    else if (fd_set_nonblock(fd, 1) < 0)
        return err_sys(err, errno, "descriptor %d is not a listening socket", fd);
    if (fd < 0 || (agent.server = http_server_new(agent.loop, fd, err)) == NULL)
        return -1;
    if (options->idle_timeout_s > 0)
        agent.server->idle_timeout_ms = (int64_t)options->idle_timeout_s * 1000;
    log_info("envd serves", "version", ENVD_VERSION);
    loop_run(agent.loop);
    spawner_end();
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {
        .listen = LISTEN_DEFAULT, .listen_fd = -1, .config_fd = -1, .resume_fd = -1};
    struct err err = {0};
    int rc = parse_options(argc, argv, &options, &err);

    if (rc != 0) {
        if (rc < 0)
            fprintf(stderr, "envd: %s\n%s", err.msg, usage);
        return rc < 0 ? 2 : 0;
    }
    trim_init();
    tidy_descriptors();
    tidy_signals();
    umask(022);
    if (hash_init() < 0 || groups_init(&err) < 0 || spawn_init(&err) < 0 ||
        (options.resume_fd >= 0 ? resume(&options, &err) : serve(&options, &err)) < 0) {
        log_err(LOG_ERROR, "envd cannot start", NULL, &err);
        return 1;
    }
    return 0;
}
