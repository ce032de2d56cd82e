/* The launcher's side of the egress router: start it, start it again, keep its rules true. */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/launcher.h"

static void on_router_end(struct launcher *launcher, struct source *source)
{
    launcher_unwatch(launcher, source);
    log_warn("the egress router ended; starting it again");
    /* The namespace is still open here, and the links are in it: the new process enters it. */
    router_start(launcher);
}

static void on_addresses(struct launcher *launcher, struct source *source)
{
    char drop[4096];
    struct err err = {0};
    struct job *job;

    while (recv(source->fd, drop, sizeof(drop), MSG_DONTWAIT) > 0)
        continue; /* what changed does not matter: all addresses are read again */
    if (launcher->ctx.router_netns < 0)
        return;
    job = mem_zalloc(sizeof(*job));
    job->kind = JOB_RULES;
    if (job_start(launcher, job, &err) < 0)
        log_err(LOG_WARN, "the router's rules are not up to date", NULL, &err);
}

/* Hear of changes of the host's addresses, all of which sandboxes must not reach. */
static int watch_addresses(struct launcher *launcher, struct err *err)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR};
    _cleanup_close_ int sock =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_sys(err, errno, "cannot watch the host's addresses");
    return launcher_watch(launcher, &launcher->addresses, steal_fd(&sock), on_addresses, err);
}

void router_start(struct launcher *launcher)
{
    struct err err = {0};
    int pidfd = -1;

    if (launcher->stopping)
        return;
    if (launcher->addresses.fd < 0 && watch_addresses(launcher, &err) < 0)
        log_err(LOG_WARN, "the router's rules may grow old", NULL, &err);
    if (egress_start(&launcher->ctx, &pidfd, &launcher->router_adopted, &err) < 0) {
        log_err(LOG_WARN, "sandboxes start without internet access", NULL, &err);
        fd_close(&launcher->ctx.router_netns);
        return;
    }
    if (launcher_watch(launcher, &launcher->router, pidfd, on_router_end, &err) < 0)
        log_err(LOG_WARN, "cannot watch the egress router", NULL, &err);
    if (launcher->gateway.fd < 0)
        network_watch(launcher);
}

void router_stop(struct launcher *launcher)
{
    int pidfd = launcher->router.fd < 0 ? -1 : fcntl(launcher->router.fd, F_DUPFD_CLOEXEC, 0);

    launcher_unwatch(launcher, &launcher->router);
    launcher_unwatch(launcher, &launcher->gateway);
    if (launcher->ctx.router_netns >= 0)
        egress_stop(&launcher->ctx, pidfd);
    fd_close(&pidfd);
}
