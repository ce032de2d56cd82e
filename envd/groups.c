#include "envd/groups.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define HIERARCHIES_MAX 8
#define FIGURE_MAX_BYTES 16384
#define GROUPS_TEXT_MAX_BYTES 4096

enum kind {
    ENVD,
    USER,
    PTYS,
    FREEZER,
    FREEZE,
    FROZEN,
    MEMORY,
    MEMORY_STAT,
    CPU,
    DISK_USED,
    DISK_LIMIT,
    LOG,
    KINDS
};

static const char *const names[KINDS] = {
    [ENVD] = "envd",       [USER] = "user",     [PTYS] = "ptys",
    [FREEZER] = "freezer", [FREEZE] = "freeze", [FROZEN] = "frozen",
    [MEMORY] = "memory",   [CPU] = "cpu",       [MEMORY_STAT] = "memory-stat",
    [DISK_USED] = "disk-used", [DISK_LIMIT] = "disk-limit",
    [LOG] = "log",
};

/* Filled by options, read-only afterwards. */
static struct {
    int fds[HIERARCHIES_MAX];
    size_t count;
} groups[KINDS];
static atomic_bool left_user;
static bool freeze_asked;

/* One "KIND=N" of LEN bytes. */
static int take(const char *text, size_t len, struct err *err)
{
    const char *equals = memchr(text, '=', len);
    uint64_t fd;

    if (equals == NULL || str_to_u64(equals + 1, (size_t)(text + len - equals) - 1, 3, 1 << 20,
                                     "a descriptor", &fd, err) < 0)
        return err_set(err, ERR_INVALID, "--group-fds wants KIND=N, not '%.*s'", (int)len, text);
    for (size_t i = 0; i < KINDS; i++) {
        if (!mem_is(text, (size_t)(equals - text), names[i]))
            continue;
        if (groups[i].count == HIERARCHIES_MAX)
            return err_set(err, ERR_INVALID, "--group-fds has too many of %s", names[i]);
        groups[i].fds[groups[i].count++] = (int)fd;
        return 0;
    }
    close((int)fd);
    return 0;
}

int groups_option(const char *text, struct err *err)
{
    for (;;) {
        size_t len = strcspn(text, ",");
        if (take(text, len, err) < 0)
            return -1;
        if (text[len] == '\0')
            return 0;
        text += len + 1;
    }
}

int groups_init(struct err *err)
{
    for (size_t i = 0; i < KINDS; i++) {
        for (size_t j = 0; j < groups[i].count; j++) {
            if (fcntl(groups[i].fds[j], F_SETFD, FD_CLOEXEC) < 0)
                return err_sys(err, errno, "descriptor %d of --group-fds", groups[i].fds[j]);
        }
    }
    if (groups[LOG].count > 0)
        log_copy_to(groups[LOG].fds[0]);
    return 0;
}

bool groups_divided(void)
{
    return groups[USER].count > 0;
}

/* Move PID ("0": the caller) to the groups of KIND. 0, or -1 with errno. Async-signal-safe. */
static int move(enum kind kind, const char *pid)
{
    for (size_t i = 0; i < groups[kind].count; i++) {
        if (write(groups[kind].fds[i], pid, strlen(pid)) < 0)
            return -1;
    }
    return 0;
}

int groups_enter_user(void)
{
    return move(USER, "0");
}

bool groups_left_user(void)
{
    return atomic_load(&left_user);
}

/* A thread that waits for the kernel and ends. Nothing is lost when there is none: a share of CPU,
 * or the margin between the limits. */
static void run_apart(void *(*fn)(void *arg), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, fn, arg) != 0)
        log_warn("cannot start a thread to move a process to its control group");
    pthread_attr_destroy(&attr);
}

static void *leave(void *unused)
{
    struct err err = {0};
    char pid[16];

    (void)unused;
    snprintf(pid, sizeof(pid), "%d", getpid()); /* "0" would name this thread's process too */
    if (move(ENVD, pid) < 0) {
        err_sys(&err, errno, "cannot leave the control group of users' processes");
        log_err(LOG_WARN, "control groups", NULL, &err);
    }
    return NULL;
}

