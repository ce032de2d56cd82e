#include "tests/integration/engine_lib.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define COMMAND_WAIT_MS 30000

struct engine *engine;
struct local_config config;
pid_t launcher_pid;
char output[OUTPUT_MAX];

static int passed, failed;
static char folder[64], state_dir[80], run_dir[80];
static struct loop *loop;
static pthread_t loop_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char ended[SANDBOX_ID_SIZE];
static pid_t internet_pid;

const struct engine_spec spec_default = {
    .template_id = "base",
    .cpu_count = 1,
    .memory_mb = 256,
    .disk_mb = 1024,
    .pids_max = 128,
    .internet = true,
    .envd_config = "{\"test\":\"configuration\"}",
};

void check(bool ok, const char *what)
{
    if (ok)
        passed++;
    else
        failed++;
    printf("%s %s\n", ok ? "ok    " : "FAILED", what);
    fflush(stdout);
}

void check_err(int rc, const struct err *err, const char *what)
{
    check(rc == 0, what);
    if (rc != 0)
        printf("       %s: %s (%s)\n", err_code_name(err->code), err->msg, err->detail);
}

int check_summary(void)
{
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

int run_here(const char *command)
{
    int pipes[2], status = -1;
    size_t len = 0;
    ssize_t n;
    pid_t pid;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        dup2(pipes[1], 1);
        dup2(pipes[1], 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    while (len < OUTPUT_MAX - 1 && (n = read(pipes[0], output + len, OUTPUT_MAX - 1 - len)) > 0)
        len += (size_t)n;
    output[len] = '\0';
    close(pipes[0]);
    if (pid < 2 || waitpid(pid, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "engine_test: cannot begin: %s (%s)\n%s\n", what, strerror(errno), output);
    exit(2);
}

/* A web server on port 80, and a resolver for which every name is INTERNET_ADDRESS. */
static const char internet_program[] =
    "import http.server, socket, threading\n"
    "def names():\n"
    "    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "    sock.bind(('0.0.0.0', 53))\n"
    "    while True:\n"
    "        ask, peer = sock.recvfrom(512)\n"
    "        end = ask.index(b'\\0', 12) + 5\n"
    "        a = ask[end - 4:end - 2] == b'\\0\\1'\n"
    "        sock.sendto(ask[:2] + b'\\x81\\x80\\0\\1' + (b'\\0\\1' if a else b'\\0\\0') +\n"
    "                    b'\\0\\0\\0\\0' + ask[12:end] + "
    "(b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4' +\n"
    "                    socket.inet_aton('" INTERNET_ADDRESS "') if a else b''), peer)\n"
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200)\n"
    "        self.end_headers()\n"
    "    def log_message(self, *args):\n"
    "        pass\n"
    "threading.Thread(target=names, daemon=True).start()\n"
    "http.server.HTTPServer(('0.0.0.0', 80), Handler).serve_forever()\n";

/* The other end of the world. */
static void internet_start(void)
{
    char command[256];
    int ready[2];

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ready) == 0, "socket pair");
    internet_pid = fork();
    if (internet_pid == 0) {
        char byte;
        if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "1", 1) != 1 || /* made; then: linked */
            read(ready[1], &byte, 1) != 1)
            _exit(1);
    }
    must(internet_pid > 1 || internet_pid == 0, "fork");
    if (internet_pid > 0) {
        char byte;
        must(read(ready[0], &byte, 1) == 1, "internet namespace");
        snprintf(command, sizeof(command),
                 "ip link set lo up && ip link add up0 type veth peer name down0 netns %d && "
                 "ip addr add " HOST_ADDRESS "/24 dev up0 && ip link set up0 up && "
                 "ip route add default via 198.51.100.2",
                 internet_pid);
        must(run_here(command) == 0, command);
        must(write(ready[0], "1", 1) == 1, "go on");
        close(ready[0]);
        close(ready[1]);
        return;
    }
    run_here("ip link set lo up; ip addr add 198.51.100.2/24 dev down0; ip link set down0 up; "
             "ip addr add " INTERNET_ADDRESS "/32 dev lo; ip addr add 10.9.9.9/32 dev lo");
    run_here("awk '$1 == \"nameserver\" {print $2}' /etc/resolv.conf | while read address; do "
             "ip addr add $address/32 dev lo; done");
    execlp("python3", "python3", "-c", internet_program, (char *)NULL);
    _exit(1);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

void lib_start(const char *envd_path)
{
    snprintf(folder, sizeof(folder), "/var/tmp/engine-test-XXXXXX");
    must(geteuid() == 0, "it must run as root");
    must(mkdtemp(folder) != NULL, "temporary folder");
    must(unshare(CLONE_NEWNET) == 0, "network namespace");
    signal(SIGPIPE, SIG_IGN);
    internet_start();
    snprintf(state_dir, sizeof(state_dir), "%s/state", folder);
    snprintf(run_dir, sizeof(run_dir), "%s/run", folder);
    config = (struct local_config){
        .state_dir = state_dir, .run_dir = run_dir, .envd_path = envd_path, .id_base = 900000000};
    must(hash_init() == 0, "libsodium");
}

void lib_end(void)
{
    if (internet_pid > 1) {
        kill(internet_pid, SIGKILL);
        waitpid(internet_pid, NULL, 0);
    }
    _cleanup_free_ char *command = mem_asprintf("rm -rf %s", folder);
    run_here(command);
}

