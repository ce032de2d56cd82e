#include "server/engine/local/egress.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/engine/local/gateway.h"
#include "server/engine/local/rtnl.h"
#include "server/model/network.h"

#define LINK_BASE 0x64400000u /* 100.64.0.0 */
#define LINK_PREFIX 30
#define LINK_INSIDE "eth0"
#define LINK_NAME_SIZE 16
#define HOSTS_MAX 256
#define RULES_MAX_BYTES 65536
#define STOP_WAIT_MS 3000
#define ROUTER_GROUP "router" /* beside the sandboxes' "slot-<n>" */

static void link_name(uint32_t slot, char out[LINK_NAME_SIZE])
{
    snprintf(out, LINK_NAME_SIZE, "sb%u", slot);
}

static uint32_t router_address(uint32_t slot)
{
    return LINK_BASE + 4 * slot + 1;
}

uint32_t egress_address(uint32_t slot)
{
    return router_address(slot) + 1;
}

uid_t egress_gateway_uid(const struct context *ctx)
{
    return ctx->config->id_base - 2; /* the server's is the one before (privsep.h) */
}

/* Declared again, sets and chains stay as they are; what is to be renewed is emptied first. */
static const char layout[] =
    "table inet sandpit {\n"
    "  set gatewayed { type iface_index; }\n"
    "  set opened { type iface_index; }\n"
    "  set never { type ipv4_addr; flags interval; auto-merge; }\n"
    "  set forbidden { type ipv4_addr; flags interval; auto-merge; }\n"
    "  chain refuse { }\n"
    "  chain gateway { }\n"
    "  chain forward { type filter hook forward priority 0; policy drop; }\n"
    "  chain input { type filter hook input priority 0; policy drop; }\n"
    "  chain output { type filter hook output priority 0; policy accept; }\n"
    "  chain prerouting { type nat hook prerouting priority -100; }\n"
    "  chain postrouting { type nat hook postrouting priority 100; }\n"
    "}\n"
    "flush set inet sandpit never\n"
    "flush set inet sandpit forbidden\n"
    "flush chain inet sandpit refuse\n"
    "flush chain inet sandpit gateway\n"
    "flush chain inet sandpit forward\n"
    "flush chain inet sandpit input\n"
    "flush chain inet sandpit output\n"
    "flush chain inet sandpit prerouting\n"
    "flush chain inet sandpit postrouting\n";

/* The resolver's port 53 is open to all that have a link up; the rules inside may close it. */
#define TO_RESOLVER "ip daddr " EGRESS_RESOLVER " meta l4proto { tcp, udp } th dport 53 "

/*
 * Without state where rules may change: what a live update forbids ends there and then, also for
 * connections that are established.
 */
static const char forward[] =
    "  chain refuse {\n"
    "    meta l4proto tcp reject with tcp reset\n"
    "    reject with icmpx admin-prohibited\n"
    "  }\n"
    "  chain forward {\n"
    "    iif @gatewayed meta l4proto tcp ip daddr != " EGRESS_RESOLVER " goto refuse\n"
    "    ct state established,related accept\n"
    "    iifname != \"sb*\" drop\n"
    "    oifname != \"tap0\" drop\n"
    "    meta nfproto != ipv4 drop\n"
    "    " TO_RESOLVER "accept\n"
    "    iif @opened ip daddr != @never accept\n"
    "    ip daddr @forbidden goto refuse\n"
    "    accept\n"
    "  }\n";

static void add_cidrs(struct buf *out, const struct net_cidr *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%u.%u.%u.%u/%u", i > 0 ? ", " : "", list[i].address >> 24,
                   list[i].address >> 16 & 255, list[i].address >> 8 & 255, list[i].address & 255,
                   list[i].prefix);
}

static void add_hosts(struct buf *out, const uint32_t *hosts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out, ", %u.%u.%u.%u", hosts[i] >> 24, hosts[i] >> 16 & 255, hosts[i] >> 8 & 255,
                   hosts[i] & 255);
}

