/*
 * envd/process.h - the processes of this sandbox that clients started: life, streams, watchers.
 *
 * Loop thread. A process lives on when every client has left. Its output goes to all watchers; a
 * watcher that is full stops the reading for all, so that back-pressure reaches the process and
 * nothing is lost or piled up. Without watchers output is read and dropped.
 *
 *   running ── exit status collected ──▶ exited ── both outputs at their end ──▶ ended
 *
 * After PROCESS_KEEP_ENDED_MS an ended process is forgotten. A signal that was asked for through
 * process_signal, or the deadline, makes "exited" enough: a grandchild may hold the pipes for ever.
 * Source: envd-api section 4.
 */
#ifndef ENVD_PROCESS_H
#define ENVD_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "envd/loop.h"
#include "envd/user.h"
#include "server/base/err.h"
#include "server/base/json.h"

#define PROCESS_KEEP_ENDED_MS (30 * 1000)
#define PROCESS_CHUNK_BYTES (32 << 10)     /* of output at once */
#define PROCESS_PTY_CHUNK_BYTES (16 << 10) /* of a terminal's */
#define PROCESS_INPUT_MAX (64 << 20)       /* bytes that wait to be written to one process */
#define PROCESS_STATUS_SIZE 80

struct process;

enum process_output { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_PTY };

struct process_end {
    int32_t exit_code; /* -1 after a signal */
    bool exited;       /* not by a signal */
    char status[PROCESS_STATUS_SIZE];
};

/* Somebody who is told. Embed it. */
struct watcher {
    struct process *process; /* NULL: not watching */
    struct watcher *next;
    struct watcher **link;
    bool full;
    /* Returns false when it wants no more until process_watcher_ready. */
    bool (*output)(struct watcher *watcher, enum process_output kind, const uint8_t *data,
                   size_t len);
    /* The last call; WATCHER is not watching any more. */
    void (*end)(struct watcher *watcher, const struct process_end *end);
    /* The process's own deadline passed and it was killed; also a last call. NULL: `end` comes. */
    void (*deadline)(struct watcher *watcher);
};

/* Bytes on their way to a process. Embed it. */
struct input {
    struct input *next;
    uint8_t *data; /* owned */
    size_t len;
    size_t done;
    /* Written (ERR NULL) or not. INPUT may be freed. */
    void (*finished)(struct input *input, const struct err *err);
};

/* What to start, and what List shows of it. Strings are borrowed during process_start. */
struct process_spec {
    const char *cmd;
    char *const *args; /* without the command */
    size_t arg_count;
    const json_t *default_envs; /* of the settings */
    const char *const *env_names;
    const char *const *env_values;
    size_t env_count;
    const char *cwd;     /* as asked; NULL: not given */
    const char *workdir; /* the default one, "" when unset */
    const char *tag;     /* NULL: none */
    const struct user *user;
    bool stdin_pipe;
    bool pty;
    uint32_t cols;
    uint32_t rows;
    int64_t timeout_ms; /* 0: none */
};

void process_init(struct loop *loop);
/* Collect exit statuses; on SIGCHLD. Orphans are reaped by the way. */
void process_reap(void);

/* Start, with WATCHER attached from the first byte. ERR_INVALID with envd's words. */
int process_start(const struct process_spec *spec, struct watcher *watcher, struct process **out,
                  struct err *err);

/* Running or exited, ended ones only if ENDED; ERR_NOT_FOUND. */
struct process *process_by_pid(uint32_t pid, bool ended, struct err *err);
struct process *process_by_tag(const char *tag, bool ended, struct err *err);

/* For List: those still running. Start with NULL; NULL at the end. */
struct process *process_next(struct process *process);

uint32_t process_pid(const struct process *process);
const char *process_tag(const struct process *process); /* NULL: none */
bool process_has_pty(const struct process *process);
const char *process_cmd(const struct process *process);
const char *process_cwd(const struct process *process); /* as asked; NULL: not given */
char *const *process_args(const struct process *process, size_t *count);
/* Pairs name, value of the request. */
char *const *process_envs(const struct process *process, size_t *pairs);
/* How it ended, NULL while it has not. */
const struct process_end *process_ended(const struct process *process);

/* Live output from now on. Not for an ended process. */
void process_watch(struct process *process, struct watcher *watcher);
void process_unwatch(struct watcher *watcher);
void process_watcher_ready(struct watcher *watcher);

/*
 * Write INPUT to standard input, or the terminal if PTY. 0: INPUT is taken and `finished` will be
 * called (it may have been); -1 with *ERR and INPUT untouched.
 */
int process_input(struct process *process, bool pty, struct input *input, struct err *err);
/* End of input, after what waits. Fine when it is closed already. Not for a terminal. */
void process_close_stdin(struct process *process);
int process_signal(struct process *process, int signo, struct err *err);
int process_resize(struct process *process, uint32_t cols, uint32_t rows, struct err *err);

#endif
