#include "server/engine/local/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/mem.h"

#define MESSAGE_MAX 1024 /* bytes; ours are below 300 */

/* One request being built. Sizes are ours alone, so overflow is a bug. */
struct message {
    union {
        struct nlmsghdr head;
        char bytes[MESSAGE_MAX];
    } u;
};

static void *tail(struct message *m)
{
    return m->u.bytes + NLMSG_ALIGN(m->u.head.nlmsg_len);
}

/* Append LEN zeroed bytes and return them. */
static void *extend(struct message *m, size_t len)
{
    size_t at = NLMSG_ALIGN(m->u.head.nlmsg_len);

    if (at + NLMSG_ALIGN(len) > sizeof(m->u.bytes))
        abort();
    m->u.head.nlmsg_len = (uint32_t)(at + len);
    return m->u.bytes + at;
}

static void begin(struct message *m, uint16_t type, uint16_t flags)
{
    memset(m, 0, sizeof(*m));
    m->u.head.nlmsg_len = NLMSG_HDRLEN;
    m->u.head.nlmsg_type = type;
    m->u.head.nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST | NLM_F_ACK);
    m->u.head.nlmsg_seq = 1;
}

static void attr(struct message *m, uint16_t type, const void *data, size_t len)
{
    struct rtattr *rta = extend(m, RTA_LENGTH(len));

    rta->rta_type = type;
    rta->rta_len = (uint16_t)RTA_LENGTH(len);
    if (len > 0)
        memcpy(RTA_DATA(rta), data, len);
}

static void attr_str(struct message *m, uint16_t type, const char *s)
{
    attr(m, type, s, strlen(s) + 1);
}

static struct rtattr *nest_begin(struct message *m, uint16_t type)
{
    struct rtattr *rta = tail(m);

    attr(m, type, NULL, 0);
    return rta;
}

static void nest_end(struct message *m, struct rtattr *rta)
{
    rta->rta_len = (uint16_t)((char *)tail(m) - (char *)rta);
}

/* Send and wait for the acknowledgement. Returns 0 or an errno value. */
static int talk(int sock, struct message *m)
{
    union {
        struct nlmsghdr head;
        char bytes[4096];
    } answer;
    ssize_t n;

    if (send(sock, m->u.bytes, m->u.head.nlmsg_len, 0) < 0)
        return errno;
    do {
        n = recv(sock, answer.bytes, sizeof(answer.bytes), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    if ((size_t)n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || answer.head.nlmsg_type != NLMSG_ERROR)
        return EPROTO;
    return -((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
}

int rtnl_open(struct err *err)
{
    int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (sock < 0)
        return err_sys(err, errno, "cannot open a netlink socket");
    return sock;
}

uint32_t rtnl_index(int sock, const char *name)
{
    union {
        struct nlmsghdr head;
        char bytes[8192];
    } answer;
    struct message m;

    begin(&m, RTM_GETLINK, 0);
    m.u.head.nlmsg_flags = NLM_F_REQUEST;
    extend(&m, sizeof(struct ifinfomsg));
    attr_str(&m, IFLA_IFNAME, name);
    if (send(sock, m.u.bytes, m.u.head.nlmsg_len, 0) < 0)
        return 0;
    ssize_t n = recv(sock, answer.bytes, sizeof(answer.bytes), 0);
    if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct ifinfomsg)) ||
        answer.head.nlmsg_type != RTM_NEWLINK)
        return 0;
    return (uint32_t)((struct ifinfomsg *)NLMSG_DATA(&answer.head))->ifi_index;
}

int rtnl_link_set(int sock, const char *name, bool up, struct err *err)
{
    struct message m;
    int errnum;

    begin(&m, RTM_NEWLINK, 0);
    struct ifinfomsg *info = extend(&m, sizeof(*info));
    info->ifi_change = IFF_UP;
    info->ifi_flags = up ? IFF_UP : 0;
    attr_str(&m, IFLA_IFNAME, name);
    errnum = talk(sock, &m);
    if (errnum == ENODEV)
        return err_set(err, ERR_NOT_FOUND, "no network link %s", name);
    return errnum == 0 ? 0 : err_sys(err, errnum, "cannot switch link %s", name);
}

int rtnl_link_delete(int sock, const char *name, struct err *err)
{
    struct message m;
    int errnum;

    begin(&m, RTM_DELLINK, 0);
    extend(&m, sizeof(struct ifinfomsg));
    attr_str(&m, IFLA_IFNAME, name);
    errnum = talk(sock, &m);
    if (errnum == 0 || errnum == ENODEV)
        return 0;
    return err_sys(err, errnum, "cannot remove link %s", name);
}

int rtnl_veth_add(int sock, const char *name, const char *peer, int peer_netns, uint32_t mtu,
                  struct err *err)
{
    struct message m;
    int errnum;

    begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    extend(&m, sizeof(struct ifinfomsg));
    attr_str(&m, IFLA_IFNAME, name);
    attr(&m, IFLA_MTU, &mtu, sizeof(mtu));
    struct rtattr *info = nest_begin(&m, IFLA_LINKINFO);
    attr_str(&m, IFLA_INFO_KIND, "veth");
    struct rtattr *data = nest_begin(&m, IFLA_INFO_DATA);
    struct rtattr *other = nest_begin(&m, VETH_INFO_PEER);
    extend(&m, sizeof(struct ifinfomsg));
    attr_str(&m, IFLA_IFNAME, peer);
    attr(&m, IFLA_MTU, &mtu, sizeof(mtu));
    attr(&m, IFLA_NET_NS_FD, &peer_netns, sizeof(peer_netns));
    nest_end(&m, other);
    nest_end(&m, data);
    nest_end(&m, info);
    errnum = talk(sock, &m);
    if (errnum == EOPNOTSUPP)
        return err_set(err, ERR_UNSUPPORTED, "this kernel has no veth links: modprobe veth");
    return errnum == 0 ? 0 : err_sys(err, errnum, "cannot create veth %s", name);
}

int rtnl_address_add(int sock, const char *name, uint32_t address, uint8_t prefix, struct err *err)
{
    uint32_t net_order = htonl(address);
    struct message m;
    int errnum;

    begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    struct ifaddrmsg *info = extend(&m, sizeof(*info));
    info->ifa_family = AF_INET;
    info->ifa_prefixlen = prefix;
    info->ifa_index = rtnl_index(sock, name);
    attr(&m, IFA_LOCAL, &net_order, sizeof(net_order));
    attr(&m, IFA_ADDRESS, &net_order, sizeof(net_order));
    errnum = talk(sock, &m);
    return errnum == 0 ? 0 : err_sys(err, errnum, "cannot give link %s an address", name);
}

int rtnl_route_default(int sock, const char *name, uint32_t gateway, struct err *err)
{
    uint32_t net_order = htonl(gateway), index = rtnl_index(sock, name);
    struct message m;
    int errnum;

    begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
    struct rtmsg *route = extend(&m, sizeof(*route));
    route->rtm_family = AF_INET;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_scope = RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_UNICAST;
    attr(&m, RTA_GATEWAY, &net_order, sizeof(net_order));
    attr(&m, RTA_OIF, &index, sizeof(index));
    errnum = talk(sock, &m);
    return errnum == 0 ? 0 : err_sys(err, errnum, "cannot set the default route over %s", name);
}
