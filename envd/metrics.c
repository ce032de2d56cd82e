/* GET /metrics: CPU, memory and disk of this sandbox. Source: envd API section 7.1. */
#include <sys/statvfs.h>

#include "envd/groups.h"
#include "envd/route.h"
#include "envd/usage.h"
#include "server/base/time.h"

#define MIB (1 << 20)

/* What was read at the previous request. Loop thread. */
static struct usage last;
static int64_t last_mono_us;

/* Percent of the CPUs in use since the previous request; at the first, since the start. */
static double cpu_percent(const struct usage *now)
{
    int64_t mono_us = time_mono_us();
    int64_t wall_us = last_mono_us > 0 ? mono_us - last_mono_us : now->cpu_age_us;
    int64_t used_us = now->cpu_us - last.cpu_us;
    double percent = 0;

    last = *now;
    last_mono_us = mono_us;
    if (wall_us > 0 && used_us > 0 && now->cpu_count > 0)
        percent = 100.0 * (double)used_us / ((double)wall_us * (double)now->cpu_count);
    return (double)(int64_t)(percent * 100 + 0.5) / 100;
}

static void put_disk(json_t *json)
{
    struct statvfs fs;
    uint64_t total = 0, used = 0;

    /* Not the file system: it may be one of many sandboxes. */
    if (!groups_disk(&used, &total) && statvfs("/", &fs) == 0) {
        total = (uint64_t)fs.f_blocks * fs.f_frsize;
        used = total - (uint64_t)fs.f_bavail * fs.f_frsize;
    }
    json_put_i64(json, "disk_used", (int64_t)used);
    json_put_i64(json, "disk_total", (int64_t)total);
}

int handle_metrics(struct exchange *ex, struct err *err)
{
    const struct settings *settings = http_settings(ex);
    json_t *json = json_object();
    struct usage usage;

    (void)err;
    usage_read(settings->cpu_count, settings->memory_total_bytes, &usage);
    json_put_i64(json, "ts", time_unix_ms() / 1000);
    json_put_i64(json, "cpu_count", usage.cpu_count);
    json_put(json, "cpu_used_pct", json_real(cpu_percent(&usage)));
    json_put_i64(json, "mem_total", usage.mem_total_bytes);
    json_put_i64(json, "mem_used", usage.mem_used_bytes);
    json_put_i64(json, "mem_cache", usage.mem_cache_bytes);
    json_put_i64(json, "mem_total_mib", usage.mem_total_bytes / MIB);
    json_put_i64(json, "mem_used_mib", usage.mem_used_bytes / MIB);
    put_disk(json);
    http_reply_json(ex, 200, json);
    return 0;
}
