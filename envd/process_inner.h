/*
 * envd/process_inner.h - the inside of envd/process.h, for process*.c only.
 */
#ifndef ENVD_PROCESS_INNER_H
#define ENVD_PROCESS_INNER_H

#include "envd/process.h"
#include "envd/ring.h"

struct stream {        /* an output of a process */
    struct loop_io io; /* fd -1: at its end */
    struct process *process;
    struct ring ring;
    enum process_output kind;
    bool busy; /* much has come */
    bool wide; /* its pipe holds more than usual */
};

struct hold { /* process_hold */
    bool on;
    uint64_t at[PROCESS_OUTPUTS]; /* acknowledged */
    int64_t ms;
    struct loop_timer timer; /* set while there is no watcher */
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

    struct stream streams[PROCESS_OUTPUTS]; /* stdout and stderr, or the terminal and none */
    size_t replay_bytes;                    /* the most a ring of it has */
    bool pty;
    int master; /* of the terminal, -1 without one; owned by streams[0] */

    struct loop_io input_io; /* fd -1: none, or closed */
    struct input *input;     /* waiting */
    struct input **input_last;
    size_t input_bytes;
    uint64_t input_numbered; /* bytes taken from a sender that numbers them */
    bool close_input;        /* when nothing waits any more */

    struct watcher *watchers;
    struct hold hold;
    unsigned busy; /* calls on the stack that still need it */
    struct loop_timer deadline;
    struct loop_timer forget;
    bool exited;     /* its status is collected */
    bool stop_early; /* its end waits for nothing but its exit */
    bool done;       /* ended */
    bool forgotten;  /* ended, and found no more; only its last watchers keep it */
    struct process_end end;
    uint32_t number; /* in a state that is handed over (process_handover.h) */
};

extern struct loop *process_loop;
extern struct process *processes; /* newest first */

/* process_env.c: "NAME=value" strings, NULL-terminated, to free with strv_free. */
char **process_environment(const struct process_spec *spec);
void strv_free(char **strings);

/* process_input.c */
void input_init(struct process *process, int fd);
/* Fail what waits and close. */
void input_shut(struct process *process);
/* Write what waits. */
void input_go_on(struct process *process);

/* process_output.c */
int output_watch(struct process *process, size_t i, int fd, enum process_output kind,
                 struct err *err);
/* How much a watcher gets at once. */
size_t output_chunk_bytes(enum process_output kind);
bool output_at_end(const struct process *process);
/* Reading goes on or stops, by what the watchers take. */
void output_update(struct process *process);
/* What can be had without waiting, then close. */
void output_finish(struct process *process);
void output_close(struct process *process);

/* process_status.c: the words for what waitpid() says. */
void process_describe(int status, struct process_end *end);

/* process_watch.c */
/* The offset from which on a watcher still wants this output; its end when none is behind. */
uint64_t watch_oldest(const struct process *process, size_t stream);
bool watch_all_full(const struct process *process);
/* DATA is new in that stream, and in its ring: to those who were at its end. */
void watch_deliver(struct process *process, size_t stream, const uint8_t *data, size_t len);
/* The deadline: those who follow it leave. */
void watch_deadline(struct process *process);
/* PROCESS has ended: those who have all of it hear so, the others when they have. */
void watch_end(struct process *process);

/* process_hold.c: a watcher came or left. */
void hold_update(struct process *process);

/* process_ring.c */
/* What the rings of all processes have. */
size_t rings_bytes(void);
/*
 * Room for WANT bytes more, as far as there is memory and nothing from KEEP on is lost. MUST: past
 * the maximum, if need be.
 */
size_t ring_make_room(struct process *process, size_t stream, uint64_t keep, size_t want,
                      bool must);
/* Append, when there is room for LEN. Over the oldest, or growing. */
void ring_append(struct process *process, size_t stream, const uint8_t *data, size_t len);
/* PROCESS has ended: what its rings have to spare is given back. */
void ring_trim(struct process *process);
void ring_free(struct process *process);
/* The bytes that end at END. -1: no memory. */
int ring_restore(struct process *process, size_t stream, uint64_t end, const uint8_t *data,
                 size_t len);

/* process.c: an output has come to its end. PROCESS may be gone on return. */
void process_check_end(struct process *process);
/* Its timers; 0: none. */
void process_arm(struct process *process, int64_t deadline_mono_ms, int64_t forget_mono_ms);
/*
 * PID, or TAG unless it is NULL, now names a new process: what ended under it before is forgotten,
 * and one that only waits for the end of its output ends now.
 */
void process_displace(pid_t pid, const char *tag);
/* Forget one that nobody has seen yet. */
void process_drop(struct process *process);
/* Its last watcher left an ended process: free it when it is forgotten. */
void process_release(struct process *process);

#endif
