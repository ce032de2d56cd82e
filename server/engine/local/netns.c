#include "server/engine/local/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/engine/local/rtnl.h"
#include "server/engine/local/userns.h"

#define LISTEN_BACKLOG 1024

static int loopback_up(struct err *err)
{
    _cleanup_close_ int sock = rtnl_open(err);

    return sock < 0 ? -1 : rtnl_link_set(sock, "lo", true, err);
}

/* Root inside has no capability over this namespace: what it usually may is open to all. */
static int open_ports(uint32_t root_id, struct err *err)
{
    struct err ignored = {0};
    char text[32];

    if (file_poke(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", err) < 0)
        return -1;
    snprintf(text, sizeof(text), "%u %u", root_id, root_id + USERNS_IDS - 1);
    file_poke(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", text, &ignored); /* or no ping */
    return 0;
}

static int listen_on(uint16_t port, struct err *err)
{
    _cleanup_close_ int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;

    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(sock, LISTEN_BACKLOG) < 0)
        return err_sys(err, errno, "cannot listen for envd in the sandbox");
    return steal_fd(&sock);
}

int netns_new(uint32_t root_id, uint16_t port, struct err *err)
{
    if (unshare(CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot create a network namespace");
    if (loopback_up(err) < 0 || open_ports(root_id, err) < 0)
        return -1;
    return listen_on(port, err);
}

int netns_sockets(int fd, int home, bool ipv6, int *socks, int count, struct err *err)
{
    const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int made = 0, errnum = 0;

    if (setns(fd, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the sandbox's network namespace");
    while (made < count && (socks[made] = socket(ipv6 ? AF_INET6 : AF_INET, type, 0)) >= 0)
        made++;
    errnum = errno;
    if (setns(home, CLONE_NEWNET) < 0)
        abort(); /* never go on in the wrong namespace */
    if (made == 0)
        return err_sys(err, errnum, "cannot open a socket in the sandbox");
    return made;
}
