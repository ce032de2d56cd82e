/* Version 2: one hierarchy, controllers switched on for children. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/time.h"
#include "server/engine/local/cgroup.h"

#define CPU_PERIOD_US 100000
#define FREEZE_WAIT_MS 10000

static int enable_controllers(const char *folder, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/cgroup.subtree_control", folder);

    if (file_poke(AT_FDCWD, path, "+memory +pids +cpu", err) == 0)
        return 0;
    if (err->code == ERR_BUSY)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s has processes of its own, so its controllers cannot be switched on for "
                       "sandboxes: move them to a group below it (version 2's rule of no inner "
                       "processes), or run outside the container",
                       folder);
    return -1;
}

static int v2_prepare(const struct cgroups *cgroups, struct err *err)
{
    _cleanup_free_ char *base = mem_asprintf("%s/%s", cgroups->mounts[0], cgroups->base);

    if (enable_controllers(cgroups->mounts[0], err) < 0)
        return -1;
    return enable_controllers(base, err);
}

static int put(const struct cgroup *cgroup, const char *file, const char *text, struct err *err)
{
    return file_poke(cgroup->fds[0], file, text, err);
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
    snprintf(text, sizeof(text), "%" PRIu64 " %d", (uint64_t)limits->cpu_count * CPU_PERIOD_US,
             CPU_PERIOD_US);
    return put(cgroup, "cpu.max", text, err);
}

static int v2_freeze(const struct cgroups *cgroups, const char *name, bool on, struct err *err)
{
    _cleanup_free_ char *knob = cgroup_path(cgroups, CGROUP_FREEZER, name, "cgroup.freeze");
    _cleanup_free_ char *events = cgroup_path(cgroups, CGROUP_FREEZER, name, "cgroup.events");
    static const struct timespec pause = {.tv_nsec = 1000000};
    const char *wanted = on ? "frozen 1" : "frozen 0";
    int64_t deadline_mono_ms = time_mono_ms() + FREEZE_WAIT_MS;

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
    .limit = v2_limit,
    .freeze = v2_freeze,
    .kill = v2_kill,
    .clone_into = true,
};
