/* Version 2: one hierarchy, controllers switched on for children. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/engine/local/cgroup.h"

#define CPU_PERIOD_US 100000
#define FREEZE_WAIT_MS 10000
#define PROCS_MAX_BYTES (1024 * 1024)
#define MOVE_ROUNDS 100
#define CGROUP_V2_LEAF "sandpit-host"
#define STRINGIFY(macro) STRING(macro)
#define STRING(text) #text

static int write_controllers(const char *folder, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/cgroup.subtree_control", folder);

    return file_poke(AT_FDCWD, path, "+memory +pids +cpu", err);
}

/* Move the processes that FOLDER lists to LEAF. Returns how many it lists, or -1. */
static int move_listed(const char *folder, const char *leaf, struct err *err)
{
    _cleanup_free_ char *from = mem_asprintf("%s/cgroup.procs", folder);
    _cleanup_free_ char *to = mem_asprintf("%s/cgroup.procs", leaf);
    _cleanup_free_ char *text = NULL;
    char *save = NULL;
    int count = 0;

    if (file_read(AT_FDCWD, from, PROCS_MAX_BYTES, &text, NULL, err) < 0)
        return -1;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        struct err ignored = {0};
        count++;
        if (line[0] == '0') /* it would move the writer itself */
            return err_set(err, ERR_UNSUPPORTED,
                           "%s has processes outside this pid namespace, so its controllers "
                           "cannot be switched on for sandboxes: run sandpit in a control group "
                           "namespace of its own",
                           folder);
        file_poke(AT_FDCWD, to, line, &ignored); /* it may have ended; else the next round tells */
    }
    return count;
}

/*
 * A container's first group has its processes in it, and no group may have both processes and
 * controllers switched on for children ("no internal processes"); only the machine's root may. So
 * they move to a leaf beside ours. On a machine's own root this is never needed.
 */
static int make_room(const char *mount, struct err *err)
{
    _cleanup_free_ char *leaf = mem_asprintf("%s/" CGROUP_V2_LEAF, mount);

    if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot create control group %s", leaf);
    for (int i = 0; i < MOVE_ROUNDS; i++) { /* they may fork meanwhile */
        struct err busy = {0};
        if (move_listed(mount, leaf, err) < 0)
            return -1;
        if (write_controllers(mount, &busy) == 0) {
            log_info("moved the processes of the container's control group to one below it",
                     "group", leaf);
            return 0;
        }
        if (busy.code != ERR_BUSY) {
            *err = busy;
            return -1;
        }
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "%s has processes of its own, so its controllers cannot be switched on for "
                   "sandboxes, and they could not be moved to %s: run sandpit outside the "
                   "container",
                   mount, leaf);
}

static int v2_prepare(const struct cgroups *cgroups, struct err *err)
{
    _cleanup_free_ char *base = mem_asprintf("%s/%s", cgroups->mounts[0], cgroups->base);

    if (write_controllers(cgroups->mounts[0], err) < 0) {
        if (err->code != ERR_BUSY)
            return -1;
        *err = (struct err){0};
        if (make_room(cgroups->mounts[0], err) < 0)
            return -1;
    }
    return write_controllers(base, err);
}

static int put(const struct cgroup *cgroup, const char *file, const char *text, struct err *err)
{
    return file_poke(cgroup->fds[0], file, text, err);
}

/* In this order: a folder, then what it needs to have others, its weight. */
static const struct {
    const char *path, *file, *text;
} inner[] = {
    {NULL, "cgroup.subtree_control", "+memory +pids +cpu"},
    {CGROUP_ENVD, CGROUP_ENVD "/cpu.weight", STRINGIFY(CGROUP_ENVD_WEIGHT)},
    {CGROUP_GUEST, CGROUP_GUEST "/cgroup.subtree_control", "+cpu"},
    {CGROUP_GUEST_USER, CGROUP_GUEST_USER "/cpu.weight", STRINGIFY(CGROUP_USER_WEIGHT)},
    {CGROUP_GUEST_PTYS, CGROUP_GUEST_PTYS "/cpu.weight", STRINGIFY(CGROUP_PTYS_WEIGHT)},
};

static const struct {
    const char *kind, *path;
    int flags;
} granted[] = {
    {"envd", CGROUP_ENVD "/cgroup.procs", O_WRONLY},
    {"user", CGROUP_GUEST_USER "/cgroup.procs", O_WRONLY},
    {"ptys", CGROUP_GUEST_PTYS "/cgroup.procs", O_WRONLY},
    {"freeze", CGROUP_GUEST "/cgroup.freeze", O_WRONLY},
    {"frozen", CGROUP_GUEST "/cgroup.events", O_RDONLY},
    {"memory", "memory.current", O_RDONLY},
    {"memory-stat", "memory.stat", O_RDONLY},
    {"cpu", "cpu.stat", O_RDONLY},
};

