/* Policies as they come from the launcher: trusted, but checked. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/gateway/flow.h"
#include "server/gateway/gateway.h"

struct peer {
    struct ev_io io;
    struct gateway *gateway;
};

static void tenant_key(uint32_t address, char out[9])
{
    snprintf(out, 9, "%08x", address);
}

struct tenant *tenant_find(struct gateway *gateway, uint32_t address)
{
    char key[9];

    tenant_key(address, key);
    return map_get(&gateway->tenants, key);
}

static struct tenant *tenant_get(struct gateway *gateway, uint32_t address)
{
    struct tenant *tenant = tenant_find(gateway, address);

    if (tenant != NULL)
        return tenant;
    tenant = mem_zalloc(sizeof(*tenant));
    tenant->address = address;
    tenant_key(address, tenant->key);
    map_put(&gateway->tenants, tenant->key, tenant);
    return tenant;
}

/* FLOW would not be allowed any more, or goes another way now. */
static bool is_forbidden(const struct flow *flow)
{
    const struct policy *policy = flow->tenant->policy;
    const char *why;

    if (flow->state == FLOW_PEEK || flow->state == FLOW_LINGER)
        return false;
    if (policy_decide(policy, flow->address, flow->port, flow->name, &why) != flow->verdict)
        return true;
    if (flow->kind == KIND_TLS && policy_headers(policy, flow->name) == NULL)
        return true;
    return flow->resolving_proxy != policy->has_proxy ||
           (flow->resolving_proxy && flow->state < FLOW_STREAM);
}

/* Give TENANT another policy (owned; NULL: none) and cut what it forbids. */
static void tenant_set(struct tenant *tenant, struct policy *policy, SSL_CTX *proxy_tls)
{
    struct flow *next;

    policy_free(tenant->policy);
    SSL_CTX_free(tenant->proxy_tls);
    tenant->policy = policy;
    tenant->proxy_tls = proxy_tls;
    for (struct flow *flow = tenant->flows; flow != NULL; flow = next) {
        next = flow->next;
        if (policy == NULL || is_forbidden(flow))
            flow_abort(flow);
    }
}

static char *read_policy(int fd, size_t *len, struct err *err)
{
    struct stat st;
    char *text;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > GATEWAY_POLICY_MAX_BYTES) {
        err_set(err, ERR_INVALID, "a policy has no text, or too much");
        return NULL;
    }
    *len = (size_t)st.st_size;
    text = mem_zalloc(*len + 1);
    if (pread(fd, text, *len, 0) == (ssize_t)*len)
        return text;
    free(text);
    err_set(err, ERR_INVALID, "a policy cannot be read");
    return NULL;
}

static int set_policy(struct tenant *tenant, int fd, struct err *err)
{
    struct policy *policy;
    SSL_CTX *proxy_tls = NULL;
    size_t len;
    char *text = read_policy(fd, &len, err);

    if (text == NULL)
        return -1;
    policy = policy_parse(text, len, err);
    secret_wipe(text, len);
    free(text);
    if (policy == NULL)
        return -1;
    if (policy->has_proxy && policy->proxy.ca != NULL) {
        proxy_tls = tls_client_context(policy->proxy.ca, err);
        if (proxy_tls == NULL) {
            policy_free(policy);
            return -1;
        }
    }
    tenant_set(tenant, policy, proxy_tls);
    return 0;
}

static int apply(struct gateway *gateway, const struct gateway_request *request, int fd,
                 struct err *err)
{
    struct tenant *tenant;

    if (request->magic != GATEWAY_MAGIC ||
        (request->op != GATEWAY_SET && request->op != GATEWAY_CLEAR))
        return err_set(err, ERR_INVALID, "a request that the gateway does not know");
    tenant = tenant_get(gateway, request->address);
    if (request->version < tenant->version)
        return 0;
    if (request->op == GATEWAY_SET && set_policy(tenant, fd, err) < 0)
        return -1;
    if (request->op == GATEWAY_CLEAR)
        tenant_set(tenant, NULL, NULL);
    tenant->version = request->version;
    memcpy(tenant->id, request->id, sizeof(tenant->id));
    tenant->id[sizeof(tenant->id) - 1] = '\0';
    return 0;
}

/* A packet and the descriptor beside it. Its size, 0 at the end, -1 with errno. */
static ssize_t receive(int sock, struct gateway_request *out, int *fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = out, .iov_len = sizeof(*out)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);

    *fd = -1;
    for (struct cmsghdr *at = n < 0 ? NULL : CMSG_FIRSTHDR(&message); at != NULL;
         at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_RIGHTS)
            memcpy(fd, CMSG_DATA(at), sizeof(*fd));
    }
    return n;
}

static void on_peer(struct ev_io *io)
{
    struct peer *peer = container_of(io, struct peer, io);
    struct gateway_request request;
    ssize_t n;
    int fd;

    while ((n = receive(io->fd, &request, &fd)) > 0) {
        struct gateway_reply reply = {.magic = GATEWAY_MAGIC};
        struct err err = {0};
        if (n != (ssize_t)sizeof(request))
            err_set(&err, ERR_INVALID, "a request of another size");
        else if (apply(peer->gateway, &request, fd, &err) < 0)
            log_err(LOG_WARN, "a policy was not taken", NULL, &err);
        fd_close(&fd);
        reply.code = err.code;
        memcpy(reply.msg, err.msg, sizeof(reply.msg));
        send(io->fd, &reply, sizeof(reply), MSG_NOSIGNAL);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ev_close(&peer->gateway->ev, io);
    free(peer); /* its descriptor is out of the epoll, and each round has one event of it */
}

static void on_control(struct ev_io *io)
{
    struct gateway *gateway = container_of(io, struct gateway, control_io);
    int fd;

    while ((fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = mem_zalloc(sizeof(*peer));
        peer->gateway = gateway;
        peer->io = (struct ev_io){.fd = fd, .fn = on_peer};
        if (ev_watch(&gateway->ev, &peer->io) < 0) {
            fd_close(&fd);
            free(peer);
        }
    }
}

int control_start(struct gateway *gateway, int listener)
{
    gateway->control_io = (struct ev_io){.fd = listener, .fn = on_control};
    return ev_watch(&gateway->ev, &gateway->control_io);
}
