/* The gateway's process: give up everything, then serve. */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/gateway/ca.h"
#include "server/gateway/flow.h"
#include "server/gateway/gateway.h"

#define FILES_MAX 16384
#define FILES_KEPT 64 /* for all but flows: resolver, control */
#define FILES_PER_FLOW 2

/* As many descriptors as there may be, and flows for them. */
static void size_up(struct gateway *gateway)
{
    struct rlimit limit = {0};

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > FILES_MAX)
        limit.rlim_cur = FILES_MAX;
    else
        limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    gateway->flow_max =
        limit.rlim_cur > FILES_KEPT + RESOLVER_QUESTIONS_MAX + FILES_PER_FLOW
            ? (limit.rlim_cur - FILES_KEPT - RESOLVER_QUESTIONS_MAX) / FILES_PER_FLOW
            : 1;
}

/* No files, no capabilities, nobody's memory; and the end with the parent. */
static int give_up(const struct gateway_config *config, const struct gateway_start *start,
                   struct err *err)
{
    pid_t parent = getppid();

    if (config->empty_dir != NULL && (dir_make(config->empty_dir, 0755, err) < 0 ||
                                      chroot(config->empty_dir) < 0 || chdir("/") < 0))
        return err_sys(err, errno, "cannot leave the host's files");
    if (start->uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(start->gid, start->gid, start->gid) < 0 ||
         setresuid(start->uid, start->uid, start->uid) < 0))
        return err_sys(err, errno, "cannot become the gateway's user");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return err_sys(err, errno, "prctl");
    return getppid() == parent ? 0 : err_set(err, ERR_INTERNAL, "the router has ended");
}

static void tick(void *ctx)
{
    struct gateway *gateway = ctx;

    resolver_tick(gateway->resolver);
    flow_tick(gateway);
}

static void idle(void *ctx)
{
    flow_reap(ctx);
}

static int begin(struct gateway *gateway, const struct gateway_config *config,
                 const struct gateway_start *start, struct err *err)
{
    if (config->ca_dir != NULL && ca_load(config->ca_dir, &gateway->ca, err) < 0)
        return -1;
    if (tls_start(gateway, config->roots, config->more_roots, err) < 0 ||
        give_up(config, start, err) < 0 || ev_init(&gateway->ev, err) < 0)
        return -1;
    gateway->ev.tick = tick;
    gateway->ev.idle = idle;
    gateway->ev.ctx = gateway;
    gateway->resolver =
        resolver_new(&gateway->ev, config->resolver != 0 ? config->resolver : NET_RESOLVER,
                     config->resolver_port != 0 ? config->resolver_port : GATEWAY_RESOLVER_PORT);
    gateway->listener = (struct ev_io){.fd = start->listener, .fn = flow_accept};
    if (ev_watch(&gateway->ev, &gateway->listener) < 0 ||
        control_start(gateway, start->control) < 0)
        return err_sys(err, errno, "cannot watch the gateway's sockets");
    return 0;
}

void gateway_main(const void *ctx, const struct gateway_start *start)
{
    const struct gateway_config *config = ctx;
    struct gateway *gateway = mem_zalloc(sizeof(*gateway));
    struct err err = {0};

    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    map_init(&gateway->tenants);
    size_up(gateway);
    if (begin(gateway, config, start, &err) < 0) {
        log_err(LOG_ERROR, "the egress gateway cannot start", NULL, &err);
        _exit(1);
    }
    log_info("egress gateway", "connections_max", log_num((long long)gateway->flow_max));
    ev_run(&gateway->ev);
    _exit(0);
}
