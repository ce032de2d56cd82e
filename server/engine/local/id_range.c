#include "server/engine/local/id_range.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"

int id_range_claim(const char *path, uint32_t first, uint32_t count, struct err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", path);
    if (fcntl(fd, F_SETLK, &lock) == 0)
        return steal_fd(&fd);
    if (errno != EAGAIN && errno != EACCES)
        return err_sys(err, errno, "cannot lock %s", path);
    if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        lock.l_pid = 0; /* it has ended meanwhile */
    return err_set(err, ERR_EXISTS, "process %d uses some of the same host ids", (int)lock.l_pid);
}
