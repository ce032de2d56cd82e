#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "envd/process_inner.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define READS_AT_ONCE 8      /* then the other descriptors get their turn */
#define BUSY_BYTES (1 << 20) /* after so much a pipe is made wider … */
#define BUSY_PIPE_BYTES (256 << 10)
#define BUSY_PIPES_MAX 32          /* … of so many: the kernel counts all pipes of a user */
#define FINISH_BYTES_MAX (1 << 20) /* of output that is still there when nobody waits for its end */

static uint8_t chunk[PROCESS_CHUNK_BYTES]; /* loop thread */

static size_t chunk_max = PROCESS_CHUNK_BYTES;

void process_chunk_max(size_t bytes)
{
    chunk_max = bytes;
}

size_t output_chunk_bytes(enum process_output kind)
{
    size_t max = kind == OUTPUT_PTY ? PROCESS_PTY_CHUNK_BYTES : PROCESS_CHUNK_BYTES;

    return chunk_max < max ? chunk_max : max;
}

static unsigned busy_pipes;

/* Fewer turns between the process and us: a third of the work of much output. */
static void widen(struct stream *stream)
{
    stream->busy = true;
    if (stream->kind == OUTPUT_PTY || busy_pipes == BUSY_PIPES_MAX)
        return;
    stream->wide = fcntl(stream->io.fd, F_SETPIPE_SZ, BUSY_PIPE_BYTES) >= 0;
    busy_pipes += stream->wide;
}

static void close_stream(struct stream *stream)
{
    busy_pipes -= stream->wide;
    stream->wide = false;
    loop_remove(process_loop, &stream->io);
    fd_close(&stream->io.fd);
}

/* How much of that output may be read: nothing that a watcher still wants is overwritten. */
static size_t room_for(struct process *process, size_t i, bool must)
{
    struct stream *stream = &process->streams[i];
    size_t want =
        process->watchers == NULL ? PROCESS_CHUNK_BYTES : output_chunk_bytes(stream->kind);

    if (!must && watch_all_full(process))
        return 0;
    return ring_make_room(process, i, watch_oldest(process, i), want, must);
}

/* Returns the bytes delivered, 0 when there are none now, -1 at the end. */
static ssize_t read_chunk(struct process *process, size_t i, size_t size)
{
    struct stream *stream = &process->streams[i];
    ssize_t n;

    do {
        n = read(stream->io.fd, chunk, size);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        if (!stream->busy && stream->ring.end >= BUSY_BYTES)
            widen(stream);
        ring_append(process, i, chunk, (size_t)n);
        watch_deliver(process, i, chunk, (size_t)n);
        return n;
    }
    return n < 0 && errno == EAGAIN ? 0 : -1; /* EIO: the last end of the terminal is closed */
}

static void on_readable(struct loop_io *io, uint32_t events)
{
    struct stream *stream = container_of(io, struct stream, io);
    struct process *process = stream->process;
    size_t index = (size_t)(stream - process->streams), size;

    (void)events;
    for (int i = 0; i < READS_AT_ONCE && (size = room_for(process, index, false)) > 0; i++) {
        ssize_t n = read_chunk(process, index, size);

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
    struct err err;

    for (size_t i = 0; i < array_size(process->streams); i++) {
        struct stream *stream = &process->streams[i];

        if (stream->io.fd < 0)
            continue;
        if (room_for(process, i, false) == 0)
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
        size_t size;

        while (process->streams[i].io.fd >= 0 && n > 0 && total < FINISH_BYTES_MAX &&
               (size = room_for(process, i, true)) > 0) {
            n = read_chunk(process, i, size);
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
