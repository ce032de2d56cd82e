#include <errno.h>
#include <unistd.h>

#include "envd/process_inner.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define READS_AT_ONCE 8            /* then the other descriptors get their turn */
#define FINISH_BYTES_MAX (1 << 20) /* of output that is still there when nobody waits for its end */

static uint8_t chunk[PROCESS_CHUNK_BYTES]; /* loop thread */

static bool any_full(const struct process *process)
{
    for (const struct watcher *w = process->watchers; w != NULL; w = w->next) {
        if (w->full)
            return true;
    }
    return false;
}

/* Every watcher gets it, full or not: what has been read must not be lost. */
static void deliver(struct process *process, enum process_output kind, size_t len)
{
    struct watcher *watcher = process->watchers, *next;

    for (; watcher != NULL; watcher = next) {
        next = watcher->next;
        if (!watcher->output(watcher, kind, chunk, len))
            watcher->full = true;
    }
}

static void close_stream(struct stream *stream)
{
    loop_remove(process_loop, &stream->io);
    fd_close(&stream->io.fd);
}

/* Returns the bytes delivered, 0 when there are none now, -1 at the end. */
static ssize_t read_chunk(struct stream *stream)
{
    size_t size = stream->kind == OUTPUT_PTY ? PROCESS_PTY_CHUNK_BYTES : PROCESS_CHUNK_BYTES;
    ssize_t n;

    do {
        n = read(stream->io.fd, chunk, size);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        deliver(stream->process, stream->kind, (size_t)n);
        return n;
    }
    return n < 0 && errno == EAGAIN ? 0 : -1; /* EIO: the last end of the terminal is closed */
}

static void on_readable(struct loop_io *io, uint32_t events)
{
    struct stream *stream = container_of(io, struct stream, io);
    struct process *process = stream->process;

    (void)events;
    for (int i = 0; i < READS_AT_ONCE && !any_full(process); i++) {
        ssize_t n = read_chunk(stream);

        if (n < 0) {
            close_stream(stream);
            process_check_end(process);
            return; /* PROCESS may be gone */
        }
        if (n == 0)
            break;
    }
    output_update(process);
}

int output_watch(struct process *process, size_t i, int fd, enum process_output kind,
                 struct err *err)
{
    struct stream *stream = &process->streams[i];

    stream->process = process;
    stream->kind = kind;
    return loop_add(process_loop, &stream->io, fd, EPOLLIN, on_readable, err);
}

bool output_at_end(const struct process *process)
{
    return process->streams[0].io.fd < 0 && process->streams[1].io.fd < 0;
}

/* A descriptor at its end reports EPOLLHUP whatever is asked for, so it is taken out entirely. */
void output_update(struct process *process)
{
    bool full = any_full(process);
    struct err err;

    for (size_t i = 0; i < array_size(process->streams); i++) {
        struct stream *stream = &process->streams[i];

        if (stream->io.fd < 0)
            continue;
        if (full)
            loop_remove(process_loop, &stream->io);
        else if (!stream->io.added &&
                 loop_add(process_loop, &stream->io, stream->io.fd, EPOLLIN, on_readable, &err) < 0)
            close_stream(stream);
    }
}

void output_finish(struct process *process)
{
    for (size_t i = 0; i < array_size(process->streams); i++) {
        ssize_t total = 0, n = 1;

        while (process->streams[i].io.fd >= 0 && n > 0 && total < FINISH_BYTES_MAX) {
            n = read_chunk(&process->streams[i]);
            total += n;
        }
    }
    output_close(process);
}

void output_close(struct process *process)
{
    for (size_t i = 0; i < array_size(process->streams); i++) {
        if (process->streams[i].io.fd >= 0)
            close_stream(&process->streams[i]);
    }
}
