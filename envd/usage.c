#include "envd/usage.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "envd/groups.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define FILE_MAX_BYTES (256 << 10)
#define US_PER_S 1000000

/* The decimal number at *AT, after blanks and ':'; *AT is after it then. */
static bool take_number(const char **at, int64_t *out)
{
    const char *digit = *at + strspn(*at, ": \t");
    bool negative = *digit == '-';
    int64_t value = 0;

    if (negative)
        digit++;
    if (!isdigit((unsigned char)*digit))
        return false;
    for (; isdigit((unsigned char)*digit); digit++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *digit - '0', &value))
            return false;
    *at = digit;
    *out = negative ? -value : value;
    return true;
}

/* COUNT numbers in a row. */
static bool take_numbers(const char *at, int64_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!take_number(&at, &out[i]))
            return false;
    return true;
}

bool usage_field(const char *text, const char *key, int64_t *out)
{
    size_t len = strlen(key);

    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, len) == 0 && (line[len] == ' ' || line[len] == ':')) {
            const char *value = line + len;
            return take_number(&value, out);
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

/* The file PATH below DIRFD; NULL when there is none. */
static char *read_text(int dirfd, const char *path)
{
    struct err err;
    char *text = NULL;

    return file_read(dirfd, path, FILE_MAX_BYTES, &text, NULL, &err) < 0 ? NULL : text;
}

/* A file that holds one number; false for "max" and for a missing file. */
static bool read_number(const char *path, int64_t *out)
{
    _cleanup_free_ char *text = read_text(AT_FDCWD, path);
    const char *at = text;

    return text != NULL && take_number(&at, out);
}

static int64_t field_of(const char *path, const char *key)
{
    _cleanup_free_ char *text = read_text(AT_FDCWD, path);
    int64_t value = 0;

    if (text != NULL)
        usage_field(text, key, &value);
    return value;
}

static int64_t uptime_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

static int64_t ticks_us(int64_t ticks)
{
    return ticks * (US_PER_S / sysconf(_SC_CLK_TCK));
}

/* From /proc/<pid>/stat. */
struct process_times {
    int64_t cpu_ticks; /* own and of children waited for */
    int64_t start_ticks;
};

static bool process_times(int proc, const char *pid, struct process_times *out)
{
    _cleanup_free_ char *path = mem_asprintf("%s/stat", pid);
    _cleanup_free_ char *text = read_text(proc, path);
    /* after the name, which may hold anything: the state, then field 4 and so on */
    const char *rest = text != NULL ? strrchr(text, ')') : NULL;
    int64_t field[22 - 3];

    if (rest == NULL || strlen(rest) < 4 || !take_numbers(rest + 3, field, array_size(field)))
        return false;
    out->cpu_ticks = field[14 - 4] + field[15 - 4] + field[16 - 4] + field[17 - 4];
    out->start_ticks = field[22 - 4];
    return true;
}

/* How long this process has run: the age of a sandbox's counters. */
static int64_t own_age_us(void)
{
    _cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct process_times times;

    if (proc < 0 || !process_times(proc, "self", &times))
        return uptime_us();
    return uptime_us() - ticks_us(times.start_ticks);
}

/* Resident pages that are the process's own: shared file pages are left out. */
static int64_t own_pages(int proc, const char *pid)
{
    _cleanup_free_ char *path = mem_asprintf("%s/statm", pid);
    _cleanup_free_ char *text = read_text(proc, path);
    int64_t field[3]; /* all, resident, shared */

    if (text == NULL || !take_numbers(text, field, array_size(field)))
        return 0;
    return field[1] - field[2];
}

static bool add_processes(struct usage *out)
{
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    struct process_times times;
    int64_t ticks = 0, pages = 0;

    if (dir == NULL)
        return false;
    while ((entry = readdir(dir)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        if (process_times(dirfd(dir), entry->d_name, &times))
            ticks += times.cpu_ticks;
        pages += own_pages(dirfd(dir), entry->d_name);
    }
    closedir(dir);
    out->cpu_us = ticks_us(ticks);
    out->cpu_age_us = own_age_us();
    out->mem_used_bytes = pages * sysconf(_SC_PAGESIZE);
    out->mem_cache_bytes = 0;
    return true;
}

static void read_machine(struct usage *out)
{
    _cleanup_free_ char *meminfo = read_text(AT_FDCWD, "/proc/meminfo");
    _cleanup_free_ char *stat = read_text(AT_FDCWD, "/proc/stat");
    int64_t total = 0, free_kib = 0, cached = 0, buffers = 0, reclaimable = 0;
    int64_t cpu[8]; /* user nice system idle iowait irq softirq steal */

    if (meminfo != NULL) {
        usage_field(meminfo, "MemTotal", &total);
        usage_field(meminfo, "MemFree", &free_kib);
        usage_field(meminfo, "Cached", &cached);
        usage_field(meminfo, "Buffers", &buffers);
        usage_field(meminfo, "SReclaimable", &reclaimable);
    }
    out->mem_total_bytes = total * 1024;
    out->mem_cache_bytes = (cached + buffers + reclaimable) * 1024;
    out->mem_used_bytes = (total - free_kib) * 1024 - out->mem_cache_bytes;
    if (stat != NULL && strncmp(stat, "cpu ", 4) == 0 &&
        take_numbers(stat + 4, cpu, array_size(cpu)))
        out->cpu_us = ticks_us(cpu[0] + cpu[1] + cpu[2] + cpu[5] + cpu[6] + cpu[7]);
    out->cpu_age_us = uptime_us();
}

/* A limit below the machine's memory makes the group the sandbox's own. */
static bool limits_us(int64_t limit, int64_t machine)
{
    return limit > 0 && (machine <= 0 || limit < machine);
}

static bool read_group_v2(int64_t machine, struct usage *out)
{
    int64_t limit, used;

    if (!read_number("/sys/fs/cgroup/memory.max", &limit) || !limits_us(limit, machine) ||
        !read_number("/sys/fs/cgroup/memory.current", &used))
        return false;
    out->mem_total_bytes = limit;
    out->mem_cache_bytes = field_of("/sys/fs/cgroup/memory.stat", "file");
    out->mem_used_bytes = used - out->mem_cache_bytes;
    out->cpu_us = field_of("/sys/fs/cgroup/cpu.stat", "usage_usec");
    out->cpu_age_us = own_age_us();
    return true;
}

static bool read_group_v1(int64_t machine, struct usage *out)
{
    int64_t limit, used, cpu_ns;

    if (!read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit) ||
        !limits_us(limit, machine) ||
        !read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes", &used) ||
        (!read_number("/sys/fs/cgroup/cpuacct/cpuacct.usage", &cpu_ns) &&
         !read_number("/sys/fs/cgroup/cpu/cpuacct.usage", &cpu_ns)))
        return false;
    out->mem_total_bytes = limit;
    out->mem_cache_bytes = field_of("/sys/fs/cgroup/memory/memory.stat", "total_cache");
    out->mem_used_bytes = used - out->mem_cache_bytes;
    out->cpu_us = cpu_ns / 1000;
    out->cpu_age_us = own_age_us();
    return true;
}

/* The sandbox's own group, by the files that envd was given. CPU time is not always among them. */
static bool read_granted(struct usage *out)
{
    _cleanup_free_ char *memory = groups_read(GROUPS_MEMORY);
    _cleanup_free_ char *stat = groups_read(GROUPS_MEMORY_STAT);
    _cleanup_free_ char *cpu = groups_read(GROUPS_CPU);
    const char *at = memory, *cpu_at = cpu;
    int64_t used, cache = 0;

    if (memory == NULL || stat == NULL || !take_number(&at, &used))
        return false;
    if (cpu == NULL)
        add_processes(out);
    else if (!usage_field(cpu, "usage_usec", &out->cpu_us) && take_number(&cpu_at, &out->cpu_us))
        out->cpu_us /= 1000; /* version 1 has nanoseconds */
    if (!usage_field(stat, "total_cache", &cache))
        usage_field(stat, "file", &cache);
    out->cpu_age_us = own_age_us();
    out->mem_cache_bytes = cache;
    out->mem_used_bytes = used - cache;
    return true;
}

void usage_read(int64_t cpu_count, int64_t memory_bytes, struct usage *out)
{
    struct usage usage = {0};
    int64_t machine;

    read_machine(&usage);
    machine = usage.mem_total_bytes;
    if (!read_granted(&usage) && !read_group_v2(machine, &usage) &&
        !read_group_v1(machine, &usage) &&
        (cpu_count > 0 || memory_bytes > 0))
        add_processes(&usage);
    usage.cpu_count = cpu_count > 0 ? cpu_count : sysconf(_SC_NPROCESSORS_ONLN);
    if (memory_bytes > 0 && (machine == 0 || memory_bytes < machine))
        usage.mem_total_bytes = memory_bytes;
    if (usage.mem_used_bytes < 0)
        usage.mem_used_bytes = 0;
    *out = usage;
}