static int v2_divide(const struct cgroup *cgroup, struct cgroup_grants *out, struct err *err)
{
    for (size_t i = 0; i < array_size(inner); i++) {
        if (inner[i].path != NULL && mkdirat(cgroup->fds[0], inner[i].path, 0755) < 0 &&
            errno != EEXIST)
            return err_sys(err, errno, "cannot create control group %s", inner[i].path);
        if (put(cgroup, inner[i].file, inner[i].text, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < array_size(granted); i++) {
        if (cgroup_grant(out, granted[i].kind, cgroup->fds[0], granted[i].path, granted[i].flags,
                         err) < 0)
            return -1;
    }
    return 0;
}

static int limit_guest(const struct cgroup *cgroup, const struct cgroup_limits *limits,
                       struct err *err)
{
    struct err ignored = {0};
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, cgroup_guest_bytes(limits));
    if (put(cgroup, CGROUP_GUEST "/memory.max", text, err) < 0)
        return -1;
    put(cgroup, CGROUP_GUEST "/memory.swap.max", "0", &ignored);
    snprintf(text, sizeof(text), "%" PRIu32, cgroup_guest_pids(limits));
    return put(cgroup, CGROUP_GUEST "/pids.max", text, err);
}

static int v2_limit(const struct cgroup *cgroup, const struct cgroup_limits *limits,
                    struct err *err)
{
    struct err ignored = {0};
    char text[48];

    snprintf(text, sizeof(text), "%" PRIu64, (uint64_t)limits->memory_mb * 1024 * 1024);
    if (put(cgroup, "memory.max", text, err) < 0)
        return -1;
    put(cgroup, "memory.swap.max", "0", &ignored); /* absent on kernels without swap */
    snprintf(text, sizeof(text), "%" PRIu32, limits->pids_max);
    if (put(cgroup, "pids.max", text, err) < 0)
        return -1;
    if (limit_guest(cgroup, limits, err) < 0)
        return -1;
    snprintf(text, sizeof(text), "%" PRIu64 " %d", (uint64_t)limits->cpu_count * CPU_PERIOD_US,
             CPU_PERIOD_US);
    return put(cgroup, "cpu.max", text, err);
}

/* The guest has a state of its own, which envd may have set. */
static void thaw_guest(const struct cgroups *cgroups, const char *name)
{
    _cleanup_free_ char *path =
        cgroup_path(cgroups, CGROUP_FREEZER, name, CGROUP_GUEST "/cgroup.freeze");
    struct err ignored = {0};

    file_poke(AT_FDCWD, path, "0", &ignored);
}

static int v2_freeze(const struct cgroups *cgroups, const char *name, bool on, struct err *err)
{
    _cleanup_free_ char *knob = cgroup_path(cgroups, CGROUP_FREEZER, name, "cgroup.freeze");
    _cleanup_free_ char *events = cgroup_path(cgroups, CGROUP_FREEZER, name, "cgroup.events");
    static const struct timespec pause = {.tv_nsec = 1000000};
    const char *wanted = on ? "frozen 1" : "frozen 0";
    int64_t deadline_mono_ms = time_mono_ms() + FREEZE_WAIT_MS;

    if (!on)
        thaw_guest(cgroups, name);
    if (file_poke(AT_FDCWD, knob, on ? "1" : "0", err) < 0)
        return -1;
    do {
        _cleanup_free_ char *text = NULL;
        if (file_read(AT_FDCWD, events, 256, &text, NULL, err) < 0)
            return -1;
        if (strstr(text, wanted) != NULL)
            return 0;
        nanosleep(&pause, NULL);
    } while (time_mono_ms() < deadline_mono_ms);
    file_poke(AT_FDCWD, knob, "0", err);
    return err_set(err, ERR_TIMEOUT, "the processes of the sandbox could not be stopped in %d s",
                   FREEZE_WAIT_MS / 1000);
}

static void v2_kill(const struct cgroups *cgroups, const char *name)
{
    _cleanup_free_ char *path = cgroup_path(cgroups, CGROUP_MEMORY, name, "cgroup.kill");
    struct err ignored = {0};

    file_poke(AT_FDCWD, path, "1", &ignored); /* kills frozen ones too */
}

const struct cgroup_ops cgroup_v2_ops = {
    .name = "v2",
    .prepare = v2_prepare,
    .divide = v2_divide,
    .limit = v2_limit,
    .freeze = v2_freeze,
    .kill = v2_kill,
    .clone_into = true,
};
