#include "envd/files_pipe.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_int pipes;

static bool open_large(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    if (fcntl(ends[1], F_SETPIPE_SZ, FILES_PIPE_BYTES) >= FILES_PIPE_BYTES)
        return true;
    close(ends[0]); /* the user's share of pages is used up: memory is as good */
    close(ends[1]);
    return false;
}

bool files_pipe_open(struct files_pipe *pipe)
{
    int ends[2];

    if (pipe->open)
        return true;
    if (atomic_fetch_add(&pipes, 1) >= FILES_PIPES_MAX || !open_large(ends)) {
        atomic_fetch_sub(&pipes, 1);
        return false;
    }
    *pipe = (struct files_pipe){.open = true, .in = ends[1], .out = ends[0]};
    return true;
}

void files_pipe_close(struct files_pipe *pipe)
{
    if (!pipe->open)
        return;
    close(pipe->in);
    close(pipe->out);
    pipe->open = false;
    atomic_fetch_sub(&pipes, 1);
}
