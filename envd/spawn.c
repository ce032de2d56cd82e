#include "envd/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "envd/groups.h"
#include "envd/spawner.h"
#include "server/base/mem.h"

#define OOM_SCORE_ADJ "100"
#define SHELL "/bin/sh"
#define CHILD_STACK_BYTES (64 << 10)
#define COMPLAINT_BYTES (PATH_MAX + 128)

static struct rlimit files_limit; /* what children get */

/* Until it execs the child runs in the parent's memory, the parent waits: what it may use. */
struct child {
    const struct spawn *spawn;
    const char *path; /* PATH of the new environment */
    char *candidate;  /* room for one name in it */
    size_t candidate_size;
    char **script_argv; /* SHELL, the script, the arguments: for a script without "#!" */
    const char *step;   /* out: what failed before exec; NULL when nothing did */
    int errnum;
};

static char *child_stack; /* of CHILD_STACK_BYTES; one child is made at a time */

int spawn_init(struct err *err)
{
    void *stack = mmap(NULL, CHILD_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    struct rlimit limit;

    if (stack == MAP_FAILED)
        return err_sys(err, errno, "cannot map a stack");
    child_stack = stack;
    if (getrlimit(RLIMIT_NOFILE, &files_limit) < 0)
        return err_sys(err, errno, "cannot read the limit of descriptors");
    limit = files_limit;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return 0;
}

void spawn_files_limit(struct rlimit *out)
{
    *out = files_limit;
}

void spawn_set_files_limit(const struct rlimit *limit)
{
    files_limit = *limit;
}

/* ---- In the child: async-signal-safe calls only. glibc's setuid() and its kin signal all threads
 * of the process, which are the parent's here, so the system calls are made directly. ---- */

static int become(const struct user *user)
{
    if (syscall(SYS_setgroups, user->group_count, user->groups) < 0)
        return -1;
    if (syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0)
        return -1;
    return (int)syscall(SYS_setresuid, user->uid, user->uid, user->uid);
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    sigaction(SIGPIPE, &action, NULL); /* the one envd ignores */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void oom_first(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, OOM_SCORE_ADJ, sizeof(OOM_SCORE_ADJ) - 1) < 0)
        errno = 0; /* as good as it gets without /proc */
    close(fd);
}

/* The engine may have given envd a better one, which also gets the child as far as its exec. */
static void give_up_priority(void)
{
    if (getpriority(PRIO_PROCESS, 0) < 0)
        setpriority(PRIO_PROCESS, 0, 0);
}

/* Descriptors 0, 1 and 2. None of the sources is below 3 (main keeps those taken). */
static int place_stdio(const struct spawn *spawn)
{
    for (int i = 0; i < 3; i++) {
        if (dup2(spawn->stdio[i], i) < 0)
            return -1;
    }
    return 0;
}

static const char *dress(const struct spawn *spawn)
{
    if (spawn->tty && setsid() < 0)
        return "setsid";
    if (place_stdio(spawn) < 0)
        return "dup2";
    if (spawn->tty && ioctl(0, TIOCSCTTY, 0) < 0)
        return "TIOCSCTTY";
    oom_first();
    if (files_limit.rlim_max > 0)
        setrlimit(RLIMIT_NOFILE, &files_limit);
    if (become(spawn->user) < 0)
        return "setuid";
    if (chdir(spawn->cwd) < 0)
        return "chdir";
    reset_signals();
    give_up_priority();
    return NULL;
}

/* exec NAME; a script without "#!" by the shell. Returns with errno only on failure. */
static void try_exec(struct child *child, char *name)
{
    execve(name, child->spawn->argv, child->spawn->envp);
    if (errno != ENOEXEC)
        return;
    child->script_argv[1] = name;
    execve(SHELL, child->script_argv, child->spawn->envp);
    errno = ENOEXEC;
}

/* As a shell searches: EACCES is remembered while later folders are tried. Returns an errno. */
static int search_exec(struct child *child, char *name)
{
    const char *path = child->path;
    int result = ENOENT;

    for (;;) {
        size_t len = strcspn(path, ":");
        char *to = child->candidate;

        if (len + strlen(name) + 3 <= child->candidate_size) {
            memcpy(to, len > 0 ? path : ".", len > 0 ? len : 1);
            to += len > 0 ? len : 1;
            *to++ = '/';
            memcpy(to, name, strlen(name) + 1);
            try_exec(child, child->candidate);
            if (errno != ENOENT && errno != ENOTDIR)
                result = errno;
        }
        if (path[len] == '\0')
            return result;
        path += len + 1;
    }
}

