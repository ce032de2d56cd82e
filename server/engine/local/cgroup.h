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

/* Version 1: memory, pids, cpu, freezer, cpuacct; version 2 uses the first. */
#define CGROUP_HIERARCHIES 5
#define CGROUP_NAME_SIZE 24  /* a group's name with the NUL */
#define CGROUP_GRANTS_MAX 24 /* open files that envd gets of its sandbox's groups */

/*
 * Within a sandbox's group: envd is in the group itself (version 1) or in "envd" (version 2, where
 * a group with groups has no processes of its own), all others are in "guest", which may use less
 * than the sandbox has. Version 1 has "user" and "ptys" in the cpu hierarchy only.
 */
#define CGROUP_GUEST "guest"
#define CGROUP_GUEST_USER "guest/user"
#define CGROUP_GUEST_PTYS "guest/ptys"
#define CGROUP_ENVD "envd"
#define CGROUP_ENVD_WEIGHT 400 /* of CPU time, against the guest's 100 */
#define CGROUP_USER_WEIGHT 50  /* within the guest */
#define CGROUP_PTYS_WEIGHT 200
#define CGROUP_RESERVE_MAX_BYTES ((uint64_t)128 << 20) /* of memory, kept for envd */
#define CGROUP_RESERVE_MAX_PIDS 32

enum cgroup_controller {
    CGROUP_MEMORY,
    CGROUP_PIDS,
    CGROUP_CPU,
    CGROUP_FREEZER,
    CGROUP_CPUACCT, /* version 1, to measure alone: may be missing, has no groups within */
};

struct cgroup_limits {
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t pids_max;
};

/* What the guest may use of LIMITS: an eighth stays for envd, up to the maxima above. Pure. */
uint64_t cgroup_guest_bytes(const struct cgroup_limits *limits);
uint32_t cgroup_guest_pids(const struct cgroup_limits *limits);

/* What was found. Immutable after cgroups_open. */
struct cgroups {
    const struct cgroup_ops *ops;
    /* By enum cgroup_controller; equal when mounted together; NULL: no CPUACCT. */
    char *mounts[CGROUP_HIERARCHIES];
    char *base; /* "sandpit-<instance>" */
};

/* One group: its folders, open. -1 where a hierarchy is the same as an earlier one. */
struct cgroup {
    int fds[CGROUP_HIERARCHIES];
};
#define CGROUP_NONE                                                                                \
    {                                                                                              \
        {                                                                                          \
            -1, -1, -1, -1, -1                                                                     \
        }                                                                                          \
    }

/*
 * Open files for envd, which inherits them and learns their kinds from its arguments (envd/groups.h
 * has what each is for). Never a folder: ".." would lead out of the sandbox.
 */
struct cgroup_grants {
    struct {
        const char *kind;
        int fd;
    } items[CGROUP_GRANTS_MAX];
    size_t count;
};

struct cgroup_ops {
    const char *name; /* "v1", "v2" */
    /* Make the base folders ready for groups with limits. */
    int (*prepare)(const struct cgroups *cgroups, struct err *err);
    /* Make the groups within CGROUP and open what envd gets of them. *OUT is the caller's to clear,
     * on failure too. */
    int (*divide)(const struct cgroup *cgroup, struct cgroup_grants *out, struct err *err);
    /* Of CGROUP and of the guest in it. */
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
/* The same into its guest, through GRANTS of `divide`, and to where CPU time is counted. */
int cgroup_attach_guest(const struct cgroup *cgroup, const struct cgroup_grants *grants, pid_t pid,
                        struct err *err);
/* Version 2: a descriptor of the guest's folder to start a process in; -1 with *ERR. */
int cgroup_open_guest(const struct cgroup *cgroup, struct err *err);
void cgroup_close(struct cgroup *cgroup);
#define _cleanup_cgroup_ __attribute__((cleanup(cgroup_close)))
/* Open PATH below FOLDER (for FLAGS) as one more of GRANTS. */
int cgroup_grant(struct cgroup_grants *grants, const char *kind, int folder, const char *path,
                 int flags, struct err *err);
/* FD (owned) as one more; closed when there is no room. */
void cgroup_grants_add(struct cgroup_grants *grants, const char *kind, int fd);
/* Close those whose kind begins with PREFIX. */
void cgroup_grants_drop(struct cgroup_grants *grants, const char *prefix);
void cgroup_grants_clear(struct cgroup_grants *grants);
/* Remove group NAME everywhere; waits for the last process to be gone. ERR_BUSY after 5 s. */
int cgroup_remove(const struct cgroups *cgroups, const char *name, struct err *err);
/*
 * Folders, O_PATH, that have the sandboxes' groups: OUT[0] for memory, OUT[1] for CPU time.
 * ERR_UNSUPPORTED on version 1 without cpuacct.
 */
int cgroups_open_counted(const struct cgroups *cgroups, int out[2], struct err *err);
/* FN for each group below the base, in any hierarchy; a name may come more than once. */
void cgroups_each(const struct cgroups *cgroups, void (*fn)(void *ctx, const char *name),
                  void *ctx);
/* "<mount>/<base>/<name>/<file>" of a controller, to free(). */
char *cgroup_path(const struct cgroups *cgroups, enum cgroup_controller controller,
                  const char *name, const char *file);

#endif
