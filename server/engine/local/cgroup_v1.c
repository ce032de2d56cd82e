/* Version 1: a hierarchy for each controller. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/engine/local/cgroup.h"

#define CPU_PERIOD_US 100000
#define FREEZE_WAIT_MS 10000
#define PROCS_MAX_BYTES (1024 * 1024)
#define KILL_ROUNDS 200 /* a fork bomb may outrun one reading of cgroup.procs */

static int v1_prepare(const struct cgroups *cgroups, struct err *err)
{
    (void)cgroups;
    (void)err;
    return 0; /* controllers are on below every folder */
}

/* The folder that has CONTROLLER's files: its own, or that of one mounted together with it. */
static int folder(const struct cgroup *cgroup, const char *file, size_t controller)
{
    if (cgroup->fds[controller] >= 0)
        return cgroup->fds[controller];
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (cgroup->fds[i] >= 0 && faccessat(cgroup->fds[i], file, F_OK, 0) == 0)
            return cgroup->fds[i];
    }
    return -1;
}

static int put(const struct cgroup *cgroup, size_t controller, const char *file, uint64_t value,
               struct err *err)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    return file_poke(folder(cgroup, file, controller), file, text, err);
}

/* The folders within each hierarchy's. */
static const struct {
    enum cgroup_controller controller;
    const char *path;
    const char *shares;
    uint64_t value;
} inner[] = {
    {CGROUP_MEMORY, CGROUP_GUEST, NULL, 0},
    {CGROUP_PIDS, CGROUP_GUEST, NULL, 0},
    {CGROUP_FREEZER, CGROUP_GUEST, NULL, 0},
    /* envd is a task of 1024 beside this group */
    {CGROUP_CPU, CGROUP_GUEST, CGROUP_GUEST "/cpu.shares", 1024 * 100 / CGROUP_ENVD_WEIGHT},
    {CGROUP_CPU, CGROUP_GUEST_USER, CGROUP_GUEST_USER "/cpu.shares",
     1024 * CGROUP_USER_WEIGHT / 100},
    {CGROUP_CPU, CGROUP_GUEST_PTYS, CGROUP_GUEST_PTYS "/cpu.shares",
     1024 * CGROUP_PTYS_WEIGHT / 100},
};

/* What envd gets of them. */
static const struct {
    const char *kind;
    enum cgroup_controller controller;
    const char *path;
    int flags;
    bool optional;
} granted[] = {
    {"envd", CGROUP_MEMORY, "cgroup.procs", O_WRONLY, false},
    {"envd", CGROUP_PIDS, "cgroup.procs", O_WRONLY, false},
    {"envd", CGROUP_CPU, "cgroup.procs", O_WRONLY, false},
    {"envd", CGROUP_FREEZER, "cgroup.procs", O_WRONLY, false},
    {"user", CGROUP_MEMORY, CGROUP_GUEST "/cgroup.procs", O_WRONLY, false},
    {"user", CGROUP_PIDS, CGROUP_GUEST "/cgroup.procs", O_WRONLY, false},
    {"user", CGROUP_FREEZER, CGROUP_GUEST "/cgroup.procs", O_WRONLY, false},
    {"user", CGROUP_CPU, CGROUP_GUEST_USER "/cgroup.procs", O_WRONLY, false},
    {"ptys", CGROUP_CPU, CGROUP_GUEST_PTYS "/cgroup.procs", O_WRONLY, false},
    {"freezer", CGROUP_FREEZER, CGROUP_GUEST "/freezer.state", O_RDWR, false},
    {"memory", CGROUP_MEMORY, "memory.usage_in_bytes", O_RDONLY, false},
    {"memory-stat", CGROUP_MEMORY, "memory.stat", O_RDONLY, false},
    {"cpu", CGROUP_CPUACCT, "cpuacct.usage", O_RDONLY, true}, /* cpuacct may not be mounted */
};

/* A file of each hierarchy, by which folder() finds controllers that are mounted together. */
static const char *const own_files[CGROUP_HIERARCHIES] = {
    [CGROUP_MEMORY] = "memory.limit_in_bytes",
    [CGROUP_PIDS] = "pids.max",
    [CGROUP_CPU] = "cpu.shares",
    [CGROUP_FREEZER] = "freezer.state",
    [CGROUP_CPUACCT] = "cpuacct.usage",
};

