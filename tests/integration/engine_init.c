/*
 * tests/integration/engine_init.c - a sandbox's first process for engine_test.c, in envd's place.
 *
 * Static, no library but libc. Takes envd's flags (--init --listen-fd N --config-fd M
 * --group-fds LIST). A client sends one line; it is run by /bin/sh as root and its output comes
 * back, then "\nexit N\n".
 * The line "config" gives back what --config-fd held; "quit" ends the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define CONFIG_MAX_BYTES 65536

static char config[CONFIG_MAX_BYTES];
static size_t config_len;

static void put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

static void read_config(int fd)
{
    ssize_t n;

    while ((n = read(fd, config + config_len, sizeof(config) - config_len)) > 0)
        config_len += (size_t)n;
    close(fd);
}

/* In a child of its own: one client. */
__attribute__((noreturn)) static void serve(int client)
{
    char *line = calloc(1, LINE_MAX_BYTES), tail[32];
    size_t len = 0;
    ssize_t n;
    int status = 0;
    pid_t pid;

    while (len < LINE_MAX_BYTES - 1 && strchr(line, '\n') == NULL &&
           (n = read(client, line + len, LINE_MAX_BYTES - 1 - len)) > 0)
        len += (size_t)n;
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "config") == 0) {
        put(client, config, config_len);
        _exit(0);
    }
    if (strcmp(line, "quit") == 0) {
        kill(1, SIGUSR1);
        _exit(0);
    }
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(client, 1);
        dup2(client, 2);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    snprintf(tail, sizeof(tail), "\nexit %d\n",
             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    put(client, tail, strlen(tail));
    _exit(0);
}

/* "kind=number,kind=number…": not for the commands. */
static void close_groups(const char *text)
{
    while ((text = strchr(text, '=')) != NULL)
        close((int)strtol(++text, NULL, 10));
}

static void on_quit(int sig)
{
    (void)sig;
    _exit(7);
}

int main(int argc, char **argv)
{
    int listener = -1;
    struct pollfd p;

    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--listen-fd") == 0)
            listener = (int)strtol(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--config-fd") == 0)
            read_config((int)strtol(argv[i + 1], NULL, 10));
        if (strcmp(argv[i], "--group-fds") == 0)
            close_groups(argv[i + 1]);
    }
    signal(SIGUSR1, on_quit);
    signal(SIGPIPE, SIG_IGN);
    p = (struct pollfd){.fd = listener, .events = POLLIN};
    for (;;) {
        int ready = poll(&p, 1, 200);
        int client = ready > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        if (client < 0)
            continue;
        pid_t pid = fork();
        if (pid == 0)
            serve(client);
        close(client);
    }
}
