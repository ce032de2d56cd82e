#include "server/api/host_stats.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define PROC_FILE_MAX (1024 * 1024)
#define KIB 1024

/* The whole of a small file, "" when it cannot be read. To free(). */
static char *read_text(const char *path)
{
    struct err ignored = {0};
    char *text = NULL;
    size_t len;

    if (file_read(AT_FDCWD, path, PROC_FILE_MAX, &text, &len, &ignored) < 0)
        return mem_strdup("");
    return text;
}

/* The number at *AT, behind spaces; 0 where there is none. The kernel wrote it: it fits. */
static uint64_t next_number(const char **at)
{
    uint64_t value = 0;

    *at += strspn(*at, " \t");
    for (; **at >= '0' && **at <= '9'; (*at)++)
        value = 10 * value + (uint64_t)(**at - '0');
    return value;
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal … (proc(5)). */
void host_cpu_read(struct host_cpu *out)
{
    _cleanup_free_ char *text = read_text("/proc/stat");
    uint64_t ticks[8] = {0};
    const char *at = text;

    *out = (struct host_cpu){0};
    if (!str_starts(text, "cpu "))
        return;
    at += strlen("cpu ");
    for (size_t i = 0; i < array_size(ticks); i++) {
        ticks[i] = next_number(&at);
        out->total += ticks[i];
    }
    out->busy = out->total - ticks[3] - ticks[4];
}

int64_t host_cpu_percent(const struct host_cpu *before, const struct host_cpu *now)
{
    uint64_t total = now->total - before->total, busy = now->busy - before->busy;

    if (now->total <= before->total || now->busy < before->busy)
        return 0; /* iowait may go back (proc(5)) */
    return (int64_t)(busy >= total ? 100 : busy * 100 / total);
}

int64_t host_cpu_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    return count > 0 ? count : 1;
}

uint64_t meminfo_number(const char *text, const char *key)
{
    size_t len = strlen(key);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0 && line[len] == ':') {
            line += len + 1;
            return next_number(&line);
        }
        if (*line == '\0')
            break;
    }
    return 0;
}

void host_put_memory(json_t *out)
{
    _cleanup_free_ char *text = read_text("/proc/meminfo");
    uint64_t total = meminfo_number(text, "MemTotal");
    uint64_t available = meminfo_number(text, "MemAvailable");
    uint64_t huge = meminfo_number(text, "HugePages_Total");
    uint64_t huge_free = meminfo_number(text, "HugePages_Free");

    json_put_i64(out, "memoryTotalBytes", (int64_t)(total * KIB));
    json_put_i64(out, "memoryUsedBytes",
                 (int64_t)((available < total ? total - available : 0) * KIB));
    json_put_i64(out, "hugePagesTotal", (int64_t)huge);
    json_put_i64(out, "hugePagesUsed", (int64_t)(huge_free < huge ? huge - huge_free : 0));
    json_put_i64(out, "hugePagesReserved", (int64_t)meminfo_number(text, "HugePages_Rsvd"));
    json_put_i64(out, "hugePageSizeBytes",
                 (int64_t)(meminfo_number(text, "Hugepagesize") * KIB));
}

/* One field of at most SIZE bytes: up to a space; "\040" and such stay as they are (proc(5)). */
static const char *copy_field(const char *at, char *out, size_t size)
{
    size_t len = strcspn(at, " \n");

    snprintf(out, size, "%.*s", (int)(len < size ? len : size - 1), at);
    at += len;
    return *at == ' ' ? at + 1 : at;
}

/* "id parent major:minor root point options … - type source options" */
static bool read_mount(const char *line, unsigned major, unsigned minor, bool *is_root,
                       struct host_mount *out)
{
    char root[2], skipped[2], wanted[32], number[32];
    const char *rest = line;

    snprintf(wanted, sizeof(wanted), "%u:%u", major, minor);
    rest = copy_field(rest, skipped, sizeof(skipped));
    rest = copy_field(rest, skipped, sizeof(skipped));
    rest = copy_field(rest, number, sizeof(number));
    if (!str_eq(number, wanted))
        return false;
    *is_root = rest[0] == '/' && rest[1] == ' ';
    rest = copy_field(rest, root, sizeof(root));
    rest = copy_field(rest, out->point, sizeof(out->point));
    rest = strstr(rest, " - ");
    if (rest == NULL)
        return false;
    rest = copy_field(rest + strlen(" - "), out->type, sizeof(out->type));
    copy_field(rest, out->device, sizeof(out->device));
    return true;
}

bool mountinfo_find(const char *text, unsigned major, unsigned minor, struct host_mount *out)
{
    bool found = false;

    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        _cleanup_free_ char *line = mem_strndup(text, len);
        struct host_mount mount;
        bool is_root = false;

        if (read_mount(line, major, minor, &is_root, &mount) && (is_root || !found)) {
            *out = mount;
            found = true;
            if (is_root)
                break;
        }
        text += len + (text[len] == '\n');
    }
    return found;
}

void host_put_disks(json_t *out, const char *path)
{
    _cleanup_free_ char *text = read_text("/proc/self/mountinfo");
    struct host_mount mount = {{0}, {0}, {0}};
    json_t *disks = json_array(), *disk;
    struct statvfs fs;
    struct stat st;

    json_put(out, "disks", disks);
    if (stat(path, &st) < 0 || statvfs(path, &fs) < 0)
        return;
    mountinfo_find(text, major(st.st_dev), minor(st.st_dev), &mount);
    disk = json_object();
    json_put_str(disk, "mountPoint", mount.point);
    json_put_str(disk, "device", mount.device);
    json_put_str(disk, "filesystemType", mount.type);
    json_put_i64(disk, "usedBytes", (int64_t)((fs.f_blocks - fs.f_bfree) * fs.f_frsize));
    json_put_i64(disk, "totalBytes", (int64_t)(fs.f_blocks * fs.f_frsize));
    json_array_append_new(disks, disk);
}

/* "key<tabs>: value" of the first core in /proc/cpuinfo, to OUT. "" where this CPU has none. */
static void cpuinfo_text(const char *text, const char *key, char *out, size_t size)
{
    size_t len = strlen(key);

    out[0] = '\0';
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        const char *at;

        line += *line == '\n';
        at = line + len;
        if (strncmp(line, key, len) != 0)
            continue;
        at += strspn(at, " \t");
        if (*at != ':')
            continue;
        at += 1 + strspn(at + 1, " ");
        snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
        return;
    }
}

json_t *host_machine(void)
{
    static const struct {
        const char *field, *key;
    } rows[] = {
        {"cpuFamily", "cpu family"}, {"cpuModel", "model"}, {"cpuModelName", "model name"}};
    _cleanup_free_ char *text = read_text("/proc/cpuinfo");
    json_t *json = json_object();
    struct utsname name;
    char value[MOUNT_FIELD_SIZE];

    for (size_t i = 0; i < array_size(rows); i++) {
        cpuinfo_text(text, rows[i].key, value, sizeof(value));
        json_put_str(json, rows[i].field, value);
    }
    json_put_str(json, "cpuArchitecture", uname(&name) == 0 ? name.machine : "");
    return json;
}
