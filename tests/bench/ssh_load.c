/*
 * tests/bench/ssh_load.c - the SSH client of `make bench`: commands over one kept connection.
 *
 * usage: ssh_load PORT USER KEYFILE COUNT COMMAND
 *
 * Each command gets a channel of its own; its output is read to the end and counted. Prints one
 * JSON object as load does. A program of its own, so that no start of ssh(1) is in the figures.
 * AES-GCM, the cheapest cipher that OpenSSH has.
 */
#include <arpa/inet.h>
#include <libssh2.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 << 10];

static void die(LIBSSH2_SESSION *session, const char *what)
{
    char *text = NULL;

    if (session != NULL)
        libssh2_session_last_error(session, &text, NULL, 0);
    fprintf(stderr, "ssh_load: %s: %s\n", what, text != NULL ? text : "");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        die(NULL, "cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* One command, to its end. Returns the bytes of its output. */
static uint64_t run(LIBSSH2_SESSION *session, const char *command)
{
    LIBSSH2_CHANNEL *channel =
        libssh2_channel_open_ex(session, "session", 7, 8 << 20, 32768, NULL, 0);
    uint64_t bytes = 0;
    ssize_t got;

    if (channel == NULL || libssh2_channel_exec(channel, command) != 0)
        die(session, "exec");
    while ((got = libssh2_channel_read(channel, buffer, sizeof(buffer))) > 0)
        bytes += (uint64_t)got;
    if (got < 0 || libssh2_channel_close(channel) != 0 || libssh2_channel_wait_closed(channel) != 0)
        die(session, "channel");
    if (libssh2_channel_get_exit_status(channel) != 0)
        die(NULL, "the command failed");
    libssh2_channel_free(channel);
    return bytes;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

int main(int argc, char **argv)
{
    static const char ciphers[] = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr";
    uint64_t count, bytes = 0, began, *took;
    LIBSSH2_SESSION *session;

    if (argc != 6 || libssh2_init(0) != 0 || (session = libssh2_session_init()) == NULL)
        die(NULL, "usage: ssh_load PORT USER KEYFILE COUNT COMMAND");
    count = strtoull(argv[4], NULL, 10);
    took = calloc(count, sizeof(*took));
    libssh2_session_method_pref(session, LIBSSH2_METHOD_CRYPT_CS, ciphers);
    libssh2_session_method_pref(session, LIBSSH2_METHOD_CRYPT_SC, ciphers);
    if (took == NULL ||
        libssh2_session_handshake(session, connect_to((uint16_t)strtoul(argv[1], NULL, 10))) != 0 ||
        libssh2_userauth_publickey_fromfile(session, argv[2], NULL, argv[3], NULL) != 0)
        die(session, "cannot log in");
    puts("ready"); /* the server's processes can be looked at now */
    fflush(stdout);
    while (read(0, buffer, 1) < 0)
        ;
    began = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = now_ns();

        bytes += run(session, argv[5]);
        took[i] = now_ns() - start;
    }
    printf("{\"requests\":%llu,\"seconds\":%.6f,\"payload\":%llu,", (unsigned long long)count,
           (double)(now_ns() - began) / 1e9, (unsigned long long)bytes);
    qsort(took, count, sizeof(*took), by_size);
    printf("\"p50_us\":%.2f,\"p99_us\":%.2f}\n", (double)took[(count - 1) / 2] / 1e3,
           (double)took[(count - 1) * 99 / 100] / 1e3);
    fflush(stdout);
    while (read(0, buffer, 1) > 0) /* until our parent has looked again */
        ;
    return 0;
}
