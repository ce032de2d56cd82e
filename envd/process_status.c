#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "envd/process_inner.h"
#include "server/base/mem.h"

/* What Go calls them: clients know these words. */
static const char *const signal_names[] = {
    [SIGHUP] = "hangup",
    [SIGINT] = "interrupt",
    [SIGQUIT] = "quit",
    [SIGILL] = "illegal instruction",
    [SIGTRAP] = "trace/breakpoint trap",
    [SIGABRT] = "aborted",
    [SIGBUS] = "bus error",
    [SIGFPE] = "floating point exception",
    [SIGKILL] = "killed",
    [SIGUSR1] = "user defined signal 1",
    [SIGSEGV] = "segmentation fault",
    [SIGUSR2] = "user defined signal 2",
    [SIGPIPE] = "broken pipe",
    [SIGALRM] = "alarm clock",
    [SIGTERM] = "terminated",
    [SIGSTKFLT] = "stack fault",
    [SIGCHLD] = "child exited",
    [SIGCONT] = "continued",
    [SIGSTOP] = "stopped (signal)",
    [SIGTSTP] = "stopped",
    [SIGTTIN] = "stopped (tty input)",
    [SIGTTOU] = "stopped (tty output)",
    [SIGURG] = "urgent I/O condition",
    [SIGXCPU] = "CPU time limit exceeded",
    [SIGXFSZ] = "file size limit exceeded",
    [SIGVTALRM] = "virtual timer expired",
    [SIGPROF] = "profiling timer expired",
    [SIGWINCH] = "window changed",
    [SIGIO] = "I/O possible",
    [SIGPWR] = "power failure",
    [SIGSYS] = "bad system call",
};

void process_describe(int status, struct process_end *end)
{
    int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    const char *core = WIFSIGNALED(status) && WCOREDUMP(status) ? " (core dumped)" : "";

    end->exited = WIFEXITED(status);
    end->exit_code = end->exited ? WEXITSTATUS(status) : -1;
    if (end->exited)
        snprintf(end->status, sizeof(end->status), "exit status %d", end->exit_code);
    else if ((size_t)signo < array_size(signal_names) && signal_names[signo] != NULL)
        snprintf(end->status, sizeof(end->status), "signal: %s%s", signal_names[signo], core);
    else
        snprintf(end->status, sizeof(end->status), "signal: signal %d%s", signo, core);
}
