/*
 * The proxy alone, for proxy_test.py and benchmarks: real loops, listeners and TLS; sandboxes and
 * the engine are stand-ins whose ports are those of this machine.
 *
 * usage: proxy_server THREADS CERT KEY ENVD_PORT [IDLE_MS]
 * CERT "-": no TLS. Prints "ready PORT TLS_PORT", then obeys lines on standard input: "ended ID",
 * "drain", "stats", "quit". Sandboxes: see sandboxes[] below.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define H2O_USE_LIBUV 0
#include <h2o.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/loop/listener.h"
#include "server/proxy/proxy.h"

#define THREADS_MAX 8
#define DOMAIN "box.test"

static const struct {
    const char *id;
    struct lifecycle_route route;
} sandboxes[] = {
    {"iaaaaaaaaaaaaaaaaaaaa", {.running = true, .jwt_key = "key a", .started_unix_ms = 1}},
    {"ibbbbbbbbbbbbbbbbbbbb",
     {.running = true,
      .private_traffic = true,
      .traffic_token = "let me in",
      .jwt_key = "key b",
      .started_unix_ms = 2}},
    {"ipppppppppppppppppppp", {.running = false, .started_unix_ms = 3}},
    {"iggggggggggggggggggggg", {.running = true, .started_unix_ms = 4}},
    /* known to lifecycle, not to the engine any more */
    {"igoneeeeeeeeeeeeeeeee", {.running = true, .started_unix_ms = 5}},
};

struct thread {
    pthread_t id;
    struct loop *loop;
    struct proxy *proxy;
    struct loop_msg drain;
};

static struct thread threads[THREADS_MAX];
static size_t thread_count;
static uint16_t envd_port;
static struct engine engine;

int lifecycle_route(struct lifecycle *lifecycle, const char *id, struct lifecycle_route *out,
                    struct err *err)
{
    (void)lifecycle;
    for (size_t i = 0; i < array_size(sandboxes); i++) {
        if (str_eq(sandboxes[i].id, id)) {
            *out = sandboxes[i].route;
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "no sandbox %s", id);
}

/* No sandbox here wakes: wake_test.py has real ones. */
int lifecycle_traffic(struct lifecycle *lifecycle, const char *id, struct err *err)
{
    (void)lifecycle;
    return err_set(err, ERR_NOT_FOUND, "no sandbox %s", id);
}

void lifecycle_envd_token(struct lifecycle *lifecycle, const char *id, char out[SHA256_HEX_SIZE])
{
    (void)lifecycle;
    snprintf(out, SHA256_HEX_SIZE, "token of %s", id);
}

struct engine *lifecycle_engine(struct lifecycle *lifecycle)
{
    (void)lifecycle;
    return &engine;
}

/* The engine: a dial is answered by a message, as the launcher's reader does. */
struct dial_op {
    struct loop_msg msg;
    uint16_t port;
    bool ipv6, unknown;
    engine_dial_fn cb;
    void *ctx;
};

static int dial_port(uint16_t port, bool ipv6, struct err *err)
{
    _cleanup_close_ int fd = -1;
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int rc;

    fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, errno, "socket");
    rc = ipv6 ? connect(fd, (struct sockaddr *)&in6, sizeof(in6))
              : connect(fd, (struct sockaddr *)&in, sizeof(in));
    if (rc < 0 && errno != EINPROGRESS)
        return err_sys(err, errno, "connect");
    return steal_fd(&fd);
}

static void dial_run(struct loop_msg *msg)
{
    _cleanup_free_ struct dial_op *op = container_of(msg, struct dial_op, msg);
    struct err err = {0};
    int fd;

    if (op->unknown)
        fd = err_set(&err, ERR_NOT_FOUND, "no such sandbox");
    else
        fd = dial_port(op->port, op->ipv6, &err);
    op->cb(op->ctx, fd, fd < 0 ? &err : NULL);
}

static void dial(struct engine *self, struct loop *loop, const char *id, uint16_t port, bool ipv6,
                 engine_dial_fn cb, void *ctx)
{
    struct dial_op *op = mem_zalloc(sizeof(*op));

    (void)self;
    *op = (struct dial_op){.port = port == ENVD_PORT ? envd_port : port,
                           .ipv6 = ipv6,
                           .unknown = str_starts(id, "igone"),
                           .cb = cb,
                           .ctx = ctx};
    op->msg.run = dial_run;
    loop_post(loop, &op->msg);
}

static const struct engine_ops ops = {.name = "test", .dial = dial};
static struct engine engine = {.ops = &ops};

static void on_api_written(h2o_socket_t *sock, const char *h2o_err)
{
    (void)h2o_err;
    free(sock->data);
    h2o_socket_close(sock);
}

