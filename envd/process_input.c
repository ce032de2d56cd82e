#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "envd/process_inner.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

void input_init(struct process *process, int fd)
{
    process->input_io.fd = fd;
    process->input_last = &process->input;
}

static void close_fd(struct process *process)
{
    loop_remove(process_loop, &process->input_io);
    fd_close(&process->input_io.fd);
}

/* Take the first input off the queue and tell its sender. */
static void finish_first(struct process *process, const struct err *err)
{
    struct input *input = process->input;

    process->input = input->next;
    if (process->input == NULL)
        process->input_last = &process->input;
    process->input_bytes -= input->len;
    input->finished(input, err);
}

static void fail_all(struct process *process, const char *why)
{
    struct err err = {0};

    err_set(&err, ERR_INTERNAL, "error writing to %s: %s", process->pty ? "tty" : "stdin", why);
    while (process->input != NULL)
        finish_first(process, &err);
}

void input_shut(struct process *process)
{
    close_fd(process);
    fail_all(process, "broken pipe");
}

static void on_writable(struct loop_io *io, uint32_t events);

/* Write what waits, as far as the process takes it. */
static void pump(struct process *process)
{
    struct err err;

    while (process->input != NULL) {
        struct input *input = process->input;
        size_t left = input->len - input->done;
        ssize_t n = write(process->input_io.fd, input->data + input->done, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (!process->input_io.added &&
                loop_add(process_loop, &process->input_io, process->input_io.fd, EPOLLOUT,
                         on_writable, &err) < 0)
                input_shut(process);
            return;
        }
        if (n < 0) {
            int errnum = errno;

            close_fd(process);
            fail_all(process, errnum == EPIPE ? "broken pipe" : "input/output error");
            return;
        }
        input->done += (size_t)n;
        if (input->done == input->len)
            finish_first(process, NULL);
    }
    loop_remove(process_loop, &process->input_io);
    if (process->close_input)
        close_fd(process);
}

static void on_writable(struct loop_io *io, uint32_t events)
{
    (void)events; /* an error shows in write() */
    pump(container_of(io, struct process, input_io));
}

static int check(const struct process *process, bool pty, const struct input *input,
                 struct err *err)
{
    if (process->pty && !pty)
        return err_set(err, ERR_INTERNAL,
                       "error writing to stdin: tty assigned to process — input should be written "
                       "to the pty, not the stdin");
    if (!process->pty && pty)
        return err_set(err, ERR_INTERNAL,
                       "error writing to tty: tty not assigned to process — input should be "
                       "written to the stdin, not the tty");
    if (process->input_io.fd < 0 || process->close_input)
        return err_set(err, ERR_INTERNAL, "error writing to %s",
                       pty ? "tty: input/output error" : "stdin: stdin not enabled or closed");
    if (input->len > PROCESS_INPUT_MAX - process->input_bytes)
        return err_set(err, ERR_LIMIT, "more than %d bytes wait to be written to the process",
                       PROCESS_INPUT_MAX);
    return 0;
}

int process_input(struct process *process, bool pty, struct input *input, struct err *err)
{
    bool idle = process->input == NULL;

    if (check(process, pty, input, err) < 0)
        return -1;
    input->next = NULL;
    input->done = 0;
    *process->input_last = input;
    process->input_last = &input->next;
    process->input_bytes += input->len;
    if (idle)
        pump(process);
    return 0;
}

uint64_t *process_input_numbered(struct process *process)
{
    return &process->input_numbered;
}

void process_close_stdin(struct process *process)
{
    if (process->pty || process->input_io.fd < 0)
        return;
    process->close_input = true;
    if (process->input == NULL)
        close_fd(process);
}

void input_go_on(struct process *process)
{
    if (process->input != NULL)
        pump(process);
}
