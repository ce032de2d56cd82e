#include "server/engine/local/sample.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define PATH_SIZE 64
#define TEXT_SIZE 8192 /* memory.stat has about 1.5 KB */
#define NS_PER_US 1000

bool sample_field(const char *text, const char *key, uint64_t *out)
{
    size_t len = strlen(key);

    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, len) == 0 && line[len] == ' ') {
            const char *digits = line + len + 1;
            struct err ignored = {0};
            return str_to_u64(digits, strcspn(digits, "\n"), 0, UINT64_MAX, key, out, &ignored) ==
                   0;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

/* The text of a small file of SLOT's group below FOLDER. */
static bool read_text(int folder, uint32_t slot, const char *file, char text[TEXT_SIZE])
{
    char path[PATH_SIZE];
    ssize_t n;

    snprintf(path, sizeof(path), "slot-%" PRIu32 "/%s", slot, file);
    _cleanup_close_ int fd = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    n = read(fd, text, TEXT_SIZE - 1);
    if (n < 0)
        return false;
    text[n] = '\0';
    return true;
}

static bool read_number(int folder, uint32_t slot, const char *file, uint64_t *out)
{
    char text[TEXT_SIZE];
    struct err ignored = {0};

    return read_text(folder, slot, file, text) &&
           str_to_u64(text, strcspn(text, "\n"), 0, UINT64_MAX, file, out, &ignored) == 0;
}

static bool read_cpu(int folder, uint32_t slot, uint64_t *out_us)
{
    char text[TEXT_SIZE];

    if (read_number(folder, slot, "cpuacct.usage", out_us)) { /* version 1, nanoseconds */
        *out_us /= NS_PER_US;
        return true;
    }
    return read_text(folder, slot, "cpu.stat", text) && sample_field(text, "usage_usec", out_us);
}

void sample_read(const int fds[2], uint32_t slot, struct engine_sample *out)
{
    char stat[TEXT_SIZE];

    if (!read_cpu(fds[1], slot, &out->cpu_us) || !read_text(fds[0], slot, "memory.stat", stat) ||
        (!read_number(fds[0], slot, "memory.current", &out->memory_bytes) &&
         !read_number(fds[0], slot, "memory.usage_in_bytes", &out->memory_bytes)))
        return;
    if (!sample_field(stat, "total_cache", &out->cache_bytes)) /* version 1 */
        sample_field(stat, "file", &out->cache_bytes);
    if (out->cache_bytes > out->memory_bytes)
        out->cache_bytes = out->memory_bytes;
    out->ok = true;
}