/* The API's stand-in shows what it got. */
static void on_api(void *ctx, h2o_socket_t *sock)
{
    char *text =
        mem_asprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%.*s",
                     sock->input->size, (int)sock->input->size, sock->input->bytes);
    h2o_iovec_t vec = h2o_iovec_init(text, strlen(text));

    (void)ctx;
    sock->data = text;
    h2o_socket_write(sock, &vec, 1, on_api_written);
}

static void on_accept(void *ctx, struct loop *loop, h2o_socket_t *sock)
{
    (void)loop;
    proxy_accept(ctx, sock);
}

static void on_drain(struct loop_msg *msg)
{
    proxy_drain(container_of(msg, struct thread, drain)->proxy);
}

static void *thread_main(void *arg)
{
    loop_run(((struct thread *)arg)->loop);
    return NULL;
}

static void obey(const char *line)
{
    struct proxy_stats stats;

    if (str_starts(line, "ended ")) {
        for (size_t i = 0; i < thread_count; i++)
            proxy_sandbox_ended(threads[i].proxy, line + 6);
    } else if (str_eq(line, "drain")) {
        for (size_t i = 0; i < thread_count; i++)
            loop_post(threads[i].loop, &threads[i].drain);
    } else if (str_eq(line, "stats")) {
        proxy_stats_get(&stats);
        printf("%lu %lu %lu %lu %lu\n", stats.requests, stats.upgrades, stats.errors,
               stats.bytes_in, stats.bytes_out);
    }
    fflush(stdout);
}

static int listen_on(struct tls *tls, struct listener **out, struct err *err)
{
    struct loop *loops[THREADS_MAX];
    void *ctxs[THREADS_MAX];

    for (size_t i = 0; i < thread_count; i++) {
        loops[i] = threads[i].loop;
        ctxs[i] = threads[i].proxy;
    }
    if (listener_new("127.0.0.1:0", loops, thread_count, tls, out, err) < 0)
        return -1;
    listener_start(*out, on_accept, ctxs);
    return 0;
}

static int run(char **argv, struct err *err)
{
    struct listener *plain = NULL, *secure = NULL;
    struct tls *tls = NULL;
    char line[128];

    if (!str_eq(argv[2], "-") &&
        (tls_new(argv[2], argv[3], &tls, err) < 0 || listen_on(tls, &secure, err) < 0))
        return -1;
    if (listen_on(NULL, &plain, err) < 0)
        return -1;
    for (size_t i = 0; i < thread_count; i++)
        pthread_create(&threads[i].id, NULL, thread_main, &threads[i]);
    printf("ready %u %u\n", listener_port(plain), secure != NULL ? listener_port(secure) : 0);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (str_eq(line, "quit"))
            break;
        obey(line);
    }
    listener_stop(plain);
    if (secure != NULL)
        listener_stop(secure);
    for (size_t i = 0; i < thread_count; i++) {
        loop_stop(threads[i].loop);
        pthread_join(threads[i].id, NULL);
    }
    for (size_t i = 0; i < thread_count; i++)
        proxy_free(threads[i].proxy);
    listener_free(plain);
    if (secure != NULL)
        listener_free(secure);
    for (size_t i = 0; i < thread_count; i++)
        loop_free(threads[i].loop);
    if (tls != NULL)
        tls_free(tls);
    return 0;
}

int main(int argc, char **argv)
{
    struct proxy_config config = {.domain = DOMAIN ":3443", .on_api = on_api};
    struct err err = {0};
    uint64_t port = 0, count = 0, idle_ms = 630000;

    if (argc < 5 ||
        str_to_u64(argv[1], strlen(argv[1]), 1, THREADS_MAX, "THREADS", &count, &err) < 0 ||
        str_to_u64(argv[4], strlen(argv[4]), 1, 65535, "ENVD_PORT", &port, &err) < 0 ||
        (argc > 5 &&
         str_to_u64(argv[5], strlen(argv[5]), 1, 1000000, "IDLE_MS", &idle_ms, &err) < 0))
        return 2;
    signal(SIGPIPE, SIG_IGN); /* as signal_block does for the server */
    hash_init();
    envd_port = (uint16_t)port;
    config.idle_timeout_ms = idle_ms;
    thread_count = count;
    for (size_t i = 0; i < thread_count; i++) {
        threads[i].loop = loop_new();
        threads[i].proxy = proxy_new(&config, threads[i].loop);
        threads[i].drain.run = on_drain;
    }
    if (run(argv, &err) < 0) {
        log_err(LOG_ERROR, "cannot start", NULL, &err);
        return 1;
    }
    return 0;
}
