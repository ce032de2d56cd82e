#include "envd/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "server/base/fd.h"
#include "server/base/mem.h"

int pty_resize(int master, uint32_t cols, uint32_t rows, struct err *err)
{
    struct winsize size = {.ws_col = (uint16_t)cols, .ws_row = (uint16_t)rows};

    if (ioctl(master, TIOCSWINSZ, &size) < 0)
        return err_sys(err, errno, "cannot set the size of the terminal");
    return 0;
}

int pty_open(uint32_t cols, uint32_t rows, int *master, int *slave, struct err *err)
{
    _cleanup_close_ int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    int unlock = 0, peer;

    if (fd < 0)
        return err_sys(err, errno, "cannot open /dev/ptmx");
    if (ioctl(fd, TIOCSPTLCK, &unlock) < 0)
        return err_sys(err, errno, "cannot unlock a terminal");
    peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (peer < 0)
        return err_sys(err, errno, "cannot open a terminal");
    if (pty_resize(fd, cols, rows, err) < 0) {
        fd_close(&peer);
        return -1;
    }
    *slave = peer;
    *master = steal_fd(&fd);
    return 0;
}