static int v1_divide(const struct cgroup *cgroup, struct cgroup_grants *out, struct err *err)
{
    struct err ignored = {0};

    /* Limits hold for what is within: the only way since Linux 5.11, to be asked for before. */
    put(cgroup, CGROUP_MEMORY, "memory.use_hierarchy", 1, &ignored);
    for (size_t i = 0; i < array_size(inner); i++) {
        int at = folder(cgroup, own_files[inner[i].controller], inner[i].controller);
        if (mkdirat(at, inner[i].path, 0755) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create control group %s", inner[i].path);
        if (inner[i].shares != NULL &&
            put(cgroup, CGROUP_CPU, inner[i].shares, inner[i].value, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < array_size(granted); i++) {
        int at = folder(cgroup, own_files[granted[i].controller], granted[i].controller);
        if (granted[i].optional && faccessat(at, granted[i].path, F_OK, 0) < 0)
            continue;
        if (cgroup_grant(out, granted[i].kind, at, granted[i].path, granted[i].flags, err) < 0)
            return -1;
    }
    return 0;
}

/* Memory and swap together get the same limit: no swap. Absent without swap accounting. */
static int limit_memory(const struct cgroup *cgroup, const char *limit, const char *with_swap,
                        const char *swappiness, uint64_t bytes, struct err *err)
{
    struct err ignored = {0};

    if (put(cgroup, CGROUP_MEMORY, limit, bytes, err) < 0)
        return -1;
    if (put(cgroup, CGROUP_MEMORY, with_swap, bytes, &ignored) < 0)
        put(cgroup, CGROUP_MEMORY, swappiness, 0, &ignored);
    return 0;
}

static int limit_guest(const struct cgroup *cgroup, const struct cgroup_limits *limits,
                       struct err *err)
{
    if (limit_memory(cgroup, CGROUP_GUEST "/memory.limit_in_bytes",
                     CGROUP_GUEST "/memory.memsw.limit_in_bytes", CGROUP_GUEST "/memory.swappiness",
                     cgroup_guest_bytes(limits), err) < 0)
        return -1;
    return put(cgroup, CGROUP_PIDS, CGROUP_GUEST "/pids.max", cgroup_guest_pids(limits), err);
}

static int v1_limit(const struct cgroup *cgroup, const struct cgroup_limits *limits,
                    struct err *err)
{
    uint64_t bytes = (uint64_t)limits->memory_mb * 1024 * 1024;
    uint64_t quota_us = (uint64_t)limits->cpu_count * CPU_PERIOD_US;

    if (limit_memory(cgroup, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
                     "memory.swappiness", bytes, err) < 0)
        return -1;
    if (put(cgroup, CGROUP_PIDS, "pids.max", limits->pids_max, err) < 0)
        return -1;
    if (limit_guest(cgroup, limits, err) < 0)
        return -1;
    if (put(cgroup, CGROUP_CPU, "cpu.cfs_period_us", CPU_PERIOD_US, err) < 0)
        return -1;
    return put(cgroup, CGROUP_CPU, "cpu.cfs_quota_us", quota_us, err);
}

static int write_state(const struct cgroups *cgroups, const char *name, const char *state,
                       struct err *err)
{
    _cleanup_free_ char *path = cgroup_path(cgroups, CGROUP_FREEZER, name, "freezer.state");

    return file_poke(AT_FDCWD, path, state, err);
}

/* The guest has a state of its own, which envd may have set. */
static void thaw_guest(const struct cgroups *cgroups, const char *name)
{
    _cleanup_free_ char *path =
        cgroup_path(cgroups, CGROUP_FREEZER, name, CGROUP_GUEST "/freezer.state");
    struct err ignored = {0};

    file_poke(AT_FDCWD, path, "THAWED", &ignored);
}

static int v1_freeze(const struct cgroups *cgroups, const char *name, bool on, struct err *err)
{
    _cleanup_free_ char *path = cgroup_path(cgroups, CGROUP_FREEZER, name, "freezer.state");
    static const struct timespec pause = {.tv_nsec = 1000000};
    const char *wanted = on ? "FROZEN" : "THAWED";
    int64_t deadline_mono_ms = time_mono_ms() + FREEZE_WAIT_MS;

    if (!on)
        thaw_guest(cgroups, name);
    /* A group may stay FREEZING while a process is in a system call; writing again helps it on. */
    do {
        _cleanup_free_ char *state = NULL;
        if (write_state(cgroups, name, wanted, err) < 0 ||
            file_read(AT_FDCWD, path, 64, &state, NULL, err) < 0)
            return -1;
        if (str_starts(state, wanted))
            return 0;
        nanosleep(&pause, NULL);
    } while (time_mono_ms() < deadline_mono_ms);
    write_state(cgroups, name, "THAWED", err);
    return err_set(err, ERR_TIMEOUT, "the processes of the sandbox could not be stopped in %d s",
                   FREEZE_WAIT_MS / 1000);
}

/* SIGKILL to each process that cgroup.procs lists. Returns how many. */
static int kill_listed(const char *path)
{
    _cleanup_free_ char *text = NULL;
    struct err err = {0};
    char *save = NULL;
    int count = 0;

    if (file_read(AT_FDCWD, path, PROCS_MAX_BYTES, &text, NULL, &err) < 0)
        return 0;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        uint64_t pid;
        if (str_to_u64(line, strlen(line), 2, INT32_MAX, "pid", &pid, &err) < 0)
            continue; /* "0": a process outside our pid namespace */
        kill((pid_t)pid, SIGKILL);
        count++;
    }
    return count;
}

static void v1_kill(const struct cgroups *cgroups, const char *name)
{
    _cleanup_free_ char *procs = cgroup_path(cgroups, CGROUP_PIDS, name, "cgroup.procs");
    _cleanup_free_ char *guests =
        cgroup_path(cgroups, CGROUP_PIDS, name, CGROUP_GUEST "/cgroup.procs");
    static const struct timespec pause = {.tv_nsec = 1000000};
    struct err ignored = {0};

    for (int i = 0; i < KILL_ROUNDS; i++) {
        int count = kill_listed(procs) + kill_listed(guests);
        thaw_guest(cgroups, name);
        write_state(cgroups, name, "THAWED", &ignored); /* frozen processes do not die */
        if (count == 0)
            return;
        nanosleep(&pause, NULL);
    }
}

const struct cgroup_ops cgroup_v1_ops = {
    .name = "v1",
    .prepare = v1_prepare,
    .divide = v1_divide,
    .limit = v1_limit,
    .freeze = v1_freeze,
    .kill = v1_kill,
};
