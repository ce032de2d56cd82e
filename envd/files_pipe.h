/*
 * envd/files_pipe.h - a pipe through which body bytes reach a file without being copied to memory.
 *
 * Any thread. Only for what is large: a pipe's pages count against its user's share, so
 * FILES_PIPES_MAX exist at a time, and only while a worker moves bytes.
 */
#ifndef ENVD_FILES_PIPE_H
#define ENVD_FILES_PIPE_H

#include <stdbool.h>

#define FILES_PIPE_BYTES (1 << 20)
#define FILES_PIPES_MAX 4

struct files_pipe {
    bool open;
    int in;  /* where bytes go in */
    int out; /* where they come out */
};

/* Have a pipe of FILES_PIPE_BYTES, unless it is open. False: there is none to be had now. */
bool files_pipe_open(struct files_pipe *pipe);
void files_pipe_close(struct files_pipe *pipe);

#endif
