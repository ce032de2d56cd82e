/* Every requirement of the local engine, for `sandpit doctor`. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/str.h"
#include "server/engine/local/cgroup.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/local.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/rootfs_layers.h"
#include "server/engine/local/seccomp.h"
#include "server/engine/local/storage.h"
#include "server/engine/local/sys.h"
#include "server/engine/local/userns.h"

#define CLONE_ARGS_MIN 64 /* bytes: the first version of struct clone_args */

/* Where the lines of the report go, and whether one of them failed. */
struct report {
    engine_check_fn fn;
    void *ctx;
    bool failed;
};

static void say(struct report *report, const char *name, enum check_state state, const char *found,
                const char *remedy)
{
    report->failed |= state == CHECK_FAIL;
    report->fn(report->ctx, name, state, found, remedy);
}

static void say_err(struct report *report, const char *name, enum check_state state,
                    const struct err *err)
{
    say(report, name, state, err->detail[0] != '\0' ? err->detail : err->msg, err->msg);
}

static void check_kernel(struct report *report)
{
    struct utsname name = {0};

    uname(&name);
    say(report, "kernel", CHECK_OK, name.release, NULL);
    /* Bad arguments on purpose: a call that exists answers something else than ENOSYS. */
    bool pidfd = syscall(SYS_pidfd_open, -1, 0) >= 0 || errno != ENOSYS;
    bool openat2 = syscall(SYS_openat2, -1, NULL, NULL, 0) >= 0 || errno != ENOSYS;
    bool clone3 = syscall(SYS_clone3, NULL, CLONE_ARGS_MIN) >= 0 || errno != ENOSYS;
    bool close_range_there = syscall(SYS_close_range, ~0U, ~0U, 0) >= 0 || errno != ENOSYS;
    bool all = pidfd && openat2 && clone3 && close_range_there;
    say(report, "system calls", all ? CHECK_OK : CHECK_FAIL,
        all ? "pidfd_open, openat2, clone3, close_range"
            : "one of pidfd_open, openat2, clone3, "
              "close_range is missing",
        "use Linux 5.10 or newer; inside a container, allow these system calls");
}

static void check_user_namespaces(struct report *report, uint32_t root_id)
{
    struct err err = {0};
    _cleanup_close_ int fd = userns_new(root_id, &err);
    _cleanup_free_ char *max = NULL;
    struct err ignored = {0};

    if (fd < 0) {
        say_err(report, "user namespaces", CHECK_FAIL, &err);
        return;
    }
    if (file_read(AT_FDCWD, "/proc/sys/user/max_user_namespaces", 32, &max, NULL, &ignored) == 0)
        max[strcspn(max, "\n")] = '\0';
    say(report, "user namespaces", CHECK_OK, max, NULL);
}

/* Namespaces and mounts that a sandbox needs, made in a child and gone with it. */
static void check_namespaces(struct report *report)
{
    static const struct {
        uint64_t flag;
        const char *name;
    } kinds[] = {{CLONE_NEWPID, "pid"}, {CLONE_NEWNS, "mount"}, {CLONE_NEWNET, "network"},
                 {CLONE_NEWUTS, "uts"}, {CLONE_NEWIPC, "ipc"},  {CLONE_NEWCGROUP, "cgroup"}};

    for (size_t i = 0; i < array_size(kinds); i++) {
        pid_t pid = sys_clone(kinds[i].flag, -1, NULL);
        if (pid == 0)
            _exit(0);
        if (pid > 0) {
            sys_wait(pid, NULL);
            continue;
        }
        _cleanup_free_ char *found = mem_asprintf("no %s namespaces: %s", kinds[i].name,
                                                  errno == EPERM ? "not permitted" : "refused");
        say(report, "namespaces", CHECK_FAIL, found,
            "inside a container it must be privileged (docker run --privileged)");
        return;
    }
    say(report, "namespaces", CHECK_OK, "pid, mount, network, uts, ipc, cgroup", NULL);
}

/* Overlay with shifted owners needs a folder on the state's file system to be tried in. */
static void check_overlay(struct report *report, const struct local_config *config)
{
    _cleanup_free_ char *parent = mem_strdup(config->state_dir);
    struct err err = {0};
    char *slash;

    while (access(parent, F_OK) < 0 && (slash = strrchr(parent, '/')) != NULL && slash != parent)
        *slash = '\0'; /* the state folder may not exist yet */
    _cleanup_free_ char *probe = mem_asprintf("%s/sandpit-check.%d", parent, getpid());
    const char *name = strrchr(probe, '/') + 1;
    if (mkdir(probe, 0700) < 0) {
        say(report, "overlay", CHECK_FAIL, parent, "the state folder must be writable for root");
        return;
    }
    if (layers_idmap_works(probe, config->id_base, &err)) {
        say(report, "overlay", CHECK_OK, "with idmapped lower layers", NULL);
    } else if (layers_overlay_works(probe, &err)) {
        say(report, "overlay", CHECK_WARN,
            "without idmapped lower layers: files of /usr belong to "
            "nobody in sandboxes, and sudo does not work there",
            "use Linux 5.19 or newer, with /usr and the state on ext4, xfs or btrfs");
    } else {
        say_err(report, "overlay", CHECK_FAIL, &err);
    }
    layers_probe_remove(parent, name);
}