static void on_exit_event(void *ctx, const char *id)
{
    (void)ctx;
    pthread_mutex_lock(&lock);
    str_copy(ended, sizeof(ended), id, strlen(id));
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void exit_seen(char out[SANDBOX_ID_SIZE])
{
    pthread_mutex_lock(&lock);
    memcpy(out, ended, sizeof(ended));
    ended[0] = '\0';
    pthread_mutex_unlock(&lock);
}

/* The launcher is this process's youngest child. */
static pid_t youngest_child(void)
{
    run_here("true");
    _cleanup_free_ char *path = mem_asprintf("/proc/self/task/%d/children", getpid());
    _cleanup_free_ char *text = NULL;
    struct err err = {0};
    pid_t pid = 0;

    if (file_read(AT_FDCWD, path, 4096, &text, NULL, &err) < 0)
        return 0;
    for (char *at = text; *at != '\0';) {
        long value = strtol(at, &at, 10);
        if (value > 1)
            pid = (pid_t)value;
        at += strspn(at, " \n");
    }
    return pid;
}

int engine_up(uint32_t spares, struct err *err)
{
    int sock;

    config.warm_min = spares;
    config.warm_max = spares;
    if (local_launcher_start(&config, &sock, err) < 0)
        return -1;
    launcher_pid = youngest_child();
    loop = loop_new();
    must(pthread_create(&loop_thread, NULL, run_loop, loop) == 0, "thread");
    if (local_engine_new(sock, &engine, err) < 0)
        return -1;
    engine->on_exit = on_exit_event;
    return 0;
}

void engine_down(void)
{
    engine->ops->free(engine);
    loop_stop(loop);
    pthread_join(loop_thread, NULL);
    loop_free(loop);
    if (launcher_pid > 1)
        waitpid(launcher_pid, NULL, 0);
    engine = NULL;
}

void engine_crash(void)
{
    must(launcher_pid > 1, "launcher's pid");
    kill(launcher_pid, SIGKILL);
    engine_down();
}

int create_with(const struct engine_spec *spec, struct err *err)
{
    struct engine_sandbox out = {0};
    int rc = engine->ops->create(engine, spec, &out, err);

    free(out.engine_data);
    return rc;
}

int create(const char *id, struct err *err)
{
    struct engine_spec spec = spec_default;

    spec.id = id;
    return create_with(&spec, err);
}

struct answer {
    bool done;
    int fd;
    struct err err;
};

static void on_dial(void *ctx, int fd, const struct err *err)
{
    struct answer *answer = ctx;

    pthread_mutex_lock(&lock);
    answer->done = true;
    answer->fd = fd;
    if (err != NULL)
        answer->err = *err;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int dial(const char *id, uint16_t port, bool ipv6, struct err *err)
{
    struct answer answer = {.fd = -1};
    struct pollfd p;
    int problem = 0;
    socklen_t len = sizeof(problem);

    engine->ops->dial(engine, loop, id, port, ipv6, on_dial, &answer);
    pthread_mutex_lock(&lock);
    while (!answer.done)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    if (answer.fd < 0) {
        *err = answer.err;
        return -1;
    }
    p = (struct pollfd){.fd = answer.fd, .events = POLLOUT};
    if (poll(&p, 1, COMMAND_WAIT_MS) < 1 ||
        getsockopt(answer.fd, SOL_SOCKET, SO_ERROR, &problem, &len) < 0 || problem != 0) {
        close(answer.fd);
        return err_sys(err, problem, "no connection");
    }
    return answer.fd;
}

int run_in(const char *id, const char *command)
{
    _cleanup_free_ char *line = mem_asprintf("%s\n", command);
    struct err err = {0};
    size_t len = 0;
    int fd = dial(id, ENVD_PORT, false, &err);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char *tail;

    output[0] = '\0';
    if (fd < 0)
        return -1;
    if (write(fd, line, strlen(line)) < 0) {
        close(fd);
        return -1;
    }
    while (len < OUTPUT_MAX - 1 && poll(&p, 1, COMMAND_WAIT_MS) > 0) {
        ssize_t n = read(fd, output + len, OUTPUT_MAX - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    output[len] = '\0';
    tail = strstr(output, "\nexit ");
    if (tail == NULL)
        return str_eq(command, "config") ? 0 : -1;
    *tail = '\0';
    return (int)strtol(tail + 6, NULL, 10);
}

struct listed {
    const char *id;
    bool found;
    int count;
    char ids[64][SANDBOX_ID_SIZE];
};

static void on_item(void *ctx, const char *id, const char *data)
{
    struct listed *listed = ctx;

    (void)data;
    if (listed->count < 64)
        str_copy(listed->ids[listed->count], SANDBOX_ID_SIZE, id, strlen(id));
    listed->count++;
    listed->found |= listed->id != NULL && str_eq(listed->id, id);
}

int list_count(const char *id, bool *found)
{
    struct listed listed = {.id = id};
    struct err err = {0};

    if (engine->ops->list(engine, on_item, &listed, &err) < 0)
        return -1;
    if (found != NULL)
        *found = listed.found;
    return listed.count;
}

void destroy_all(void)
{
    struct listed listed = {0};
    struct err err = {0};

    if (engine->ops->list(engine, on_item, &listed, &err) < 0)
        return;
    for (int i = 0; i < listed.count && i < 64; i++) {
        if (engine->ops->destroy(engine, listed.ids[i], NULL, &err) < 0)
            printf("       destroy %s: %s (%s)\n", listed.ids[i], err.msg, err.detail);
    }
}
