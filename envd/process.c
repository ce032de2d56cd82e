#include "envd/process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "envd/process_inner.h"
#include "envd/pty.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

struct loop *process_loop;
struct process *processes;

void process_init(struct loop *loop)
{
    process_loop = loop;
}

uint32_t process_pid(const struct process *process)
{
    return (uint32_t)process->pid;
}

const char *process_tag(const struct process *process)
{
    return process->tag;
}

bool process_has_pty(const struct process *process)
{
    return process->pty;
}

const char *process_cmd(const struct process *process)
{
    return process->cmd;
}

const char *process_cwd(const struct process *process)
{
    return process->cwd;
}

char *const *process_args(const struct process *process, size_t *count)
{
    *count = process->arg_count;
    return process->args;
}

char *const *process_envs(const struct process *process, size_t *pairs)
{
    *pairs = process->env_pairs;
    return process->envs;
}

const struct process_end *process_ended(const struct process *process)
{
    return process->done ? &process->end : NULL;
}

size_t process_ranges(const struct process *process, struct process_range out[PROCESS_OUTPUTS])
{
    size_t count = process->pty ? 1 : PROCESS_OUTPUTS;

    for (size_t i = 0; i < count; i++) {
        out[i].kind = process->streams[i].kind;
        out[i].start = ring_start(&process->streams[i].ring);
        out[i].end = process->streams[i].ring.end;
    }
    return count;
}

struct process *process_next(struct process *process)
{
    process = process == NULL ? processes : process->next;
    while (process != NULL && process->exited)
        process = process->next;
    return process;
}

struct process_count process_count(void)
{
    struct process_count count = {.replay_bytes = rings_bytes()};

    for (const struct process *p = processes; p != NULL; p = p->next)
        *(p->exited ? &count.kept : &count.running) += 1;
    return count;
}

/* ---- Finding ---- */

static bool is(const struct process *process, uint32_t pid, const char *tag)
{
    if (tag == NULL)
        return process->pid == (pid_t)pid;
    return process->tag != NULL && str_eq(process->tag, tag);
}

/* The newest that runs, else, if ENDED will do, the newest that does not. */
static struct process *find(uint32_t pid, const char *tag, bool ended)
{
    struct process *found = NULL;

    for (struct process *p = processes; p != NULL; p = p->next) {
        if (p->forgotten || !is(p, pid, tag))
            continue;
        if (!p->done)
            return p;
        if (ended && found == NULL)
            found = p;
    }
    return found;
}

struct process *process_by_pid(uint32_t pid, bool ended, struct err *err)
{
    struct process *process = find(pid, NULL, ended);

    if (process == NULL)
        err_set(err, ERR_NOT_FOUND, "process with pid %u not found", pid);
    return process;
}

struct process *process_by_tag(const char *tag, bool ended, struct err *err)
{
    struct process *process = find(0, tag, ended);

    if (process == NULL)
        err_set(err, ERR_NOT_FOUND, "process with tag %.256s not found", tag);
    return process;
}

/* ---- The end ---- */

static void process_free(struct process *process)
{
    *process->link = process->next;
    if (process->next != NULL)
        process->next->link = process->link;
    loop_timer_stop(process_loop, &process->deadline);
    loop_timer_stop(process_loop, &process->forget);
    loop_timer_stop(process_loop, &process->hold.timer);
    output_close(process);
    input_shut(process);
    ring_free(process);
    free(process->tag);
    free(process->cmd);
    free(process->cwd);
    strv_free(process->args);
    strv_free(process->envs);
    free(process);
}

void process_release(struct process *process)
{
    if (process->forgotten && process->watchers == NULL && process->busy == 0)
        process_free(process);
}

static void forget(struct process *process)
{
    process->forgotten = true;
    process_release(process);
}

static void on_forget(struct loop_timer *timer)
{
    forget(container_of(timer, struct process, forget));
}

/* How long an ended process can be connected to. */
static int64_t keep_ended_ms(const struct process *process)
{
    return process->hold.on && process->hold.ms > PROCESS_KEEP_ENDED_MS ? process->hold.ms
                                                                        : PROCESS_KEEP_ENDED_MS;
}

static void finish(struct process *process)
{
    process->done = true;
    loop_timer_stop(process_loop, &process->deadline);
    output_finish(process);
    input_shut(process);
    process->master = -1;
    loop_timer_set(process_loop, &process->forget, keep_ended_ms(process), on_forget);
    hold_update(process);
    watch_end(process);
    ring_trim(process);
}

void process_check_end(struct process *process)
{
    if (!process->done && process->exited && (process->stop_early || output_at_end(process)))
        finish(process);
}

static void on_deadline(struct loop_timer *timer)
{
    struct process *process = container_of(timer, struct process, deadline);

    process->stop_early = true;
    if (!process->exited)
        kill(process->pid, SIGKILL);
    watch_deadline(process);
    output_update(process);
    process_check_end(process);
}

void process_arm(struct process *process, int64_t deadline_mono_ms, int64_t forget_mono_ms)
{
    int64_t now = time_mono_ms();

    if (deadline_mono_ms > 0)
        loop_timer_set(process_loop, &process->deadline, deadline_mono_ms - now, on_deadline);
    if (forget_mono_ms > 0)
        loop_timer_set(process_loop, &process->forget, forget_mono_ms - now, on_forget);
}

void process_drop(struct process *process)
{
    process_free(process);
}

void process_reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (struct process *p = processes; p != NULL; p = p->next) {
            if (p->pid != pid || p->exited)
                continue;
            p->exited = true;
            process_describe(status, &p->end);
            log_copy_info("Process ended", "logger", "process", "event_type", "process_end", "pid",
                          log_num(pid), "exit_code", log_num(p->end.exit_code), "status",
                          p->end.status);
            process_check_end(p);
            break;
        }
    }
}

void process_displace(pid_t pid, const char *tag)
{
    struct process *process = processes, *next;

    for (; process != NULL; process = next) {
        next = process->next;
        if (process->pid == pid && !process->done) {
            process->exited = true;
            process->stop_early = true;
            process_check_end(process);
        }
        if (process->done &&
            (is(process, (uint32_t)pid, NULL) || (tag != NULL && is(process, 0, tag))))
            forget(process);
    }
}

int process_signal(struct process *process, int signo, struct err *err)
{
    if (process->exited)
        return err_set(err, ERR_INTERNAL, "error sending signal: os: process already finished");
    if (kill(process->pid, signo) < 0)
        return err_set(err, ERR_INTERNAL, "error sending signal: %s", strerror(errno));
    process->stop_early = true;
    return 0;
}

int process_resize(struct process *process, uint32_t cols, uint32_t rows, struct err *err)
{
    if (!process->pty || process->master < 0)
        return err_set(err, ERR_INTERNAL, "error resizing tty: tty not assigned to process");
    return pty_resize(process->master, cols, rows, err);
}
