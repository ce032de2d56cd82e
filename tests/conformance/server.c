/*
 * The server under test: reads a ServerCompatRequest from standard input, serves on a free port of
 * 127.0.0.1 and writes a ServerCompatResponse to standard output. SIGTERM ends it.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "envd/config.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "tests/conformance/conformance.h"

#define PATH_PREFIX "/connectrpc.conformance.v1.ConformanceService/"
#define INPUT_MAX (1 << 20)
#define METHODS_MAX 8

static struct route routes[METHODS_MAX];
/* A row without a method: envd answers `unimplemented`, as the suite wants it. */
static const struct route unimplemented = {
    "POST", PATH_PREFIX "Unimplemented", ROUTE_OPEN, 0, NULL, NULL, NULL,
};

/* Instead of envd/route.c. */
const struct route *route_find(const char *method, const char *path, int *status, char *allow)
{
    size_t prefix = strlen(PATH_PREFIX);

    *status = 404;
    allow[0] = '\0';
    if (str_eq(path, unimplemented.path))
        return &unimplemented;
    for (size_t i = 0; strncmp(path, PATH_PREFIX, prefix) == 0 && i < method_count; i++) {
        if (!str_eq(path + prefix, methods[i].name))
            continue;
        if (str_eq(method, "POST") || (methods[i].idempotent && str_eq(method, "GET")))
            return &routes[i];
        *status = 405;
        snprintf(allow, ROUTE_ALLOW_SIZE, "%s", methods[i].idempotent ? "GET, POST" : "POST");
    }
    return NULL;
}

/* ---- What the runner says, and what it is told: 4 bytes of length, then the message ---- */

static CC(ServerCompatRequest) * read_order(void)
{
    static uint8_t data[INPUT_MAX];
    uint32_t len;

    if (fread(&len, sizeof(len), 1, stdin) != 1 || ntohl(len) > sizeof(data) ||
        fread(data, 1, ntohl(len), stdin) != ntohl(len))
        return NULL;
    return connectrpc__conformance__v1__server_compat_request__unpack(NULL, ntohl(len), data);
}

static void tell(uint16_t port)
{
    CC(ServerCompatResponse) response = CONNECTRPC__CONFORMANCE__V1__SERVER_COMPAT_RESPONSE__INIT;
    char host[] = "127.0.0.1";
    uint8_t data[64];
    uint32_t len;

    response.host = host;
    response.port = port;
    len = htonl((uint32_t)protobuf_c_message_pack(&response.base, data));
    fwrite(&len, sizeof(len), 1, stdout);
    fwrite(data, 1, ntohl(len), stdout);
    fflush(stdout);
}

static int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -1;
    *port = ntohs(address.sin_port);
    return fd;
}

static void on_signal(void *ctx, int signo)
{
    (void)signo;
    loop_stop(ctx);
}

static struct loop *start(uint16_t *port, struct err *err)
{
    struct loop *loop = loop_new(err);
    int fd = listen_anywhere(port);
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    config_init(true);
    if (loop == NULL || fd < 0 || loop_signals(loop, &set, on_signal, loop, err) < 0 ||
        http_server_new(loop, fd, err) == NULL)
        return NULL;
    return loop;
}

int main(void)
{
    CC(ServerCompatRequest) *order = read_order();
    static struct loop *loop; /* with all that hangs on it, until the process ends */
    struct err err = {0};
    uint16_t port;

    signal(SIGPIPE, SIG_IGN);
    if (order == NULL || order->use_tls || hash_init() < 0 || (loop = start(&port, &err)) == NULL) {
        fprintf(stderr, "conformance server: cannot start: %s\n", err.msg);
        return 1;
    }
    any_init();
    for (size_t i = 0; i < method_count; i++) {
        methods[i].body_max_bytes = order->message_receive_limit;
        routes[i] = (struct route){"POST", PATH_PREFIX, ROUTE_OPEN, 0, NULL, NULL, &methods[i]};
    }
    tell(port);
    codec_free(&order->base);
    loop_run(loop);
    return 0;
}
