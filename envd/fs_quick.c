#include "envd/fs_quick.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "envd/mounts.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

#define BARE_SLOTS 1024 /* a power of two */
/* A change time this old differs from that of any later change, however coarse its clock is. */
#define SETTLED_SECONDS 2

struct bare {
    dev_t dev;
    ino_t ino;
    struct timespec changed;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bare bare[BARE_SLOTS]; /* the lock; a slot a hash */

static struct bare *slot_of(dev_t dev, ino_t ino)
{
    uint64_t hash = ((uint64_t)ino ^ ((uint64_t)dev << 32)) * 0x9e3779b97f4a7c15u;

    return &bare[(hash >> 40) & (BARE_SLOTS - 1)];
}

void fs_quick_note_bare(const struct stat *st)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec - st->st_ctim.tv_sec < SETTLED_SECONDS)
        return;
    pthread_mutex_lock(&lock);
    *slot_of(st->st_dev, st->st_ino) = (struct bare){st->st_dev, st->st_ino, st->st_ctim};
    pthread_mutex_unlock(&lock);
}

static bool is_bare(const struct stat *st)
{
    const struct bare *slot;
    bool same;

    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
        return true; /* nothing else has metadata */
    pthread_mutex_lock(&lock);
    slot = slot_of(st->st_dev, st->st_ino);
    same = slot->dev == st->st_dev && slot->ino == st->st_ino &&
           slot->changed.tv_sec == st->st_ctim.tv_sec &&
           slot->changed.tv_nsec == st->st_ctim.tv_nsec;
    pthread_mutex_unlock(&lock);
    return same;
}

static void to_stat(const struct statx *stx, struct stat *st)
{
    *st = (struct stat){
        .st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
        .st_ino = stx->stx_ino,
        .st_mode = stx->stx_mode,
        .st_uid = stx->stx_uid,
        .st_gid = stx->stx_gid,
        .st_size = (off_t)stx->stx_size,
        .st_mtim = {stx->stx_mtime.tv_sec, stx->stx_mtime.tv_nsec},
        .st_ctim = {stx->stx_ctime.tv_sec, stx->stx_ctime.tv_nsec},
    };
}

bool fs_stat_quick(const char *path, const struct user_db *users, struct entry *out)
{
    static bool unsupported; /* atomic */
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_CACHED};
    unsigned wanted = STATX_BASIC_STATS | STATX_MNT_ID;
    _cleanup_close_ int fd = -1;
    struct statx stx;
    struct stat st;

    if (__atomic_load_n(&unsupported, __ATOMIC_RELAXED))
        return false;
    fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0) {
        if (errno == ENOSYS || errno == EINVAL || errno == EPERM)
            __atomic_store_n(&unsupported, true, __ATOMIC_RELAXED);
        return false;
    }
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, wanted, &stx) < 0 ||
        (stx.stx_mask & wanted) != wanted || !mounts_is_local(stx.stx_mnt_id))
        return false;
    to_stat(&stx, &st);
    if (S_ISLNK(st.st_mode) || !is_bare(&st))
        return false;
    entry_fill(&st, path, users, out);
    return true;
}
