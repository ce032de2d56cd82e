/* The launcher's part in volumes: helpers for calls, and what sandboxes about to start mount. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/engine/local/launcher.h"
#include "server/engine/local/volume_helper.h"
#include "server/engine/local/volume_mount.h"
#include "server/engine/local/volume_store.h"

#define EXPECTED_MAX WAITING_MAX /* sandboxes about to start that have volumes */

/* What the next order of a sandbox mounts. */
struct mounts {
    char id[SANDBOX_ID_SIZE];
    unsigned count;
    struct volume_order orders[VOLUME_MOUNTS_MAX];
};

/* A helper at work; its end is told by its pidfd. */
struct helper {
    struct source source;
};

static void on_helper_end(struct launcher *launcher, struct source *source)
{
    struct helper *helper = container_of(source, struct helper, source);

    launcher_unwatch(launcher, source);
    launcher->volume_helpers--;
    free(helper);
}

int volumes_serve(struct launcher *launcher, int fd, struct err *err)
{
    struct helper *helper;
    int pidfd = -1;
    pid_t pid;

    if (launcher->volume_helpers >= VOLUME_SESSIONS_MAX)
        return err_set(err, ERR_BUSY, "too many operations on volumes at once; try again");
    pid = sys_clone(0, -1, &pidfd);
    if (pid == 0)
        volume_helper_run(&launcher->ctx, fd);
    if (pid < 0)
        return err_sys(err, errno, "cannot start a helper");
    helper = mem_zalloc(sizeof(*helper));
    if (launcher_watch(launcher, &helper->source, pidfd, on_helper_end, err) < 0) {
        sys_pidfd_kill(pidfd, SIGKILL);
        free(helper);
        return -1;
    }
    launcher->volume_helpers++;
    return 0;
}

static int read_orders(int fd, struct mounts *out, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)sizeof(out->orders) ||
        (size_t)st.st_size % sizeof(out->orders[0]) != 0)
        return err_set(err, ERR_INVALID, "not a list of volumes");
    out->count = (unsigned)((size_t)st.st_size / sizeof(out->orders[0]));
    if (pread(fd, out->orders, (size_t)st.st_size, 0) != st.st_size)
        return err_set(err, ERR_INVALID, "not a list of volumes");
    for (unsigned i = 0; i < out->count; i++) {
        if (volume_order_check(&out->orders[i], err) < 0)
            return -1;
    }
    return 0;
}

int volumes_expect(struct launcher *launcher, const char *id, int fd, struct err *err)
{
    struct mounts *mounts;

    volumes_forget(launcher, id);
    if (launcher->mounts.count >= EXPECTED_MAX)
        return err_set(err, ERR_BUSY, "too many sandboxes are being created; try again");
    mounts = mem_zalloc(sizeof(*mounts));
    if (read_orders(fd, mounts, err) < 0) {
        free(mounts);
        return -1;
    }
    memcpy(mounts->id, id, strnlen(id, sizeof(mounts->id) - 1));
    map_put(&launcher->mounts, mounts->id, mounts);
    return 0;
}

void volumes_forget(struct launcher *launcher, const char *id)
{
    free(map_remove(&launcher->mounts, id));
}

unsigned volumes_expected(const struct launcher *launcher, const char *id)
{
    const struct mounts *mounts = map_get(&launcher->mounts, id);

    return mounts != NULL ? mounts->count : 0;
}

/* A copy of the mount of ORDER's volume, attached nowhere. */
static int detached(const struct context *ctx, const struct volume_order *order, struct err *err)
{
    _cleanup_close_ int folder = volume_store_folder(ctx, order->volume_id, O_PATH, err);
    int tree;

    if (folder < 0)
        return -1;
    tree = (int)syscall(SYS_open_tree, folder, "",
                        AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        err_sys(err, errno, "cannot copy the mount of volume %s", order->volume_id);
    return tree;
}

int volumes_send(struct launcher *launcher, const char *id, int control, struct err *err)
{
    const struct mounts *mounts = map_get(&launcher->mounts, id);
    int rc = 0;

    for (unsigned i = 0; rc == 0 && mounts != NULL && i < mounts->count; i++) {
        _cleanup_close_ int tree = detached(&launcher->ctx, &mounts->orders[i], err);
        if (tree < 0)
            rc = -1;
        else if (packet_send(control, &mounts->orders[i], sizeof(mounts->orders[i]), &tree, 1,
                             MSG_DONTWAIT) < 0)
            rc = err_sys(err, errno, "the spare sandbox does not answer");
    }
    volumes_forget(launcher, id);
    return rc;
}