static char *append(char *to, const char *end, const char *text)
{
    while (*text != '\0' && to < end)
        *to++ = *text++;
    return to;
}

/* The words and the exit code of a POSIX shell whose exec fails. */
static int complain(const char *name, int errnum)
{
    char text[COMPLAINT_BYTES] = "", *end = text + sizeof(text) - 1, *to = text;
    bool missing = errnum == ENOENT || errnum == ENOTDIR;
    const char *why = missing ? "not found" : "cannot execute";

    if (errnum == EACCES)
        why = "Permission denied";
    else if (errnum == E2BIG)
        why = "Argument list too long";
    to = append(to, end, SHELL ": 1: exec: ");
    to = append(to, end - 32, name);
    to = append(to, end, ": ");
    to = append(to, end, why);
    to = append(to, end + 1, "\n");
    if (write(2, text, (size_t)(to - text)) < 0)
        errno = 0; /* nobody to tell */
    return missing ? 127 : 126;
}

/* Its value is the exit status. It returns, for the sanitizers lose their way at _exit() here. */
static int run_child(void *arg)
{
    struct child *child = arg;
    char *name = child->spawn->argv[0];
    int errnum;

    child->step = dress(child->spawn);
    if (child->step != NULL) {
        child->errnum = errno;
        return 127;
    }
    if (strchr(name, '/') != NULL) {
        try_exec(child, name);
        errnum = errno;
    } else {
        errnum = *name != '\0' ? search_exec(child, name) : ENOENT;
    }
    return complain(name, errnum);
}

/* ---- In the parent ---- */

static const char *path_of(char *const *envp)
{
    const char *path = SPAWN_PATH_DEFAULT;

    for (; *envp != NULL; envp++) {
        if (strncmp(*envp, "PATH=", 5) == 0)
            path = *envp + 5;
    }
    return path;
}

static char **script_args(char *const *argv)
{
    size_t count = 0;
    char **args;

    while (argv[count] != NULL)
        count++;
    args = mem_calloc(count + 3, sizeof(char *));
    args[0] = (char *)(uintptr_t)SHELL;
    for (size_t i = 1; i < count; i++)
        args[i + 1] = argv[i];
    return args;
}

/* Go's words for what clients may match on; the rest as strerror has it. */
static void explain(const struct child *child, struct err *err)
{
    char text[128];
    const char *words = strerror_r(child->errnum, text, sizeof(text));
    bool cwd = strcmp(child->step, "chdir") == 0;

    if (child->errnum == ENOENT)
        words = "no such file or directory";
    else if (child->errnum == EACCES)
        words = "permission denied";
    else if (child->errnum == ENOTDIR)
        words = "not a directory";
    err_set(err, ERR_INVALID, "%s%s%.300s: %s", child->step, cwd ? " " : "",
            cwd ? child->spawn->cwd : "", words);
}

pid_t spawn_run(const struct spawn *spawn, struct err *err)
{
    struct child child = {.spawn = spawn, .path = path_of(spawn->envp)};
    _cleanup_free_ char *candidate = NULL;
    _cleanup_free_ char **script_argv = script_args(spawn->argv);
    pid_t pid;

    if (groups_freeze_asked() && groups_frozen() != GROUPS_RUNNING)
        return err_set(err, ERR_BUSY, "the processes of the sandbox are frozen");
    child.candidate_size = strlen(child.path) + strlen(spawn->argv[0]) + 3;
    child.candidate = candidate = mem_zalloc(child.candidate_size);
    child.script_argv = script_argv;
    /* As vfork, on a stack of its own: fast, and no copy of our memory whatever its size. */
    pid = spawner_clone(run_child, child_stack + CHILD_STACK_BYTES, &child);
    if (pid < 0)
        return err_sys(err, errno, "fork: %s",
                       errno == EAGAIN ? "resource temporarily unavailable" : "failed");
    if (child.step == NULL) {
        if (spawn->tty)
            groups_move_to_ptys(pid);
        return pid;
    }
    explain(&child, err);
    return -1; /* the child is reaped with all others */
}
