#include "server/engine/local/logpipe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int logpipe_make(const struct context *ctx, uint32_t slot, struct cgroup_grants *grants,
                 struct err *err)
{
    char name[CGROUP_NAME_SIZE];

    slot_group(slot, name);
    logpipe_remove(ctx, slot);
    if (mkfifoat(ctx->logs_dir, name, 0600) < 0)
        return err_sys(err, errno, "cannot make the log pipe of %s", name);
    return cgroup_grant(grants, "log", ctx->logs_dir, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW, err);
}

int logpipe_open(const struct context *ctx, uint32_t slot, struct err *err)
{
    char name[CGROUP_NAME_SIZE];
    int fd;

    slot_group(slot, name);
    fd = openat(ctx->logs_dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : err_sys(err, errno, "cannot open the log pipe of %s", name);
}

void logpipe_remove(const struct context *ctx, uint32_t slot)
{
    char name[CGROUP_NAME_SIZE];

    slot_group(slot, name);
    unlinkat(ctx->logs_dir, name, 0);
}
