/*
 * tests/bench/transfer.c - how fast /files of an envd (or a GET of any HTTP server) moves bytes.
 *
 *     transfer up|form|down PORT TARGET MIB [PID...]
 *
 * up     POST /files?path=TARGET, application/octet-stream, MIB MiB
 * form   the same as multipart/form-data, chunked in pieces of 64 KiB as the SDKs' clients do
 * down   GET TARGET (a request target such as /files?path=/tmp/x), read and thrown away
 *
 * Prints "MIB/S CPU_MS_PER_MIB": the second is what the processes PID spent, from /proc, 0 without.
 * The client uses one thread and large buffers, so it is seldom what limits. Linux only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (256 << 10)
#define CHUNK_BYTES (64 << 10)
#define MIB (1 << 20)

static const char form_head[] = "--b0undary\r\nContent-Disposition: form-data; name=\"file\"; "
                                "filename=\"x\"\r\nContent-Type: application/octet-stream\r\n\r\n";
static const char form_tail[] = "\r\n--b0undary--\r\n";

static void die(const char *what)
{
    fprintf(stderr, "transfer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* User and system time of PID in milliseconds; threads that have ended count too. */
static double cpu_ms(const char *pid)
{
    char path[64], text[1024];
    unsigned long user = 0, sys = 0;
    const char *after;
    FILE *file;
    size_t len;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    file = fopen(path, "re");
    if (file == NULL)
        die(path);
    len = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[len] = '\0';
    after = strrchr(text, ')'); /* the name may hold anything */
    if (after == NULL ||
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
        die("cannot read the CPU time");
    return (double)(user + sys) * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

static int dial(const char *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atol(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        die("connect");
    return fd;
}

static void send_all(int fd, const void *data, size_t len, int flags)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, flags | MSG_NOSIGNAL);

        if (n < 0)
            die("send");
        data = (const char *)data + n;
        len -= (size_t)n;
    }
}

/* One chunk: its size, DATA, CRLF; small parts ride with the large one. */
static void send_chunk(int fd, const void *data, size_t len)
{
    char size[32];

    send_all(fd, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", len), MSG_MORE);
    send_all(fd, data, len, MSG_MORE);
    send_all(fd, "\r\n", 2, 0);
}

/* The head of an answer, which has to be 2xx. Returns how many bytes of the body came with it. */
static size_t read_head(int fd, long long *length)
{
    static char text[BUFFER_BYTES + 1];
    size_t len = 0;
    char *end, *field;

    do {
        ssize_t n = recv(fd, text + len, BUFFER_BYTES - len, 0);

        if (n <= 0)
            die("no answer");
        len += (size_t)n;
        text[len] = '\0';
        end = strstr(text, "\r\n\r\n");
    } while (end == NULL && len < BUFFER_BYTES);
    if (end == NULL || strncmp(text, "HTTP/1.1 2", 10) != 0) {
        fprintf(stderr, "transfer: %.200s\n", text);
        exit(1);
    }
    field = strcasestr(text, "\r\ncontent-length:");
    *length = field != NULL ? atoll(field + strlen("\r\ncontent-length:")) : -1;
    return len - (size_t)(end + 4 - text);
}

static void upload(int fd, const char *target, size_t mib, int form)
{
    char head[8192], framing[64], *data = malloc(BUFFER_BYTES);
    unsigned long long left = (unsigned long long)mib * MIB;
    size_t piece = form ? CHUNK_BYTES : BUFFER_BYTES;
    long long length;

    if (data == NULL)
        die("memory");
    memset(data, 'x', BUFFER_BYTES);
    snprintf(framing, sizeof(framing), form ? "Transfer-Encoding: chunked" : "Content-Length: %llu",
             left);
    send_all(fd, head,
             (size_t)snprintf(head, sizeof(head),
                              "POST /files?path=%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
                              "%s\r\n\r\n",
                              target,
                              form ? "multipart/form-data; boundary=b0undary"
                                   : "application/octet-stream",
                              framing),
             0);
    if (form)
        send_chunk(fd, form_head, strlen(form_head));
    for (; left > 0; left -= piece) {
        if (form)
            send_chunk(fd, data, piece);
        else
            send_all(fd, data, piece, 0);
    }
    if (form) {
        send_chunk(fd, form_tail, strlen(form_tail));
        send_all(fd, "0\r\n\r\n", 5, 0);
    }
    read_head(fd, &length);
    free(data);
}

/* Returns the bytes of the body. */
static long long download(int fd, const char *target)
{
    char head[8192], *data = malloc(BUFFER_BYTES);
    long long length, got;

    if (data == NULL)
        die("memory");
    send_all(fd, head,
             (size_t)snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target), 0);
    got = (long long)read_head(fd, &length);
    while (got < length) {
        ssize_t n = recv(fd, data, BUFFER_BYTES, 0);

        if (n <= 0)
            die("the answer is cut short");
        got += n;
    }
    free(data);
    return got;
}

int main(int argc, char **argv)
{
    double began, took, spent = 0, mib;
    int fd;

    if (argc < 5) {
        fprintf(stderr, "usage: transfer up|form|down PORT TARGET MIB [PID...]\n");
        return 2;
    }
    mib = atof(argv[4]);
    fd = dial(argv[2]);
    for (int i = 5; i < argc; i++)
        spent -= cpu_ms(argv[i]);
    began = now_s();
    if (strcmp(argv[1], "down") == 0)
        mib = (double)download(fd, argv[3]) / MIB;
    else
        upload(fd, argv[3], (size_t)mib, strcmp(argv[1], "form") == 0);
    took = now_s() - began;
    for (int i = 5; i < argc; i++)
        spent += cpu_ms(argv[i]);
    printf("%.0f %.3f\n", mib / took, spent / mib);
    close(fd);
    return 0;
}
