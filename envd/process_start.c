#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envd/path.h"
#include "envd/process_inner.h"
#include "envd/pty.h"
#include "envd/spawn.h"
#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"

struct ends { /* the child's descriptors, and ours */
    int child[3];
    int in;
    int out[2];
};

static void ends_close(struct ends *ends)
{
    for (size_t i = 0; i < array_size(ends->child); i++)
        fd_close(&ends->child[i]);
    fd_close(&ends->in);
    fd_close(&ends->out[0]);
    fd_close(&ends->out[1]);
}

/* A pipe whose far end, of index CHILD_SIDE, blocks and belongs to USER: /dev/stdout opens it. */
static int make_pipe(const struct user *user, int child_side, int *ours, int *theirs,
                     struct err *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "pipe: %s", strerror(errno));
    *theirs = fds[child_side];
    *ours = fds[!child_side];
    if (fchown(*theirs, user->uid, user->gid) < 0)
        errno = 0; /* no privilege to give it away: the user is ours then */
    fd_set_nonblock(*ours, 1);
    return 0;
}

static int open_pipes(const struct process_spec *spec, struct ends *ends, struct err *err)
{
    if (spec->stdin_pipe) {
        if (make_pipe(spec->user, 0, &ends->in, &ends->child[0], err) < 0)
            return -1;
    } else {
        ends->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (ends->child[0] < 0)
            return err_sys(err, errno, "open /dev/null: %s", strerror(errno));
    }
    if (make_pipe(spec->user, 1, &ends->out[0], &ends->child[1], err) < 0)
        return -1;
    return make_pipe(spec->user, 1, &ends->out[1], &ends->child[2], err);
}

static int open_terminal(const struct process_spec *spec, struct ends *ends, struct err *err)
{
    if (pty_open(spec->cols, spec->rows, &ends->out[0], &ends->child[0], err) < 0)
        return -1;
    if (fchown(ends->child[0], spec->user->uid, (gid_t)-1) < 0)
        errno = 0;
    ends->child[1] = fcntl(ends->child[0], F_DUPFD_CLOEXEC, 3);
    ends->child[2] = fcntl(ends->child[0], F_DUPFD_CLOEXEC, 3);
    ends->in = fcntl(ends->out[0], F_DUPFD_CLOEXEC, 3);
    if (ends->child[1] < 0 || ends->child[2] < 0 || ends->in < 0)
        return err_sys(err, errno, "dup: %s", strerror(errno));
    return 0;
}

static char **strv_copy(char *const *strings, size_t count)
{
    char **copy = mem_calloc(count + 1, sizeof(char *));

    for (size_t i = 0; i < count; i++)
        copy[i] = mem_strdup(strings[i]);
    return copy;
}

static struct process *process_new(const struct process_spec *spec, pid_t pid)
{
    struct process *process = mem_zalloc(sizeof(*process));

    process->pid = pid;
    process->tag = mem_strdup(spec->tag);
    process->cmd = mem_strdup(spec->cmd);
    process->cwd = mem_strdup(spec->cwd);
    process->args = strv_copy(spec->args, spec->arg_count);
    process->arg_count = spec->arg_count;
    process->envs = mem_calloc(2 * spec->env_count + 1, sizeof(char *));
    process->env_pairs = spec->env_count;
    for (size_t i = 0; i < spec->env_count; i++) {
        process->envs[2 * i] = mem_strdup(spec->env_names[i]);
        process->envs[2 * i + 1] = mem_strdup(spec->env_values[i]);
    }
    process->pty = spec->pty;
    process->replay_bytes = spec->replay_bytes;
    process->master = -1;
    process->streams[0].io.fd = process->streams[1].io.fd = -1;
    process->next = processes;
    process->link = &processes;
    if (processes != NULL)
        processes->link = &process->next;
    processes = process;
    return process;
}

