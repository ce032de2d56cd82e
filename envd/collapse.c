/*
 * POST /collapse: huge pages for the memory of this sandbox's processes, by process_madvise with
 * MADV_COLLAPSE (Linux 6.1). Source: envd-api section 7.4; process_madvise(2), madvise(2).
 *
 * Worker thread. Only memory that is mostly there already: a huge page in the place of holes would
 * make a sandbox larger.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "envd/route.h"
#include "envd/usage.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE_BYTES ((uint64_t)2 << 20)
#define COLLAPSE_MAX_MS 10000 /* what is left then is skipped */
#define SMAPS_LINE_MAX 4608   /* a path of PATH_MAX and what is before it */
#define STATUS_MAX_BYTES 4096
#define ANCESTORS_MAX 1000

struct collapse {
    int64_t began_mono_ms;
    int64_t regions;
    int64_t chunks;
    int64_t collapsed;
    int64_t already_huge;
    int64_t skipped;
    int refused; /* errno of a kernel that does not do this at all; 0 */
};

/* One mapping of /proc/PID/smaps, as far as it has been read. */
struct region {
    uint64_t start, end;
    int64_t resident_kib, huge_kib;
    bool wanted; /* private, writable, no file */
};

static bool out_of_time(const struct collapse *all)
{
    return time_mono_ms() - all->began_mono_ms > COLLAPSE_MAX_MS;
}

/* Whether the chunk AT is one huge page now. */
static bool collapse_chunk(int pidfd, uint64_t at, struct collapse *all)
{
    struct iovec range = {.iov_base = (void *)(uintptr_t)at, .iov_len = HUGE_BYTES};

    if (all->refused != 0 || out_of_time(all))
        return false;
    if (syscall(SYS_process_madvise, pidfd, &range, 1UL, MADV_COLLAPSE, 0U) >= 0)
        return true;
    if (errno == ENOSYS || errno == EPERM)
        all->refused = errno;
    return false;
}

static void collapse_region(int pidfd, const struct region *region, struct collapse *all)
{
    uint64_t from = (region->start + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
    uint64_t to = region->end & ~(HUGE_BYTES - 1);
    int64_t chunks = from < to ? (int64_t)((to - from) / HUGE_BYTES) : 0;
    int64_t before = region->huge_kib / (int64_t)(HUGE_BYTES >> 10), huge = 0;
    bool sparse = (uint64_t)region->resident_kib < (region->end - region->start) / 1024 / 2;

    if (!region->wanted || chunks == 0)
        return;
    before = before < chunks ? before : chunks;
    if (before < chunks && !sparse)
        for (uint64_t at = from; at < to; at += HUGE_BYTES)
            huge += collapse_chunk(pidfd, at, all);
    huge = huge > before ? huge : before; /* what was huge succeeds again */
    all->regions++;
    all->chunks += chunks;
    all->already_huge += before;
    all->collapsed += huge - before;
    all->skipped += chunks - huge;
}

/* "7f00-7fff rw-p 00000000 00:00 0   [heap]": where a mapping begins. False: another line. */
static bool region_begins(const char *line, struct region *out)
{
    char *end;
    uint64_t from, to;

    errno = 0;
    from = strtoumax(line, &end, 16);
    if (end == line || *end != '-')
        return false;
    line = end + 1;
    to = strtoumax(line, &end, 16);
    if (errno != 0 || end == line || *end != ' ' || to <= from)
        return false;
    *out = (struct region){.start = from, .end = to};
    out->wanted = strncmp(end + 1, "rw-p 00000000 00:00 0", 21) == 0;
    return true;
}

static void collapse_process(pid_t pid, struct collapse *all)
{
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct region region = {0}, next;
    char path[40], line[SMAPS_LINE_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
    if (pidfd < 0 || (file = fopen(path, "re")) == NULL)
        return; /* it has ended */
    while (fgets(line, sizeof(line), file) != NULL && all->refused == 0) {
        if (region_begins(line, &next)) {
            collapse_region(pidfd, &region, all);
            region = next;
        } else if (!usage_field(line, "Rss", &region.resident_kib)) {
            usage_field(line, "AnonHugePages", &region.huge_kib);
        }
    }
    collapse_region(pidfd, &region, all);
    fclose(file);
}

/* The parent of PID, -1 when it has ended. */
static pid_t parent_of(pid_t pid)
{
    char path[40], text[STATUS_MAX_BYTES];
    int64_t parent = -1;
    ssize_t len;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (len = read(fd, text, sizeof(text) - 1)) <= 0)
        return -1;
    text[len] = '\0';
    return usage_field(text, "PPid", &parent) ? (pid_t)parent : -1;
}

/* It comes from envd, however far, and is not a helper of envd's, which has envd's memory. */
static bool is_users(pid_t pid)
{
    struct stat own, exe;
    char path[40];
    pid_t at = pid;

    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    if (stat("/proc/self/exe", &own) < 0 || stat(path, &exe) < 0 ||
        (own.st_dev == exe.st_dev && own.st_ino == exe.st_ino))
        return false;
    for (int i = 0; i < ANCESTORS_MAX && at > 1; i++) {
        at = parent_of(at);
        if (at == getpid())
            return true;
    }
    return false;
}

static int collapse_all(struct collapse *all, struct err *err)
{
    DIR *dir = opendir("/proc");
    struct dirent *row;
    struct err ignored;
    uint64_t pid;

    if (dir == NULL)
        return err_sys(err, errno, "cannot read /proc");
    while ((row = readdir(dir)) != NULL && all->refused == 0 && !out_of_time(all)) {
        if (str_to_u64(row->d_name, strlen(row->d_name), 1, INT32_MAX, "pid", &pid, &ignored) ==
                0 &&
            is_users((pid_t)pid))
            collapse_process((pid_t)pid, all);
    }
    closedir(dir);
    return 0;
}

int handle_collapse(struct exchange *ex, struct err *err)
{
    struct collapse all = {.began_mono_ms = time_mono_ms()};
    json_t *json;

    if (collapse_all(&all, err) < 0)
        return -1;
    if (all.refused != 0)
        return err_set(err, ERR_UNSUPPORTED, "cannot collapse memory: %s",
                       all.refused == EPERM ? "envd lacks CAP_SYS_NICE in this sandbox"
                                            : "this kernel has no process_madvise");
    json = json_object();
    json_put_i64(json, "regions", all.regions);
    json_put_i64(json, "chunks", all.chunks);
    json_put_i64(json, "collapsed", all.collapsed);
    json_put_i64(json, "alreadyHuge", all.already_huge);
    json_put_i64(json, "skipped", all.skipped);
    json_put_i64(json, "elapsedMs", time_mono_ms() - all.began_mono_ms);
    http_set_header(ex, "Cache-Control", "no-store");
    return http_send_json(ex, 200, json, err);
}
