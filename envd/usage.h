/*
 * envd/usage.h - how much CPU and memory the sandbox uses, and of how much.
 *
 * Reads /proc and /sys only: short, never a disk. One thread (the loop).
 * Sources, the first that can tell:
 *   files of the sandbox's control group that envd was given (groups.h);
 *   a control group with a memory limit, version 2 (/sys/fs/cgroup) or 1 (…/memory, …/cpuacct);
 *   limits given by the platform: the processes of this pid namespace are added up, CPU time of
 *   ended ones included as long as a living ancestor waited for them (pid 1 waits for orphans);
 *   the machine: /proc/meminfo and /proc/stat.
 */
#ifndef SANDPIT_ENVD_USAGE_H
#define SANDPIT_ENVD_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct usage {
    int64_t cpu_count;  /* CPUs that may be used */
    int64_t cpu_us;     /* CPU time used so far, all CPUs together */
    int64_t cpu_age_us; /* over which wall time that was */
    int64_t mem_total_bytes;
    int64_t mem_used_bytes;  /* without the cache */
    int64_t mem_cache_bytes; /* page cache; 0 when it cannot be told apart */
};

/* CPU_COUNT and MEMORY_BYTES are the platform's limits; 0 when unknown. */
void usage_read(int64_t cpu_count, int64_t memory_bytes, struct usage *out);

/* "KEY value" at the beginning of a line of TEXT (key as given, blanks or ':' after it). Pure. */
bool usage_field(const char *text, const char *key, int64_t *out);

#endif