/* Where files will lie, and whether limits hold there. */
static void check_storage(struct report *report, const struct local_config *config)
{
    struct storage_plan plan;
    _cleanup_free_ char *found = NULL;

    storage_plan(config, &plan);
    if (plan.kind == STORAGE_IMAGE) {
        found = mem_asprintf("btrfs in an image of %" PRIu64 " MB", plan.image_bytes >> 20);
        say(report, "storage", CHECK_OK, found, NULL);
    } else if (plan.kind == STORAGE_BTRFS) {
        say(report, "storage", CHECK_OK, "btrfs of the state folder", NULL);
    } else {
        found = mem_asprintf("plain folders (%s): no disk limit is held, snapshots are copies",
                             plan.why_plain[0] != '\0' ? plan.why_plain : "storage-plain");
        say(report, "storage", CHECK_WARN, found,
            plan.remedy[0] != '\0' ? plan.remedy : "leave out --storage-plain");
    }
}

static void check_cgroups(struct report *report)
{
    _cleanup_free_ char *text = cgroups_mountinfo();
    struct cgroups found = {0};
    struct err err = {0};

    if (text == NULL) {
        say(report, "cgroups", CHECK_FAIL, "no /proc/self/mountinfo", "mount -t proc proc /proc");
        return;
    }
    if (cgroups_find(text, cgroups_controllers, &found, &err) < 0) {
        say_err(report, "cgroups", CHECK_FAIL, &err);
        return;
    }
    _cleanup_free_ char *where = mem_asprintf("%s: memory, pids, cpu, freezer (%s)",
                                              found.ops->name, found.mounts[CGROUP_MEMORY]);
    if (access(found.mounts[CGROUP_MEMORY], W_OK) < 0)
        say(report, "cgroups", CHECK_FAIL, where, "mount the control groups writable");
    else
        say(report, "cgroups", CHECK_OK, where, NULL);
    cgroups_clear(&found);
}

static void check_seccomp(struct report *report)
{
    struct seccomp_program *program = NULL;
    struct err err = {0};

    if (seccomp_compile(&program, &err) < 0) {
        say_err(report, "seccomp", CHECK_FAIL, &err);
        return;
    }
    seccomp_free(program);
    say(report, "seccomp", CHECK_OK, "filters", NULL);
}

static void check_usr(struct report *report)
{
    static const char *const folders[] = {"bin", "sbin", "lib"};

    for (size_t i = 0; i < array_size(folders); i++) {
        _cleanup_free_ char *path = mem_asprintf("/%s", folders[i]);
        struct stat st;
        if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
            continue;
        say(report, "merged /usr", CHECK_FAIL, path,
            "the built-in template needs /bin, /sbin and /lib to be links into /usr: apt-get "
            "install usrmerge");
        return;
    }
    say(report, "merged /usr", CHECK_OK, "/bin, /sbin and /lib are links", NULL);
}

/* A program that sandboxes see because it is in the host's /usr. */
static void check_inside(struct report *report, const char *program, const char *package)
{
    _cleanup_free_ char *path = mem_asprintf("/usr/bin/%s", program);
    _cleanup_free_ char *remedy = mem_asprintf("apt-get install %s", package);
    bool there = access(path, X_OK) == 0;

    say(report, program, there ? CHECK_OK : CHECK_WARN,
        there ? path : "not in /usr/bin: sandboxes lack it", remedy);
}

static void check_egress(struct report *report)
{
    static const char *const programs[][2] = {{"slirp4netns", "apt-get install slirp4netns"},
                                              {"nft", "apt-get install nftables"}};

    for (size_t i = 0; i < array_size(programs); i++) {
        _cleanup_free_ char *path = router_find_program(programs[i][0]);
        say(report, programs[i][0], path != NULL ? CHECK_OK : CHECK_WARN,
            path != NULL ? path : "missing: sandboxes have no internet access", programs[i][1]);
    }
    bool tun = access("/dev/net/tun", R_OK | W_OK) == 0;
    say(report, "/dev/net/tun", tun ? CHECK_OK : CHECK_WARN,
        tun ? "present" : "missing: sandboxes have no internet access",
        "modprobe tun; in a container --device /dev/net/tun");
}

