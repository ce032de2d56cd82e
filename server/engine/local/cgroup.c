#include "server/engine/local/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define MOUNTINFO_MAX_BYTES (4 * 1024 * 1024)
#define REMOVE_WAIT_MS 5000

static const char *const controller_names[CGROUP_HIERARCHIES] = {"memory", "pids", "cpu", "freezer",
                                                                 "cpuacct"};

/* WORD is one of the words of LIST, which SEPARATORS part. */
static bool list_has(const char *list, const char *separators, const char *word)
{
    size_t len = strlen(word);

    while (*list != '\0') {
        size_t n = strcspn(list, separators);
        if (n == len && memcmp(list, word, len) == 0)
            return true;
        list += n;
        list += strspn(list, separators);
    }
    return false;
}

/* Undo mountinfo's \040 escapes in place. */
static void unescape(char *s)
{
    char *out = s;

    while (*s != '\0') {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
            s[3] >= '0' && s[3] <= '7') {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            *out++ = *s++;
        }
    }
    *out = '\0';
}

/* One line of mountinfo: "id parent dev root point options … - type source super". */
static void find_in_line(char *line, struct cgroups *v1, char **v2)
{
    char *fields[6], *tail = strstr(line, " - "), *save = NULL, *type, *super;
    size_t count = 0;

    if (tail == NULL)
        return;
    *tail = '\0';
    for (char *f = strtok_r(line, " ", &save); f != NULL && count < 6;
         f = strtok_r(NULL, " ", &save))
        fields[count++] = f;
    type = strtok_r(tail + 3, " ", &save);
    if (count < 5 || type == NULL || strtok_r(NULL, " ", &save) == NULL)
        return;
    super = strtok_r(NULL, " ", &save);
    unescape(fields[4]);
    if (str_eq(type, "cgroup2") && *v2 == NULL)
        *v2 = mem_strdup(fields[4]);
    if (!str_eq(type, "cgroup") || super == NULL)
        return;
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (v1->mounts[i] == NULL && list_has(super, ",", controller_names[i]))
            v1->mounts[i] = mem_strdup(fields[4]);
    }
}

/* A cgroup2 MOUNT with the three controllers we set. Freezing and killing need none. */
static bool v2_complete(const char *mount, cgroup_read_fn read_fn)
{
    _cleanup_free_ char *controllers = read_fn(mount);

    for (size_t i = CGROUP_MEMORY; i <= CGROUP_CPU; i++) {
        if (controllers == NULL || !list_has(controllers, " \n", controller_names[i]))
            return false;
    }
    return true;
}

static int refuse_missing(const char *controller, const char *v2, struct err *err)
{
    if (v2 != NULL)
        return err_set(err, ERR_UNSUPPORTED,
                       "no %s controller for cgroups: neither a cgroup v1 mount of it nor '%s' in "
                       "%s/cgroup.controllers; boot with systemd.unified_cgroup_hierarchy=1 "
                       "(version 2), or mount -t cgroup -o %s cgroup /sys/fs/cgroup/%s",
                       controller, controller, v2, controller, controller);
    return err_set(err, ERR_UNSUPPORTED,
                   "no %s controller for cgroups: mount -t cgroup2 cgroup2 /sys/fs/cgroup "
                   "(version 2), or mount -t cgroup -o %s cgroup /sys/fs/cgroup/%s (version 1)",
                   controller, controller, controller);
}

int cgroups_find(const char *text, cgroup_read_fn read_fn, struct cgroups *out, struct err *err)
{
    _cleanup_free_ char *copy = mem_strdup(text), *v2 = NULL;
    struct cgroups found = {.ops = &cgroup_v1_ops};
    char *save = NULL;

    for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        find_in_line(line, &found, &v2);
    if (v2 != NULL && v2_complete(v2, read_fn)) {
        found.ops = &cgroup_v2_ops;
        for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
            free(found.mounts[i]);
            found.mounts[i] = mem_strdup(v2);
        }
    }
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (found.mounts[i] != NULL || i == CGROUP_CPUACCT)
            continue;
        cgroups_clear(&found);
        return refuse_missing(controller_names[i], v2, err);
    }
    *out = found;
    return 0;
}

void cgroups_clear(struct cgroups *cgroups)
{
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        free(cgroups->mounts[i]);
        cgroups->mounts[i] = NULL;
    }
    free(cgroups->base);
    cgroups->base = NULL;
}

char *cgroups_mountinfo(void)
{
    struct err err = {0};
    char *text = NULL;

    if (file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX_BYTES, &text, NULL, &err) < 0)
        return NULL;
    return text;
}

char *cgroups_controllers(const char *mount)
{
    _cleanup_free_ char *path = mem_asprintf("%s/cgroup.controllers", mount);
    struct err err = {0};
    char *text = NULL;

    if (file_read(AT_FDCWD, path, 4096, &text, NULL, &err) < 0)
        return NULL;
    return text;
}

