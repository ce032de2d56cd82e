/*
 * server/engine/local/cgroup.h - a sandbox's control groups, on version 1 and version 2.
 *
 * cgroups_open finds out once what this machine has; one driver (struct cgroup_ops) serves each
 * version. A sandbox's group is "sandpit-<instance>/<name>" below each hierarchy's root. Launcher
 * and its children only; blocking.
 * Source: Linux Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
 */
#ifndef SANDPIT_ENGINE_LOCAL_CGROUP_H
#define SANDPIT_ENGINE_LOCAL_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"
#include "server/base/mem.h"

#define CGROUP_HIERARCHIES 4 /* version 1: memory, pids, cpu, freezer; version 2 uses the first */
#define CGROUP_NAME_SIZE 24  /* a group's name with the NUL */

enum cgroup_controller { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_FREEZER };

struct cgroup_limits {
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t pids_max;
};

/* What was found. Immutable after cgroups_open. */
struct cgroups {
    const struct cgroup_ops *ops;
    char *mounts[CGROUP_HIERARCHIES]; /* by enum cgroup_controller; equal when mounted together */
    char *base;                       /* "sandpit-<instance>" */
};

/* One group: its folders, open. -1 where a hierarchy is the same as an earlier one. */
struct cgroup {
    int fds[CGROUP_HIERARCHIES];
};
#define CGROUP_NONE                                                                                \
    {                                                                                              \
        {                                                                                          \
            -1, -1, -1, -1                                                                         \
        }                                                                                          \
    }

struct cgroup_ops {
    const char *name; /* "v1", "v2" */
    /* Make the base folders ready for groups with limits. */
    int (*prepare)(const struct cgroups *cgroups, struct err *err);
    int (*limit)(const struct cgroup *cgroup, const struct cgroup_limits *limits, struct err *err);
    /* Stop (or let go on) everything in NAME; returns when it has stopped. */
    int (*freeze)(const struct cgroups *cgroups, const char *name, bool on, struct err *err);
    /* SIGKILL to everything in NAME, frozen or not. No such group is no error. */
    void (*kill)(const struct cgroups *cgroups, const char *name);
    bool clone_into; /* clone3 can start a process in the group: no attach needed */
};

extern const struct cgroup_ops cgroup_v1_ops;
extern const struct cgroup_ops cgroup_v2_ops;

/*
 * Find the hierarchies of this machine and make "sandpit-<INSTANCE>" in them. ERR_UNSUPPORTED
 * names the controller that is missing and how to get it.
 */
int cgroups_open(const char *instance, struct cgroups **out, struct err *err);
void cgroups_free(struct cgroups *cgroups);
/* Remove the base folders if they are empty. */
void cgroups_remove_base(const struct cgroups *cgroups);

/*
 * The same search in TEXT, the content of /proc/self/mountinfo, without making anything. READ_FN
 * tells which controllers a cgroup2 mount offers (the text of its cgroup.controllers, to free(), or
 * NULL). For tests and doctor.
 */
typedef char *(*cgroup_read_fn)(const char *mount);
int cgroups_find(const char *text, cgroup_read_fn read_fn, struct cgroups *out, struct err *err);
void cgroups_clear(struct cgroups *cgroups);
/* "/proc/self/mountinfo", to free(), and the READ_FN that asks the kernel. */
char *cgroups_mountinfo(void);
char *cgroups_controllers(const char *mount);

/* Make group NAME (existing is fine) and open it. */
int cgroup_create(const struct cgroups *cgroups, const char *name, struct cgroup *out,
                  struct err *err);
/* Move PID into it, in every hierarchy. Version 1 waits about 10 ms for an RCU grace period. */
int cgroup_attach(const struct cgroup *cgroup, pid_t pid, struct err *err);
void cgroup_close(struct cgroup *cgroup);
#define _cleanup_cgroup_ __attribute__((cleanup(cgroup_close)))
/* Remove group NAME everywhere; waits for the last process to be gone. ERR_BUSY after 5 s. */
int cgroup_remove(const struct cgroups *cgroups, const char *name, struct err *err);
/* FN for each group below the base, in any hierarchy; a name may come more than once. */
void cgroups_each(const struct cgroups *cgroups, void (*fn)(void *ctx, const char *name),
                  void *ctx);
/* "<mount>/<base>/<name>/<file>" of a controller, to free(). */
char *cgroup_path(const struct cgroups *cgroups, enum cgroup_controller controller,
                  const char *name, const char *file);

#endif
