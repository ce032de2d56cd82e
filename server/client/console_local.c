#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/client/console_inner.h"

#define SENT_BYTES_MAX (1 << 20) /* then the buffer is moved up */
#define KILL_AFTER 2             /* signals to us: the second one ends the process for sure */

bool local_size(struct console *console, unsigned short *cols, unsigned short *rows)
{
    struct winsize size;

    (void)console;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
        return false;
    if (size.ws_col == 0 || size.ws_row == 0)
        return false;
    *cols = size.ws_col;
    *rows = size.ws_row;
    return true;
}

int local_open(struct console *console, struct err *err)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGWINCH);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    console->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (console->signal_fd < 0)
        return err_sys(err, errno, "signalfd");
    for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
        console->outputs[i].fd = i == 0 ? STDOUT_FILENO : STDERR_FILENO;
        buf_init(&console->outputs[i].buf, CONSOLE_BUFFER_MAX);
    }
    if (fcntl(STDIN_FILENO, F_GETFD) < 0) {
        console->stdin_over = true; /* closed */
        console->close_wanted = console->spec->command != NULL;
    }
    return 0;
}

void local_close(struct console *console)
{
    if (console->raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &console->was);
    fd_close(&console->signal_fd);
    for (int i = 0; i < CONSOLE_OUTPUTS; i++)
        buf_clear(&console->outputs[i].buf);
}

void local_started(struct console *console)
{
    struct termios raw;

    if (!console->pty)
        return;
    console->resize_wanted = true; /* it may have changed, or be another's */
    if (tcgetattr(STDIN_FILENO, &console->was) < 0)
        return; /* no terminal on our side */
    raw = console->was;
    cfmakeraw(&raw);
    console->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

/* ---- Input ---- */

static void end_of_input(struct console *console)
{
    console->stdin_over = true;
    /* A process that others started keeps its input; a terminal has no end. */
    console->close_wanted = console->spec->command != NULL && !console->pty;
}

static void read_input(struct console *console)
{
    char *data = mem_zalloc(CONSOLE_INPUT_BYTES);
    ssize_t n = read(STDIN_FILENO, data, CONSOLE_INPUT_BYTES);

    if (n > 0) {
        console->typed = data;
        console->typed_len = (size_t)n;
        return;
    }
    free(data);
    if (n == 0 || (errno != EINTR && errno != EAGAIN))
        end_of_input(console);
}

/* ---- Output ---- */

/* How much may be written without waiting, as poll says there is room. */
static size_t safe_bytes(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? SIZE_MAX : PIPE_BUF;
}

/* Nobody reads our output: as in a pipe here, its writer is to end. */
static void output_gone(struct console *console, struct console_output *output)
{
    output->closed = true;
    output->written += local_pending(output);
    output->sent = 0;
    buf_reset(&output->buf);
    if (console->spec->command != NULL)
        console->signal_wanted = SIGTERM;
}

size_t local_pending(const struct console_output *output)
{
    return output->buf.len - output->sent;
}

static void write_some(struct console *console, struct console_output *output, size_t max)
{
    size_t pending = local_pending(output);
    ssize_t n = write(output->fd, output->buf.data + output->sent, pending < max ? pending : max);

    if (n > 0) {
        output->written += (uint64_t)n;
        output->sent += (size_t)n;
        if (output->sent == output->buf.len || output->sent > SENT_BYTES_MAX) {
            buf_consume(&output->buf, output->sent);
            output->sent = 0;
        }
    } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
        output_gone(console, output);
    }
}

void local_flush(struct console *console)
{
    for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
        struct console_output *output = &console->outputs[i];

        while (local_pending(output) > 0) {
            struct pollfd poll_fd = {.fd = output->fd, .events = POLLOUT};

            write_some(console, output, SIZE_MAX);
            if (local_pending(output) > 0)
                poll(&poll_fd, 1, -1);
        }
    }
}

/* ---- Signals ---- */

static void on_signal(struct console *console, int signo)
{
    if (signo == SIGWINCH) {
        console->resize_wanted = true;
        return;
    }
    if (signo != SIGHUP && console->spec->command != NULL && !console->pty && console->started &&
        console->interrupts < KILL_AFTER) {
        console->interrupts++;
        console->signal_wanted = console->interrupts == KILL_AFTER ? SIGKILL : SIGTERM;
        return;
    }
    console->over = true; /* leave the process alone */
    console->exit_code = EXIT_SIGNAL_BASE + signo;
}

static void read_signals(struct console *console)
{
    struct signalfd_siginfo info;

    while (read(console->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        on_signal(console, (int)info.ssi_signo);
}

/* ---- The loop's side ---- */

unsigned local_poll(struct console *console, struct curl_waitfd fds[4])
{
    unsigned count = 0;

    fds[count++] = (struct curl_waitfd){.fd = console->signal_fd, .events = CURL_WAIT_POLLIN};
    for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
        if (local_pending(&console->outputs[i]) > 0)
            fds[count++] =
                (struct curl_waitfd){.fd = console->outputs[i].fd, .events = CURL_WAIT_POLLOUT};
    }
    if (!console->stdin_over && console->typed == NULL && console->events.live &&
        !console->input.busy)
        fds[count++] = (struct curl_waitfd){.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN};
    return count;
}

void local_handle(struct console *console, const struct curl_waitfd *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        bool in = fds[i].events == CURL_WAIT_POLLIN;
        struct pollfd again = {.fd = fds[i].fd, .events = in ? POLLIN : POLLOUT};

        /* curl tells of neither a hang-up nor an error. */
        if (poll(&again, 1, 0) <= 0)
            continue;
        if (fds[i].fd == console->signal_fd)
            read_signals(console);
        else if (in)
            read_input(console);
        for (int o = 0; o < CONSOLE_OUTPUTS && !in; o++) {
            if (fds[i].fd == console->outputs[o].fd)
                write_some(console, &console->outputs[o], safe_bytes(fds[i].fd));
        }
    }
}