/* What the gateway itself may open, and how sandboxes get to it. */
static void add_gateway(struct buf *out, uid_t gateway)
{
    buf_printf(out,
               "  chain gateway {\n"
               "    oifname != \"tap0\" drop\n"
               "    " TO_RESOLVER "accept\n"
               "    ip daddr @never goto refuse\n"
               "    meta nfproto != ipv4 drop\n"
               "    accept\n"
               "  }\n"
               "  chain output {\n"
               "    ct state established,related accept\n"
               "    meta skuid %u goto gateway\n"
               "  }\n"
               "  chain prerouting {\n"
               "    " TO_RESOLVER "accept\n"
               "    iif @gatewayed meta l4proto tcp redirect to :%d\n"
               "  }\n"
               "  chain input {\n"
               "    iifname \"lo\" accept\n"
               "    ct state established,related accept\n"
               "    iif @gatewayed tcp dport %d ct status dnat accept\n"
               "  }\n",
               gateway, GATEWAY_PORT, GATEWAY_PORT);
}

void egress_rules(struct buf *out, const uint32_t *hosts, size_t host_count, uid_t gateway)
{
    buf_add_str(out, layout);
    buf_add_str(out, "add element inet sandpit never { ");
    add_cidrs(out, net_never, net_never_count);
    add_hosts(out, hosts, host_count);
    buf_add_str(out, " }\nadd element inet sandpit forbidden { ");
    add_cidrs(out, net_never, net_never_count);
    buf_add_str(out, ", ");
    add_cidrs(out, net_private, net_private_count);
    add_hosts(out, hosts, host_count);
    buf_add_str(out, " }\ntable inet sandpit {\n");
    buf_add_str(out, forward);
    add_gateway(out, gateway);
    buf_add_str(out, "  chain postrouting {\n"
                     "    oifname \"tap0\" masquerade\n"
                     "  }\n"
                     "}\n");
}

