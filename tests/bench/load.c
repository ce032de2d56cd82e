/*
 * tests/bench/load.c - the client of `make bench`: HTTP/1.1 over kept connections, one thread.
 *
 * usage: load [-X METHOD] [-H 'name: value']... [-d FILE | -b BYTES] [-c CONNECTIONS] [-n COUNT]
 *             [-e json|proto] [-t] [-w] PORT PATH
 *   -d FILE   the request's body            -b BYTES  a body of that many bytes, made here
 *   -c        connections to 127.0.0.1      -n        requests in all, spread over them
 *   -e        count the payload of a Connect stream's data events
 *   -t        report what each request took, too
 *   -w        wait: one request a connection, and when each got its first answer print "ready";
 *             hold them until standard input ends. None may end or fail in the meantime
 *
 * Prints one JSON object. Ends with 1 when any answer is not 2xx or a connection is lost: a figure
 * of failures is none.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/load_reply.h"

#define READ_BYTES (256u << 10)
#define WRITE_BYTES (256u << 10)
#define HEADERS_MAX 4096
#define OPENING_MAX 200 /* -w: connections that wait for their first answer at once */

struct options {
    const char *method, *path, *body_file;
    char headers[HEADERS_MAX];
    uint16_t port;
    uint64_t body_bytes;
    uint64_t count;
    uint32_t connections;
    enum payload payload;
    bool times;
    bool wait;
};

struct conn {
    int fd;
    bool writing;  /* EPOLLOUT is asked for */
    bool answered; /* -w */
    uint64_t sent; /* of head and body */
    uint64_t began_ns;
    struct reply reply;
};

static struct options options = {.method = "GET", .connections = 1, .count = 1};
static char request_head[HEADERS_MAX + 1024];
static size_t request_head_len;
static char *body; /* of -d; or WRITE_BYTES that are sent again and again */
static char buffer[READ_BYTES];
static struct conn *conns;
static int epoll_fd;
static uint64_t started, finished, bytes, payload, *took_ns;
static uint32_t opened, answered;

