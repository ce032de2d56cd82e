#include "envd/mounts.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define MOUNTINFO "/proc/self/mountinfo"
#define TEXT_MAX_BYTES (4 << 20)
#define LOCAL_MAX 1024 /* further mounts count as not local: slower, never wrong */

static struct {
    bool stale; /* atomic */

    pthread_mutex_t lock; /* guards what follows */
    int fd;               /* of mountinfo: poll tells of changes */
    uint64_t *local;
    size_t count;
} mounts = {.stale = true, .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static bool is_local_type(const char *type, size_t len)
{
    static const char *const types[] = {"ext2",  "ext3",     "ext4",     "xfs",     "btrfs",
                                        "f2fs",  "tmpfs",    "ramfs",    "rootfs",  "overlay",
                                        "erofs", "squashfs", "devtmpfs", "bcachefs"};

    for (size_t i = 0; i < array_size(types); i++)
        if (strlen(types[i]) == len && memcmp(types[i], type, len) == 0)
            return true;
    return false;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw" without its newline. */
static bool parse_line(const char *line, size_t len, uint64_t *id)
{
    const char *end = memchr(line, ' ', len), *type, *type_end;
    struct err err;

    if (end == NULL || str_to_u64(line, (size_t)(end - line), 0, UINT32_MAX, "id", id, &err) < 0)
        return false;
    type = memmem(line, len, " - ", 3);
    if (type == NULL)
        return false;
    type += 3;
    type_end = memchr(type, ' ', len - (size_t)(type - line));
    return type_end != NULL && is_local_type(type, (size_t)(type_end - type));
}

size_t mounts_parse(const char *text, size_t len, uint64_t *out, size_t max)
{
    size_t count = 0;

    for (size_t at = 0; at < len && count < max;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t size = end != NULL ? (size_t)(end - text) - at : len - at;

        if (parse_line(text + at, size, &out[count]))
            count++;
        at += size + 1;
    }
    return count;
}

bool mounts_is_local(uint64_t id)
{
    bool found = false;

    if (__atomic_load_n(&mounts.stale, __ATOMIC_ACQUIRE))
        return false;
    pthread_mutex_lock(&mounts.lock); /* held for a few instructions only */
    struct pollfd pfd = {.fd = mounts.fd, .events = POLLPRI};
    if (poll(&pfd, 1, 0) != 0)
        __atomic_store_n(&mounts.stale, true, __ATOMIC_RELEASE);
    else
        for (size_t i = 0; i < mounts.count && !found; i++)
            found = mounts.local[i] == id;
    pthread_mutex_unlock(&mounts.lock);
    return found;
}

void mounts_refresh(void)
{
    _cleanup_free_ uint64_t *local = NULL;
    _cleanup_free_ char *text = NULL;
    _cleanup_close_ int fd = -1;
    struct err err;
    size_t len, count;

    if (!__atomic_load_n(&mounts.stale, __ATOMIC_ACQUIRE))
        return;
    /* opened before it is read: what changes from here on is told by poll */
    fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || file_read(AT_FDCWD, MOUNTINFO, TEXT_MAX_BYTES, &text, &len, &err) < 0)
        return;
    local = mem_calloc(LOCAL_MAX, sizeof(*local));
    count = mounts_parse(text, len, local, LOCAL_MAX);
    pthread_mutex_lock(&mounts.lock);
    fd_close(&mounts.fd);
    free(mounts.local);
    mounts.fd = steal_fd(&fd);
    mounts.local = mem_realloc_array(steal_ptr(&local), count + 1, sizeof(*mounts.local));
    mounts.count = count;
    __atomic_store_n(&mounts.stale, false, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mounts.lock);
}