/* IPv4 addresses of the caller's namespace, loopback too. */
static size_t host_addresses(uint32_t *out, size_t max)
{
    struct ifaddrs *list = NULL;
    size_t count = 0;

    if (getifaddrs(&list) < 0)
        return 0;
    for (struct ifaddrs *at = list; at != NULL && count < max; at = at->ifa_next) {
        if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_INET)
            out[count++] = ntohl(((struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr.s_addr);
    }
    freeifaddrs(list);
    return count;
}

int egress_reload(const struct context *ctx, struct err *err)
{
    _cleanup_free_ char *nft = router_find_program("nft");
    _cleanup_buf_ struct buf rules;
    uint32_t hosts[HOSTS_MAX];
    size_t count;

    buf_init(&rules, RULES_MAX_BYTES);
    if (nft == NULL)
        return err_set(err, ERR_UNSUPPORTED, "nft is missing: apt-get install nftables");
    if (setns(ctx->host_netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the host's network namespace");
    count = host_addresses(hosts, HOSTS_MAX);
    if (setns(ctx->router_netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the router's network namespace");
    egress_rules(&rules, hosts, count, egress_gateway_uid(ctx));
    return router_run_program((char *[]){nft, (char[]){"-f"}, (char[]){"-"}, NULL}, rules.data,
                              rules.len, err);
}

static char *router_record(const struct context *ctx)
{
    return mem_asprintf("%s/router", ctx->config->run_dir);
}

/* The pid of a router that still runs, or 0. */
static pid_t find_router(const struct context *ctx)
{
    _cleanup_free_ char *path = router_record(ctx), *text = NULL;
    _cleanup_json_ json_t *json = NULL;
    const char *boot = "";
    struct err err = {0};
    int64_t pid = 0, ticks = 0;
    uint64_t now;
    size_t len;

    if (file_read(AT_FDCWD, path, 1024, &text, &len, &err) < 0)
        return 0;
    json = json_parse_object(text, len, &err);
    if (json == NULL || json_get_i64(json, "pid", 2, INT32_MAX, &pid, &err) < 0 ||
        json_get_i64(json, "startTicks", 0, INT64_MAX, &ticks, &err) < 0 ||
        json_get_str(json, "boot", &boot, &err) < 0 || pid == 0 || !str_eq(boot, ctx->boot_id))
        return 0;
    if (sys_start_ticks((pid_t)pid, &now, &err) < 0 || now != (uint64_t)ticks)
        return 0;
    return (pid_t)pid;
}

int egress_record_router(const struct context *ctx, struct err *err)
{
    _cleanup_free_ char *path = router_record(ctx), *text = NULL;
    _cleanup_json_ json_t *json = json_object();
    _cleanup_close_ int fd = -1;
    pid_t pid = getpid();
    uint64_t ticks;

    if (sys_start_ticks(pid, &ticks, err) < 0)
        return -1;
    json_put_i64(json, "pid", pid);
    json_put_i64(json, "startTicks", (int64_t)ticks);
    json_put_str(json, "boot", ctx->boot_id);
    text = json_text(json);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0)
        return err_sys(err, errno, "cannot write %s", path);
    return 0;
}

/* The old namespace, if any, is let go of only when the new one is open. */
static int open_netns(struct context *ctx, pid_t pid, struct err *err)
{
    char path[40];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", path);
    fd_close(&ctx->router_netns);
    ctx->router_netns = fd;
    return 0;
}

static int adopt_router(struct context *ctx, pid_t pid, int *pidfd, struct err *err)
{
    _cleanup_close_ int fd = sys_pidfd_open(pid);
    pid_t child;
    int status = 0;

    if (fd < 0)
        return err_sys(err, errno, "cannot open the router process");
    if (sys_pidfd_ended(fd, 0)) /* a zombie still has its start time */
        return err_set(err, ERR_NOT_FOUND, "the router process has ended");
    if (open_netns(ctx, pid, err) < 0)
        return -1;
    child = fork();
    if (child == 0) {
        struct err ignored = {0};
        _exit(egress_reload(ctx, &ignored) < 0);
    }
    if (child < 0 || sys_wait(child, &status) < 0 || status != 0)
        return err_set(err, ERR_INTERNAL, "cannot load the router's rules again");
    *pidfd = steal_fd(&fd);
    return 0;
}

static int start_router(struct context *ctx, int *pidfd, struct err *err)
{
    _cleanup_close_ int ready_read = -1, ready_write = -1, fd = -1;
    _cleanup_cgroup_ struct cgroup group = CGROUP_NONE;
    struct err answer = {.code = ERR_INTERNAL, .msg = "the router process ended early"};
    int pipes[2];
    pid_t pid;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe");
    ready_read = pipes[0];
    ready_write = pipes[1];
    /* Like a sandbox it may outlive the server, so it is not in the server's own group. */
    if (ctx->cgroups->ops->clone_into && cgroup_create(ctx->cgroups, ROUTER_GROUP, &group, err) < 0)
        return -1;
    pid = sys_clone(0, group.fds[0], &fd);
    if (pid < 0)
        return err_sys(err, errno, "cannot start the router process");
    if (pid == 0)
        router_run(ctx, ready_write);
    fd_close(&ready_write);
    fd_read_full(ready_read, &answer, sizeof(answer));
    if (answer.code == ERR_NONE && open_netns(ctx, pid, &answer) < 0)
        sys_pidfd_kill(fd, SIGKILL);
    if (answer.code != ERR_NONE) {
        sys_wait(pid, NULL);
        *err = answer;
        return -1;
    }
    *pidfd = steal_fd(&fd);
    return 0;
}

int egress_start(struct context *ctx, int *pidfd, bool *adopted, struct err *err)
{
    pid_t pid = find_router(ctx);
    struct err ignored = {0};

    *adopted = pid > 0 && adopt_router(ctx, pid, pidfd, &ignored) == 0;
    return *adopted ? 0 : start_router(ctx, pidfd, err);
}

void egress_stop(struct context *ctx, int pidfd)
{
    _cleanup_free_ char *path = router_record(ctx);
    struct err err = {0};

    if (pidfd >= 0) {
        sys_pidfd_kill(pidfd, SIGTERM);
        if (!sys_pidfd_ended(pidfd, STOP_WAIT_MS))
            sys_pidfd_kill(pidfd, SIGKILL);
        sys_pidfd_ended(pidfd, STOP_WAIT_MS);
    }
    fd_close(&ctx->router_netns);
    unlink(path);
    if (cgroup_remove(ctx->cgroups, ROUTER_GROUP, &err) < 0)
        log_err(LOG_WARN, "cannot remove the router's control group", NULL, &err);
}

/* A netlink socket in the router's namespace; the caller goes back to HOME. */
static int router_socket(const struct context *ctx, int home, struct err *err)
{
    int sock;

    if (setns(ctx->router_netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the router's network namespace");
    sock = rtnl_open(err);
    if (setns(home, CLONE_NEWNET) < 0)
        abort(); /* never go on in the wrong namespace */
    return sock;
}

int egress_attach(const struct context *ctx, uint32_t slot, struct err *err)
{
    _cleanup_close_ int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int sock = -1;
    char name[LINK_NAME_SIZE];

    if (here < 0)
        return err_sys(err, errno, "cannot open the sandbox's network namespace");
    sock = router_socket(ctx, here, err);
    if (sock < 0)
        return -1;
    link_name(slot, name);
    /* A leftover of the slot's last sandbox, whose namespace the kernel has not yet freed. */
    if (rtnl_link_delete(sock, name, err) < 0 ||
        rtnl_veth_add(sock, name, LINK_INSIDE, here, EGRESS_MTU, err) < 0)
        return -1;
    if (rtnl_address_add(sock, name, router_address(slot), LINK_PREFIX, err) < 0)
        return -1;
    return rtnl_link_set(sock, name, true, err);
}

int egress_inside_up(uint32_t slot, struct err *err)
{
    _cleanup_close_ int sock = rtnl_open(err);

    if (sock < 0)
        return -1;
    if (rtnl_index(sock, LINK_INSIDE) == 0)
        return err_set(err, ERR_NOT_FOUND, "the sandbox has no network link");
    if (rtnl_address_add(sock, LINK_INSIDE, router_address(slot) + 1, LINK_PREFIX, err) < 0 ||
        rtnl_link_set(sock, LINK_INSIDE, true, err) < 0)
        return -1;
    return rtnl_route_default(sock, LINK_INSIDE, router_address(slot), err);
}

/* INDEX is in SET from now on, or is not; either way whatever was before. */
static void mark_text(struct buf *out, const char *set, unsigned index, bool in)
{
    buf_printf(out, "add element inet sandpit %s { %u }\n", set, index);
    if (!in)
        buf_printf(out, "delete element inet sandpit %s { %u }\n", set, index);
}

int egress_mark(const struct context *ctx, uint32_t slot, bool gatewayed, bool opened,
                struct err *err)
{
    _cleanup_free_ char *nft = router_find_program("nft");
    _cleanup_close_ int sock = -1;
    _cleanup_buf_ struct buf text;
    char name[LINK_NAME_SIZE];
    unsigned index;

    buf_init(&text, RULES_MAX_BYTES);
    if (nft == NULL)
        return err_set(err, ERR_UNSUPPORTED, "nft is missing: apt-get install nftables");
    if (setns(ctx->router_netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the router's network namespace");
    sock = rtnl_open(err);
    if (sock < 0)
        return -1;
    link_name(slot, name);
    index = rtnl_index(sock, name);
    if (index == 0)
        return err_set(err, ERR_NOT_FOUND, "the sandbox has no network link");
    mark_text(&text, "gatewayed", index, gatewayed);
    mark_text(&text, "opened", index, opened);
    return router_run_program((char *[]){nft, (char[]){"-f"}, (char[]){"-"}, NULL}, text.data,
                              text.len, err);
}

int egress_link(const struct context *ctx, uint32_t slot, int netns, struct err *err)
{
    _cleanup_close_ int sock = -1;

    if (setns(netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the sandbox's network namespace");
    sock = rtnl_open(err);
    if (sock < 0)
        return -1;
    if (rtnl_index(sock, LINK_INSIDE) != 0)
        return 0;
    if (ctx->router_netns < 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "sandboxes have no internet access on this machine: see sandpit doctor");
    return egress_attach(ctx, slot, err);
}

static int link_down(int netns, struct err *err)
{
    _cleanup_close_ int sock = -1;

    if (setns(netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the sandbox's network namespace");
    sock = rtnl_open(err);
    if (sock < 0)
        return -1;
    return rtnl_index(sock, LINK_INSIDE) == 0 ? 0 : rtnl_link_set(sock, LINK_INSIDE, false, err);
}

int egress_switch(const struct context *ctx, uint32_t slot, int netns, bool on, struct err *err)
{
    if (!on)
        return link_down(netns, err);
    return egress_link(ctx, slot, netns, err) < 0 ? -1 : egress_inside_up(slot, err);
}