/* So that <port>-<id>.sandpit.localhost resolves on this machine without any DNS server. */
static void check_names(struct report *report)
{
    _cleanup_free_ char *text = NULL;
    struct err err = {0};
    const char *remedy = "apt-get install libnss-myhostname, and have 'myhostname' in the hosts "
                         "line of /etc/nsswitch.conf";
    const char *hosts;

    if (file_read(AT_FDCWD, "/etc/nsswitch.conf", 65536, &text, NULL, &err) < 0) {
        say(report, "*.localhost", CHECK_WARN, "no /etc/nsswitch.conf", remedy);
        return;
    }
    hosts = strstr(text, "\nhosts:");
    if (hosts != NULL)
        text[(size_t)(hosts - text) + 1 + strcspn(hosts + 1, "\n")] = '\0';
    bool there =
        hosts != NULL && (strstr(hosts, "myhostname") != NULL || strstr(hosts, "resolve") != NULL);
    say(report, "*.localhost", there ? CHECK_OK : CHECK_WARN,
        there ? "libnss-myhostname" : "names below .localhost do not resolve", remedy);
}

/* The kernel makes device nodes only outside user namespaces and with CAP_MKNOD. */
static void check_devices(struct report *report, const char *run_dir)
{
    _cleanup_free_ char *path = mem_asprintf("%s/sandpit-check.%d", run_dir, getpid());
    struct err err = {0};
    int fd;

    if (dir_make(run_dir, 0755, &err) < 0 || mknod(path, S_IFCHR | 0600, 0x103) < 0) {
        say(report, "devices", CHECK_FAIL, "cannot create device nodes",
            "run as root of the machine, not of a user namespace");
        return;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC); /* a mount with `nodev` is fine: nodes are on a tmpfs */
    fd_close(&fd);
    unlink(path);
    say(report, "devices", CHECK_OK, "null, zero, full, random, urandom, tty", NULL);
}

/* A program header that asks for a loader: a sandbox may not have it, or not that version. */
static bool is_dynamic(int fd)
{
    Elf64_Ehdr head;
    Elf64_Phdr segment;

    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        return true;
    for (int i = 0; i < head.e_phnum; i++) {
        off_t at = (off_t)head.e_phoff + (off_t)i * head.e_phentsize;
        if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
            return true;
        if (segment.p_type == PT_INTERP)
            return true;
    }
    return false;
}

static void check_envd(struct report *report, const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        say(report, "envd", CHECK_FAIL, path, "build it (make build), or name it with --envd");
        return;
    }
    if ((st.st_mode & 0555) != 0555 || (st.st_mode & 0022) != 0) {
        say(report, "envd", CHECK_FAIL, path,
            "everybody must be able to read and run it, and only root to write it: chmod 0755");
        return;
    }
    if (is_dynamic(fd))
        say(report, "envd", CHECK_WARN, "not a static program: it needs the host's libraries",
            "use the release build");
    else
        say(report, "envd", CHECK_OK, path, NULL);
}

/* LINE of /etc/subuid, "name:first:count", gives away ids from ID_BASE on. */
static bool gives_away(const char *line, uint32_t id_base)
{
    const char *first = strchr(line, ':');
    const char *count = first == NULL ? NULL : strchr(first + 1, ':');
    uint64_t from, ids;
    struct err err = {0};

    if (count == NULL ||
        str_to_u64(first + 1, (size_t)(count - first - 1), 0, UINT32_MAX, "id", &from, &err) < 0 ||
        str_to_u64(count + 1, strlen(count + 1), 0, UINT32_MAX, "count", &ids, &err) < 0)
        return false;
    return from + ids > id_base;
}

/* Ids that the host has given to somebody else. */
static void check_ids(struct report *report, uint32_t id_base)
{
    _cleanup_free_ char *text = NULL, *found = mem_asprintf("from %u, 65536 each", id_base);
    struct err err = {0};
    char *save = NULL;

    if (file_read(AT_FDCWD, "/etc/subuid", 1024 * 1024, &text, NULL, &err) == 0) {
        for (char *line = strtok_r(text, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
            if (!gives_away(line, id_base))
                continue;
            say(report, "id ranges", CHECK_WARN, line,
                "/etc/subuid gives ids to a user that sandboxes use: change --id-base or the line");
            return;
        }
    }
    say(report, "id ranges", CHECK_OK, found, NULL);
}

int local_check(const struct local_config *config, engine_check_fn fn, void *ctx)
{
    struct report report = {.fn = fn, .ctx = ctx};

    check_kernel(&report);
    check_user_namespaces(&report, config->id_base);
    check_namespaces(&report);
    check_overlay(&report, config);
    check_storage(&report, config);
    check_cgroups(&report);
    check_seccomp(&report);
    check_devices(&report, config->run_dir);
    check_usr(&report);
    check_inside(&report, "sudo", "sudo");
    check_egress(&report);
    check_names(&report);
    check_ids(&report, config->id_base);
    check_envd(&report, config->envd_path);
    return report.failed ? -1 : 0;
}
