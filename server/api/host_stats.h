/*
 * server/api/host_stats.h - what GET /nodes tells of the machine, measured from /proc.
 *
 * Blocks (files of /proc, statvfs): workers and start-up. What cannot be read is 0 or "".
 */
#ifndef SANDPIT_API_HOST_STATS_H
#define SANDPIT_API_HOST_STATS_H

#include <stdint.h>

#include "server/base/json.h"

struct host_cpu { /* ticks of all cores since boot */
    uint64_t busy, total;
};

void host_cpu_read(struct host_cpu *out);
/* 0..100 over all cores between two readings; 0 where no time has passed. */
int64_t host_cpu_percent(const struct host_cpu *before, const struct host_cpu *now);
int64_t host_cpu_count(void);

/* The fields of NodeMetrics on memory, huge pages and the disk that holds PATH. */
void host_put_memory(json_t *out);
void host_put_disks(json_t *out, const char *path);
/* MachineInfo. New reference. */
json_t *host_machine(void);

/* The number after KEY ("MemTotal") in TEXT of the form of /proc/meminfo, else 0. Pure. */
uint64_t meminfo_number(const char *text, const char *key);
/*
 * Where the device MAJOR:MINOR is mounted, by TEXT of /proc/self/mountinfo: the first mount of its
 * root, else of any part. The three are filled, cut where they are too long; false: none. Pure.
 */
#define MOUNT_FIELD_SIZE 256
struct host_mount {
    char point[MOUNT_FIELD_SIZE], type[MOUNT_FIELD_SIZE], device[MOUNT_FIELD_SIZE];
};
bool mountinfo_find(const char *text, unsigned major, unsigned minor, struct host_mount *out);

#endif
