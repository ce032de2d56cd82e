/* envd/upload_place.h: hidden copies that an upload left because envd or the machine ended. */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "envd/upload_place.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define LOOK_EVERY_MS 60000 /* a folder may be large and far away */
#define STALE_S 3600        /* not written to for so long: no upload is behind it */

static void remove_stale(int dir_fd, const char *name, time_t now)
{
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
        st.st_mtim.tv_sec < now - STALE_S)
        unlinkat(dir_fd, name, 0);
}

void upload_remove_stale(const struct upload *up)
{
    static _Atomic int64_t next_ms;
    int64_t due = atomic_load(&next_ms), now = time_mono_ms();
    struct dirent *entry;
    DIR *dir;
    int fd;

    if (now < due || !atomic_compare_exchange_strong(&next_ms, &due, now + LOOK_EVERY_MS))
        return;
    fd = openat(up->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL)
        if (str_starts(entry->d_name, UPLOAD_TEMP_PREFIX))
            remove_stale(fd, entry->d_name, time(NULL));
    closedir(dir);
}
