/*
 * server/loop/bind.c - see bind.h.
 */
#include "server/loop/bind.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/loop/address.h"

#define BACKLOG 4096  /* the kernel cuts it to net.core.somaxconn */
#define PORT_TRIES 16 /* a port free in one family may be taken in the other */

static int set_option(int fd, int level, int name)
{
    int on = 1;

    return setsockopt(fd, level, name, &on, sizeof(on));
}

/* A bound socket, or -1 with errno. */
static int open_bound(const struct address *address, bool reuse_port)
{
    _cleanup_close_ int fd =
        socket(address->sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || set_option(fd, SOL_SOCKET, SO_REUSEADDR) < 0)
        return -1;
    if (reuse_port && set_option(fd, SOL_SOCKET, SO_REUSEPORT) < 0)
        return -1;
    if (address->sa.any.sa_family == AF_INET6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) < 0)
        return -1;
    if (bind(fd, &address->sa.any, address->len) < 0)
        return -1;
    return steal_fd(&fd);
}

/* Fill in the port that the kernel picked. */
static int read_port(int fd, struct address *address)
{
    struct address bound = {.len = sizeof(bound.sa)};

    if (getsockname(fd, &bound.sa.any, &bound.len) < 0)
        return -1;
    address_set_port(address, address_port(&bound));
    return 0;
}

/*
 * SO_REUSEPORT lets a second server of the same user share our port unnoticed. A socket without it
 * cannot be bound then, so try one first; it also picks the port when that is 0.
 */
static int probe(struct address *address)
{
    _cleanup_close_ int fd = open_bound(address, false);

    if (fd < 0 || listen(fd, 1) < 0)
        return -1;
    return read_port(fd, address);
}

static bool is_family_missing(int errnum)
{
    return errnum == EAFNOSUPPORT || errnum == EADDRNOTAVAIL;
}

/* Probe each of LIST on one port; a family this machine lacks is dropped from a pair. */
static int probe_all(struct address *list, size_t *count)
{
    uint16_t port = address_port(&list[0]);
    size_t kept = 0;
    int missing = 0;

    for (size_t i = 0; i < *count; i++) {
        address_set_port(&list[i], port);
        if (probe(&list[i]) == 0) {
            port = address_port(&list[i]);
            list[kept++] = list[i];
        } else if (*count > 1 && is_family_missing(errno)) {
            missing = errno;
        } else {
            return -1;
        }
    }
    *count = kept;
    errno = missing;
    return kept > 0 ? 0 : -1;
}

static int pick_port(struct address *list, size_t *count)
{
    int tries = address_port(&list[0]) == 0 && *count > 1 ? PORT_TRIES : 1;

    for (int i = 0; i < tries; i++) {
        struct address attempt[ADDRESS_MAX] = {list[0], list[*count - 1]};
        size_t left = *count;

        if (probe_all(attempt, &left) == 0) {
            for (size_t k = 0; k < left; k++)
                list[k] = attempt[k];
            *count = left;
            return 0;
        }
        if (errno != EADDRINUSE)
            break;
    }
    return -1;
}

static int open_listening(const struct address *address)
{
    _cleanup_close_ int fd = open_bound(address, true);

    if (fd < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return steal_fd(&fd);
}

static int bind_err(struct err *err, int errnum, const char *address)
{
    if (errnum == EADDRINUSE) {
        err_sys(err, errnum, "the address %s is in use", address);
        err->code = ERR_BUSY;
        return -1;
    }
    return err_sys(err, errnum, "cannot listen on %s", address);
}

int bind_all(const char *address, size_t count, int *fds, size_t *per_loop, uint16_t *port,
             struct err *err)
{
    struct address list[ADDRESS_MAX];
    size_t families = 0;
    size_t total;

    if (address_parse(address, list, &families, err) < 0)
        return -1;
    if (pick_port(list, &families) < 0)
        return bind_err(err, errno, address);
    total = count * families;
    for (size_t i = 0; i < total; i++) {
        fds[i] = open_listening(&list[i % families]);
        if (fds[i] < 0) {
            int errnum = errno;

            while (i-- > 0)
                fd_close(&fds[i]);
            return bind_err(err, errnum, address);
        }
    }
    *per_loop = families;
    *port = address_port(&list[0]);
    return 0;
}
