/*
 * envd/process_inner.h - the inside of envd/process.h, for process*.c only.
 */
#ifndef ENVD_PROCESS_INNER_H
#define ENVD_PROCESS_INNER_H

#include "envd/process.h"

struct stream {        /* an output of a process */
    struct loop_io io; /* fd -1: at its end */
    struct process *process;
    enum process_output kind;
};

struct process {
    struct process *next;
    struct process **link;
    pid_t pid;
    char *tag;
    char *cmd;
    char *cwd;
    char **args;
    size_t arg_count;
    char **envs; /* name, value, name, value … */
    size_t env_pairs;

    struct stream streams[2]; /* stdout and stderr, or the terminal and none */
    bool pty;
    int master; /* of the terminal, -1 without one; owned by streams[0] */

    struct loop_io input_io; /* fd -1: none, or closed */
    struct input *input;     /* waiting */
    struct input **input_last;
    size_t input_bytes;
    bool close_input; /* when nothing waits any more */

    struct watcher *watchers;
    struct loop_timer deadline;
    struct loop_timer forget;
    bool exited;     /* its status is collected */
    bool stop_early; /* its end waits for nothing but its exit */
    bool done;       /* ended */
    struct process_end end;
};

extern struct loop *process_loop;

/* process_env.c: "NAME=value" strings, NULL-terminated, to free with strv_free. */
char **process_environment(const struct process_spec *spec);
void strv_free(char **strings);

/* process_input.c */
void input_init(struct process *process, int fd);
/* Fail what waits and close. */
void input_shut(struct process *process);

/* process_output.c */
int output_watch(struct process *process, size_t i, int fd, enum process_output kind,
                 struct err *err);
bool output_at_end(const struct process *process);
/* Reading goes on or stops, by whether a watcher is full. */
void output_update(struct process *process);
/* What can be had without waiting, then close. */
void output_finish(struct process *process);
void output_close(struct process *process);

/* process.c: an output has come to its end. */
void process_check_end(struct process *process);

#endif