void groups_leave_user(void)
{
    if (!groups_divided() || atomic_exchange(&left_user, true))
        return;
    run_apart(leave, NULL);
}

char *groups_export(void (*granted)(void *ctx, int fd), void *ctx)
{
    struct buf text;

    buf_init(&text, GROUPS_TEXT_MAX_BYTES);
    for (size_t i = 0; i < KINDS; i++) {
        for (size_t j = 0; j < groups[i].count; j++) {
            char one[40];
            snprintf(one, sizeof(one), "%s%s=%d", text.len > 0 ? "," : "", names[i],
                     groups[i].fds[j]);
            buf_add_str(&text, one);
            granted(ctx, groups[i].fds[j]);
        }
    }
    return text.len > 0 ? text.data : NULL;
}

void groups_resume(bool left)
{
    if (!left || !groups_divided())
        return;
    atomic_store(&left_user, true);
    run_apart(leave, NULL); /* the thread of the envd before may not have come to its end */
}

static void *move_pty(void *arg)
{
    char pid[16];

    snprintf(pid, sizeof(pid), "%d", (int)(intptr_t)arg);
    if (move(PTYS, pid) < 0 && errno != ESRCH)
        log_warn("cannot move a terminal to its control group");
    return NULL;
}

void groups_move_to_ptys(pid_t pid)
{
    if (groups[PTYS].count > 0)
        run_apart(move_pty, (void *)(intptr_t)pid);
}

/* The whole text of the first file of KIND. */
static char *read_kind(enum kind kind)
{
    char *text;
    ssize_t n;

    if (groups[kind].count == 0)
        return NULL;
    text = mem_zalloc(FIGURE_MAX_BYTES);
    n = pread(groups[kind].fds[0], text, FIGURE_MAX_BYTES - 1, 0);
    if (n > 0)
        return text;
    free(text);
    return NULL;
}

char *groups_read(enum groups_figure figure)
{
    static const enum kind kinds[GROUPS_FIGURES] = {
        [GROUPS_MEMORY] = MEMORY,
        [GROUPS_MEMORY_STAT] = MEMORY_STAT,
        [GROUPS_CPU] = CPU,
    };

    return read_kind(kinds[figure]);
}

static uint64_t read_number(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    struct err ignored = {0};
    uint64_t value = 0;

    text[n > 0 ? n : 0] = '\0';
    str_to_u64(text, strcspn(text, "\n"), 0, UINT64_MAX, "figure", &value, &ignored);
    return value;
}

bool groups_disk(uint64_t *used_bytes, uint64_t *limit_bytes)
{
    uint64_t used = 0, limit;

    if (groups[DISK_USED].count == 0 || groups[DISK_LIMIT].count == 0)
        return false;
    for (size_t i = 0; i < groups[DISK_USED].count; i++)
        used += read_number(groups[DISK_USED].fds[i]);
    limit = read_number(groups[DISK_LIMIT].fds[0]);
    if (limit == 0)
        return false;
    *used_bytes = used < limit ? used : limit;
    *limit_bytes = limit;
    return true;
}

int groups_freeze(bool on, struct err *err)
{
    const char *state = on ? "FROZEN" : "THAWED", *number = on ? "1" : "0";
    bool v2 = groups[FREEZE].count > 0;

    if (!v2 && groups[FREEZER].count == 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "cannot freeze: this envd was started without a freezer (--group-fds)");
    if (v2 ? write(groups[FREEZE].fds[0], number, 1) < 0
           : write(groups[FREEZER].fds[0], state, strlen(state)) < 0)
        return err_sys(err, errno, "cannot %s the sandbox's processes", on ? "freeze" : "thaw");
    freeze_asked = on;
    return 0;
}

bool groups_freeze_asked(void)
{
    return freeze_asked;
}

enum groups_state groups_frozen(void)
{
    _cleanup_free_ char *v1 = read_kind(FREEZER), *v2 = read_kind(FROZEN);

    if (v1 != NULL && str_starts(v1, "FREEZING"))
        return GROUPS_FREEZING;
    if ((v1 != NULL && str_starts(v1, "FROZEN")) || (v2 != NULL && strstr(v2, "frozen 1") != NULL))
        return GROUPS_FROZEN;
    return GROUPS_RUNNING;
}