static void die(const char *what, const struct conn *conn)
{
    fprintf(stderr, "load: %s%s%.500s\n", what, conn != NULL ? ": " : "",
            conn != NULL ? conn->reply.head : "");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void ask(struct conn *conn, uint32_t events, int op)
{
    struct epoll_event event = {.events = events, .data.ptr = conn};

    if (epoll_ctl(epoll_fd, op, conn->fd, &event) < 0)
        die("epoll_ctl", NULL);
    conn->writing = (events & EPOLLOUT) != 0;
}

static void send_on(struct conn *conn)
{
    uint64_t total = request_head_len + options.body_bytes;

    while (conn->sent < total) {
        struct iovec parts[2];
        struct msghdr msg = {.msg_iov = parts};
        uint64_t in_body = conn->sent > request_head_len ? conn->sent - request_head_len : 0;
        size_t offset = options.body_file != NULL ? (size_t)in_body : 0;
        uint64_t left = options.body_bytes - in_body;
        ssize_t done;

        if (conn->sent < request_head_len)
            parts[msg.msg_iovlen++] =
                (struct iovec){request_head + conn->sent, request_head_len - (size_t)conn->sent};
        if (left > 0)
            parts[msg.msg_iovlen++] =
                (struct iovec){body + offset, left < WRITE_BYTES ? (size_t)left : WRITE_BYTES};
        done = sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            break;
        if (done < 0)
            die("connection lost while sending", conn);
        conn->sent += (uint64_t)done;
    }
    if ((conn->sent < total) != conn->writing)
        ask(conn, conn->sent < total ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void next_request(struct conn *conn)
{
    started++;
    conn->sent = 0;
    conn->reply.body = conn->reply.payload = 0;
    reply_reset(&conn->reply);
    conn->began_ns = now_ns();
    send_on(conn);
}

static void open_conn(struct conn *conn)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    int on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        die("cannot connect", NULL);
    if (fcntl(conn->fd, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl", NULL);
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    conn->reply.payload_kind = options.payload;
    conn->reply.head_only = strcmp(options.method, "HEAD") == 0;
    ask(conn, EPOLLIN, EPOLL_CTL_ADD);
    opened++;
    next_request(conn);
}

static void end_of_reply(struct conn *conn)
{
    if (conn->reply.status / 100 != 2)
        die("refused", conn);
    took_ns[finished++] = now_ns() - conn->began_ns;
    bytes += conn->reply.body;
    payload += conn->reply.payload;
    if (started < options.count) {
        if (conn->reply.closes)
            die("the server closes its connections", conn);
        next_request(conn);
    }
}

/* -w: has something come that shows the stream is open? */
static void note_answer(struct conn *conn)
{
    if (conn->answered || !conn->reply.in_body)
        return;
    if (conn->reply.status / 100 != 2)
        die("refused", conn);
    if (conn->reply.body == 0 && !conn->reply.done)
        return;
    conn->answered = true;
    if (++answered == options.connections) {
        puts("ready");
        fflush(stdout);
    } else if (opened < options.connections && opened - answered < OPENING_MAX) {
        open_conn(&conns[opened]);
    }
}

static void receive(struct conn *conn)
{
    ssize_t got = recv(conn->fd, buffer, sizeof(buffer), 0);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        die("connection lost", conn);
    if (reply_feed(&conn->reply, buffer, (size_t)got) != got)
        die("malformed answer", conn);
    if (options.wait)
        note_answer(conn);
    else if (conn->reply.done)
        end_of_reply(conn);
}

static bool more(void)
{
    return options.wait || finished < options.count;
}

static void run(void)
{
    struct epoll_event events[256];
    struct epoll_event input = {.events = EPOLLIN | EPOLLHUP, .data.ptr = NULL};

    if (options.wait && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &input) < 0)
        die("-w wants a pipe at standard input", NULL);
    for (uint32_t i = 0; i < options.connections && i < OPENING_MAX; i++)
        open_conn(&conns[i]);
    while (more()) {
        int count = epoll_wait(epoll_fd, events, 256, -1);

        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;

            if (conn == NULL)
                return; /* -w: told to end */
            if ((events[i].events & EPOLLOUT) != 0)
                send_on(conn);
            if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                receive(conn);
        }
    }
}

static void read_body_file(void)
{
    int fd = open(options.body_file, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > (off_t)WRITE_BYTES ||
        read(fd, body, (size_t)st.st_size) != st.st_size)
        die("cannot read the body's file, or it is too large", NULL);
    options.body_bytes = (uint64_t)st.st_size;
    close(fd);
}

static void prepare(void)
{
    body = malloc(WRITE_BYTES);
    conns = calloc(options.connections, sizeof(*conns));
    took_ns = calloc(options.count, sizeof(*took_ns));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (body == NULL || conns == NULL || took_ns == NULL || epoll_fd < 0)
        die("no memory", NULL);
    for (size_t i = 0; i < WRITE_BYTES; i++)
        body[i] = (char)(i * 131 >> 3);
    if (options.body_file != NULL)
        read_body_file();
    request_head_len = (size_t)snprintf(
        request_head, sizeof(request_head),
        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%sContent-Length: %llu\r\n\r\n", options.method,
        options.path, options.port, options.headers, (unsigned long long)options.body_bytes);
    if (request_head_len >= sizeof(request_head))
        die("the request is too long", NULL);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void report(uint64_t spent_ns)
{
    uint64_t last = finished > 0 ? finished - 1 : 0;

    qsort(took_ns, finished, sizeof(*took_ns), by_size);
    printf("{\"requests\":%llu,\"seconds\":%.6f,\"bytes\":%llu,\"payload\":%llu,"
           "\"p50_us\":%.2f,\"p99_us\":%.2f,\"open\":%u",
           (unsigned long long)finished, (double)spent_ns / 1e9, (unsigned long long)bytes,
           (unsigned long long)payload, (double)took_ns[last / 2] / 1e3,
           (double)took_ns[last * 99 / 100] / 1e3, answered);
    if (options.times) {
        printf(",\"times_us\":[");
        for (uint64_t i = 0; i < finished; i++)
            printf("%s%.2f", i > 0 ? "," : "", (double)took_ns[i] / 1e3);
        printf("]");
    }
    printf("}\n");
}

static void add_header(const char *text)
{
    size_t len = strlen(options.headers);

    if (snprintf(options.headers + len, HEADERS_MAX - len, "%s\r\n", text) >=
        (int)(HEADERS_MAX - len))
        die("the headers are too long", NULL);
}

static void parse(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "X:H:d:b:c:n:e:tw")) != -1) {
        switch (option) {
        case 'X':
            options.method = optarg;
            break;
        case 'H':
            add_header(optarg);
            break;
        case 'd':
            options.body_file = optarg;
            break;
        case 'b':
            options.body_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            options.connections = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            options.count = strtoull(optarg, NULL, 10);
            break;
        case 'e':
            options.payload = strcmp(optarg, "json") == 0 ? PAYLOAD_JSON : PAYLOAD_PROTO;
            break;
        case 't':
            options.times = true;
            break;
        case 'w':
            options.wait = true;
            break;
        default:
            die("unknown option; see the head of tests/bench/load.c", NULL);
        }
    }
    if (argc - optind != 2 || options.connections == 0)
        die("usage: load [options] PORT PATH", NULL);
    options.port = (uint16_t)strtoul(argv[optind], NULL, 10);
    options.path = argv[optind + 1];
    if (options.wait)
        options.count = options.connections;
    if (options.count < options.connections)
        options.connections = (uint32_t)options.count;
}

int main(int argc, char **argv)
{
    uint64_t began;

    parse(argc, argv);
    prepare();
    began = now_ns();
    run();
    report(now_ns() - began);
    return 0;
}