/* Our ends into PROCESS. They are in ENDS until taken. */
static int adopt(struct process *process, struct ends *ends, struct err *err)
{
    input_init(process, steal_fd(&ends->in));
    process->master = process->pty ? ends->out[0] : -1;
    if (output_watch(process, 0, ends->out[0], process->pty ? OUTPUT_PTY : OUTPUT_STDOUT, err) < 0)
        return -1;
    steal_fd(&ends->out[0]);
    if (process->pty)
        return 0;
    if (output_watch(process, 1, ends->out[1], OUTPUT_STDERR, err) < 0)
        return -1;
    steal_fd(&ends->out[1]);
    return 0;
}

static int resolve_cwd(const struct process_spec *spec, char **out, struct err *err)
{
    struct path_base base = {
        .user = spec->user->name, .home = spec->user->home, .workdir = spec->workdir};
    _cleanup_free_ char *cwd = NULL;
    struct stat st;

    if (path_expand(spec->cwd != NULL ? spec->cwd : "", &base, &cwd, err) < 0)
        return -1;
    if (stat(cwd, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(err, ERR_INVALID, "cwd '%.400s' does not exist", cwd);
    *out = steal_ptr(&cwd);
    return 0;
}

/* "error starting process 'cmd args': why", in envd's words. */
static int start_failed(const struct process_spec *spec, const char *cwd, const struct err *why,
                        struct err *err)
{
    _cleanup_buf_ struct buf command;

    buf_init(&command, 256);
    buf_add_str(&command, spec->cmd);
    for (size_t i = 0; i < spec->arg_count; i++)
        buf_printf(&command, " %s", spec->args[i]);
    if (spec->pty)
        return err_set(err, ERR_INVALID,
                       "error starting pty with command '%s' in dir '%.100s' with '%u' cols and "
                       "'%u' rows: %.200s",
                       buf_str(&command), cwd, spec->cols, spec->rows, why->msg);
    return err_set(err, ERR_INVALID, "error starting process '%s': %.200s", buf_str(&command),
                   why->msg);
}

static pid_t run(const struct process_spec *spec, const char *cwd, struct ends *ends,
                 struct err *err)
{
    _cleanup_free_ char **argv = mem_calloc(spec->arg_count + 2, sizeof(char *));
    char **envp = process_environment(spec);
    struct spawn spawn = {
        .argv = argv, .envp = envp, .cwd = cwd, .user = spec->user, .tty = spec->pty};
    pid_t pid;

    argv[0] = (char *)(uintptr_t)spec->cmd;
    for (size_t i = 0; i < spec->arg_count; i++)
        argv[i + 1] = spec->args[i];
    memcpy(spawn.stdio, ends->child, sizeof(spawn.stdio));
    pid = spawn_run(&spawn, err);
    strv_free(envp);
    return pid;
}

static int start(const struct process_spec *spec, const char *cwd, struct watcher *watcher,
                 struct process **out, struct err *err)
{
    _cleanup_(ends_close) struct ends ends = {{-1, -1, -1}, -1, {-1, -1}};
    struct process *process;
    pid_t pid;

    if (spec->pty ? open_terminal(spec, &ends, err) < 0 : open_pipes(spec, &ends, err) < 0)
        return -1;
    pid = run(spec, cwd, &ends, err);
    if (pid < 0)
        return -1;
    process_displace(pid, spec->tag);
    process = process_new(spec, pid);
    if (adopt(process, &ends, err) < 0) {
        kill(pid, SIGKILL);
        process_drop(process);
        return -1;
    }
    process_watch(process, watcher, NULL);
    if (spec->timeout_ms > 0)
        process_arm(process, time_mono_ms() + spec->timeout_ms, 0);
    *out = process;
    return 0;
}

/* The program alone: in the words after it are secrets. */
static void tell_start(const struct process *process)
{
    log_copy_info("Process started", "logger", "process", "event_type", "process_start", "pid",
                  log_num(process->pid), "cmd", process->cmd, "tag", process->tag);
}

int process_start(const struct process_spec *spec, struct watcher *watcher, struct process **out,
                  struct err *err)
{
    _cleanup_free_ char *cwd = NULL;
    struct err why = {0};

    if (resolve_cwd(spec, &cwd, err) < 0)
        return -1;
    if (start(spec, cwd, watcher, out, &why) < 0)
        return start_failed(spec, cwd, &why, err);
    tell_start(*out);
    return 0;
}