/* No folder of its own: version 2, mounted together with an earlier one, or not there. */
static bool is_repeat(const struct cgroups *cgroups, size_t i)
{
    if (cgroups->mounts[i] == NULL)
        return true;
    for (size_t j = 0; j < i; j++) {
        if (str_eq(cgroups->mounts[i], cgroups->mounts[j]))
            return true;
    }
    return false;
}

static void cleanup_cgroups(struct cgroups **cgroups)
{
    cgroups_free(*cgroups);
}

int cgroups_open(const char *instance, struct cgroups **out, struct err *err)
{
    _cleanup_free_ char *text = cgroups_mountinfo();
    _cleanup_(cleanup_cgroups) struct cgroups *cgroups = mem_zalloc(sizeof(*cgroups));

    if (text == NULL)
        return err_set(err, ERR_UNSUPPORTED,
                       "cannot read /proc/self/mountinfo: mount -t proc "
                       "proc /proc");
    if (cgroups_find(text, cgroups_controllers, cgroups, err) < 0)
        return -1;
    cgroups->base = mem_asprintf("sandpit-%s", instance);
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (is_repeat(cgroups, i))
            continue;
        _cleanup_free_ char *path = mem_asprintf("%s/%s", cgroups->mounts[i], cgroups->base);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create control group %s", path);
    }
    if (cgroups->ops->prepare(cgroups, err) < 0)
        return -1;
    *out = steal_ptr(&cgroups);
    return 0;
}

void cgroups_free(struct cgroups *cgroups)
{
    if (cgroups == NULL)
        return;
    cgroups_clear(cgroups);
    free(cgroups);
}

void cgroups_remove_base(const struct cgroups *cgroups)
{
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (is_repeat(cgroups, i))
            continue;
        _cleanup_free_ char *path = mem_asprintf("%s/%s", cgroups->mounts[i], cgroups->base);
        rmdir(path); /* stays while a sandbox does */
    }
}

char *cgroup_path(const struct cgroups *cgroups, enum cgroup_controller controller,
                  const char *name, const char *file)
{
    return mem_asprintf("%s/%s/%s%s%s", cgroups->mounts[controller], cgroups->base, name,
                        file[0] != '\0' ? "/" : "", file);
}

int cgroup_create(const struct cgroups *cgroups, const char *name, struct cgroup *out,
                  struct err *err)
{
    _cleanup_cgroup_ struct cgroup cgroup = CGROUP_NONE;

    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (is_repeat(cgroups, i))
            continue;
        _cleanup_free_ char *path = cgroup_path(cgroups, i, name, "");
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create control group %s", path);
        cgroup.fds[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (cgroup.fds[i] < 0)
            return err_sys(err, errno, "cannot open control group %s", path);
    }
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++)
        out->fds[i] = steal_fd(&cgroup.fds[i]);
    return 0;
}

int cgroup_attach(const struct cgroup *cgroup, pid_t pid, struct err *err)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", pid);
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (cgroup->fds[i] >= 0 && file_poke(cgroup->fds[i], "cgroup.procs", text, err) < 0)
            return err_wrap(err, "%s control group", controller_names[i]);
    }
    return 0;
}

int cgroup_attach_guest(const struct cgroup *cgroup, const struct cgroup_grants *grants, pid_t pid,
                        struct err *err)
{
    int counted = cgroup->fds[CGROUP_CPUACCT];
    char text[16];

    snprintf(text, sizeof(text), "%d", pid);
    if (counted >= 0 && file_poke(counted, "cgroup.procs", text, err) < 0)
        return err_wrap(err, "%s control group", controller_names[CGROUP_CPUACCT]);
    for (size_t i = 0; i < grants->count; i++) {
        if (str_eq(grants->items[i].kind, "user") &&
            write(grants->items[i].fd, text, strlen(text)) < 0)
            return err_sys(err, errno, "cannot move a process to its control group");
    }
    return 0;
}

