/*
 * envd/process.h - the processes of this sandbox that clients started: life, streams, watchers.
 *
 * Loop thread. A process lives on when every client has left. What it writes goes to its watchers
 * and into a ring per output (ring.h), which keeps the last bytes for those who come back. Each
 * watcher is at an offset of each output: one that takes what comes is at its end, one that does
 * not (its client is slow, or it replays) is behind and is fed from the ring when it is ready. No
 * byte is overwritten that a watcher has still to get: reading stops instead, and the process with
 * it, once every watcher is full or the ring holds nothing but what the slowest still wants.
 * Without watchers output is read and, apart from the ring, dropped.
 *
 *   running ── exit status collected ──▶ exited ── both outputs at their end ──▶ ended
 *
 * A watcher that is behind then stays until it has got everything. After PROCESS_KEEP_ENDED_MS an
 * ended process is forgotten. A signal that was asked for through process_signal, or the deadline,
 * makes "exited" enough: a grandchild may hold the pipes for ever.
 * Source: envd-api section 4; docs/internals/envd-processes.md.
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

enum process_output { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_PTY, OUTPUT_KINDS };

struct process_end {
    int32_t exit_code; /* -1 after a signal */
    bool exited;       /* not by a signal */
    char status[PROCESS_STATUS_SIZE];
};

#define PROCESS_OUTPUTS 2 /* standard output and error; a terminal is the first, alone */
#define PROCESS_FROM_NOW UINT64_MAX
#define PROCESS_FROM_EARLIEST (UINT64_MAX - 1)

/* Somebody who is told. Embed it. */
struct watcher {
    struct process *process; /* NULL: not watching */
    struct watcher *next;
    struct watcher **link;
    uint64_t at[PROCESS_OUTPUTS]; /* the offset of the next byte it gets */
    bool full;
    /*
     * Returns 1 when it wants more, 0 when it does not until process_watcher_ready (this one is
     * taken), -1 when it is gone: it called process_unwatch and may be freed.
     */
    int (*output)(struct watcher *watcher, enum process_output kind, const uint8_t *data,
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
    int64_t timeout_ms;  /* 0: none */
    size_t replay_bytes; /* what is kept of each output */
};

/* The bytes of an output that are kept: [start, end). */
struct process_range {
    enum process_output kind;
    uint64_t start;
    uint64_t end;
};

void process_init(struct loop *loop);
/* How much of an output a watcher gets at once from now on, at most PROCESS_CHUNK_BYTES. */
void process_chunk_max(size_t bytes);
/* How many bytes all rings together may have, 64 MiB until told. */
void process_replay_total(size_t bytes);
/* Collect exit statuses; on SIGCHLD. Orphans are reaped by the way. */
void process_reap(void);

/* Start, with WATCHER attached from the first byte. ERR_INVALID with envd's words. */
int process_start(const struct process_spec *spec, struct watcher *watcher, struct process **out,
                  struct err *err);

/* Running or exited, ended ones only if ENDED and no other fits; ERR_NOT_FOUND. */
struct process *process_by_pid(uint32_t pid, bool ended, struct err *err);
struct process *process_by_tag(const char *tag, bool ended, struct err *err);

/* For List: those still running. Start with NULL; NULL at the end. */
struct process *process_next(struct process *process);

struct process_count {
    size_t running;
    size_t kept;         /* exited or ended, and not forgotten yet */
    size_t replay_bytes; /* all rings together */
};
struct process_count process_count(void);

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

/* Its outputs: 1 of a terminal, else 2. Returns how many; fills their ranges. */
size_t process_ranges(const struct process *process, struct process_range out[PROCESS_OUTPUTS]);

/*
 * Attach WATCHER, which gets each output from FROM on (offsets that are kept, PROCESS_FROM_NOW or
 * PROCESS_FROM_EARLIEST; NULL: now). What is kept comes with process_watcher_ready, which the
 * caller owes it. For an ended process too: it gets what is kept, then the end.
 */
void process_watch(struct process *process, struct watcher *watcher, const uint64_t *from);
void process_unwatch(struct watcher *watcher);

/*
 * A reader that must lose nothing, even what is on its way to it when its connection breaks: from
 * now on no byte from FROM on (NULL: from here) is dropped before it is acknowledged; reading waits
 * instead. Ends MS after the last watcher left, unless one came back. One hold a process.
 */
void process_hold(struct process *process, int64_t ms, const uint64_t *from);
/*
 * Bytes before AT (PROCESS_FROM_NOW: nothing new of that output) have been received. ERR_INVALID
 * for bytes that never were; the past and a process without a hold are fine.
 */
int process_acknowledge(struct process *process, const uint64_t at[PROCESS_OUTPUTS],
                        struct err *err);
/* It takes more. May call everything WATCHER has; it may be gone on return. */
void process_watcher_ready(struct watcher *watcher);

/*
 * Write INPUT to standard input, or the terminal if PTY. 0: INPUT is taken and `finished` will be
 * called (it may have been); -1 with *ERR and INPUT untouched.
 */
int process_input(struct process *process, bool pty, struct input *input, struct err *err);
/* How many bytes of input it has taken from a sender that numbers them; the caller adds. */
uint64_t *process_input_numbered(struct process *process);
/* End of input, after what waits. Fine when it is closed already. Not for a terminal. */
void process_close_stdin(struct process *process);
int process_signal(struct process *process, int signo, struct err *err);
int process_resize(struct process *process, uint32_t cols, uint32_t rows, struct err *err);

#endif