int cgroup_open_guest(const struct cgroup *cgroup, struct err *err)
{
    int fd = openat(cgroup->fds[0], CGROUP_GUEST_USER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 ? fd : err_sys(err, errno, "cannot open control group %s", CGROUP_GUEST_USER);
}

int cgroup_grant(struct cgroup_grants *grants, const char *kind, int folder, const char *path,
                 int flags, struct err *err)
{
    int fd;

    if (grants->count == CGROUP_GRANTS_MAX)
        return err_set(err, ERR_INTERNAL, "too many files of control groups for envd");
    fd = openat(folder, path, flags | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot open %s of a control group", path);
    grants->items[grants->count].kind = kind;
    grants->items[grants->count++].fd = fd;
    return 0;
}

void cgroup_grants_add(struct cgroup_grants *grants, const char *kind, int fd)
{
    if (grants->count == CGROUP_GRANTS_MAX) {
        fd_close(&fd);
        return;
    }
    grants->items[grants->count].kind = kind;
    grants->items[grants->count++].fd = fd;
}

void cgroup_grants_drop(struct cgroup_grants *grants, const char *prefix)
{
    size_t kept = 0;

    for (size_t i = 0; i < grants->count; i++) {
        if (str_starts(grants->items[i].kind, prefix))
            fd_close(&grants->items[i].fd);
        else
            grants->items[kept++] = grants->items[i];
    }
    grants->count = kept;
}

void cgroup_grants_clear(struct cgroup_grants *grants)
{
    while (grants->count > 0)
        fd_close(&grants->items[--grants->count].fd);
}

uint64_t cgroup_guest_bytes(const struct cgroup_limits *limits)
{
    uint64_t bytes = (uint64_t)limits->memory_mb << 20, reserve = bytes / 8;

    return bytes - (reserve < CGROUP_RESERVE_MAX_BYTES ? reserve : CGROUP_RESERVE_MAX_BYTES);
}

uint32_t cgroup_guest_pids(const struct cgroup_limits *limits)
{
    uint32_t reserve = limits->pids_max / 8;

    if (reserve > CGROUP_RESERVE_MAX_PIDS)
        reserve = CGROUP_RESERVE_MAX_PIDS;
    return limits->pids_max - reserve;
}

void cgroup_close(struct cgroup *cgroup)
{
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++)
        fd_close(&cgroup->fds[i]);
}

/* rmdir PATH; EBUSY for a moment after the last process is gone. */
static int remove_one(const char *path, int64_t deadline_mono_ms, struct err *err)
{
    static const struct timespec pause = {.tv_nsec = 1000000};

    while (rmdir(path) < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno != EBUSY)
            return err_sys(err, errno, "cannot remove control group %s", path);
        if (time_mono_ms() > deadline_mono_ms)
            return err_set(err, ERR_BUSY, "control group %s still has processes", path);
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* NAME and the groups within it, the inner ones first. */
static int remove_in(const struct cgroups *cgroups, size_t hierarchy, const char *name,
                     int64_t deadline_mono_ms, struct err *err)
{
    static const char *const inner[] = {CGROUP_GUEST_USER, CGROUP_GUEST_PTYS, CGROUP_GUEST,
                                        CGROUP_ENVD, ""};

    for (size_t i = 0; i < array_size(inner); i++) {
        _cleanup_free_ char *path = cgroup_path(cgroups, hierarchy, name, inner[i]);
        if (remove_one(path, deadline_mono_ms, err) < 0)
            return -1;
    }
    return 0;
}

int cgroup_remove(const struct cgroups *cgroups, const char *name, struct err *err)
{
    int64_t deadline_mono_ms = time_mono_ms() + REMOVE_WAIT_MS;

    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (!is_repeat(cgroups, i) && remove_in(cgroups, i, name, deadline_mono_ms, err) < 0)
            return -1;
    }
    return 0;
}

int cgroups_open_counted(const struct cgroups *cgroups, int out[2], struct err *err)
{
    static const enum cgroup_controller wanted[2] = {CGROUP_MEMORY, CGROUP_CPUACCT};
    int fds[2] = {-1, -1};

    for (int i = 0; i < 2; i++) {
        const char *mount = cgroups->mounts[wanted[i]];
        if (mount == NULL) {
            fd_close(&fds[0]);
            return err_set(err, ERR_UNSUPPORTED,
                           "CPU time cannot be measured: mount -t cgroup -o cpuacct cgroup "
                           "/sys/fs/cgroup/cpuacct");
        }
        _cleanup_free_ char *path = mem_asprintf("%s/%s", mount, cgroups->base);
        fds[i] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fds[i] < 0) {
            err_sys(err, errno, "cannot open control group %s", path);
            fd_close(&fds[0]);
            return -1;
        }
    }
    out[0] = fds[0];
    out[1] = fds[1];
    return 2;
}

void cgroups_each(const struct cgroups *cgroups, void (*fn)(void *ctx, const char *name), void *ctx)
{
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++) {
        if (is_repeat(cgroups, i))
            continue;
        _cleanup_free_ char *path = mem_asprintf("%s/%s", cgroups->mounts[i], cgroups->base);
        struct dirent *entry;
        DIR *dir = opendir(path);

        if (dir == NULL)
            continue;
        while ((entry = readdir(dir)) != NULL) {
            if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
                strlen(entry->d_name) < CGROUP_NAME_SIZE)
                fn(ctx, entry->d_name);
        }
        closedir(dir);
    }
}
