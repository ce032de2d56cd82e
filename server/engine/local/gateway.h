/*
 * server/engine/local/gateway.h - the egress gateway, and what is said to it.
 *
 * The gateway is one unprivileged process in the router's network namespace (egress.h). Sandboxes
 * whose rules name hosts, transform headers or use a SOCKS5 proxy are *gatewayed*: nftables there
 * redirects all their TCP, but for DNS, to the gateway. Addresses alone, UDP and ICMP never get
 * here: nftables decides on them (netrules.h).
 *
 * Traffic. An accepted connection's peer address tells the sandbox: a source address cannot be
 * forged, as the router drops what comes over the wrong link. SO_ORIGINAL_DST tells where it
 * wanted to go. What the gateway then opens itself leaves by the router's uplink. nftables keeps
 * those connections, too, from other sandboxes, from the host's addresses and from what is never
 * reached; private networks are open to it, so the gateway itself refuses them unless the policy
 * names them (net_policy_address in server/model/network.h says so for every address).
 *
 * Life. The router's process starts it, again whenever it ends, with the same two sockets: then it
 * knows no policy, and refuses all until it is told. Whoever closes the control connection that
 * the launcher keeps open tells it that the gateway is gone; the launcher sends every policy again.
 * While no gateway runs, redirected connections wait in the listener's queue and are cut after.
 *
 * Control. A listening SOCK_SEQPACKET socket at <run-dir>/gateway.sock, root's alone. Each
 * connection carries requests, one packet each, answered in order; many connections may be open.
 * A connection without requests stays open. The peer is the launcher or a child of it: trusted.
 */
#ifndef SANDPIT_ENGINE_LOCAL_GATEWAY_H
#define SANDPIT_ENGINE_LOCAL_GATEWAY_H

#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"
#include "server/model/sandbox.h"

#define GATEWAY_PORT 15001 /* in the router's namespace, all its addresses; IPv4 */
#define GATEWAY_SOCKET "gateway.sock"
#define GATEWAY_MAGIC 0x53504731u /* "SPG1" */
#define GATEWAY_POLICY_MAX_BYTES (2 * 1024 * 1024)

enum gateway_op {
    GATEWAY_SET = 1, /* with a descriptor: the policy, a sealed memfd of JSON, read with pread */
    GATEWAY_CLEAR,   /* the sandbox has ended, or needs no gateway any more */
};

/*
 * A request is ignored, and answered with success, when VERSION is lower than the last one for the
 * same ADDRESS: policies that are sent again may be overtaken by new ones. CLEAR is remembered for
 * that as well.
 *
 * SET: from its answer on, new connections follow the new policy; those that it forbids are cut.
 * CLEAR: all connections of ADDRESS are cut.
 */
struct gateway_request {
    uint32_t magic;
    uint32_t op;      /* enum gateway_op */
    uint32_t address; /* the sandbox's, host order: 100.64.x.y */
    uint32_t zero;
    uint64_t version;
    char id[SANDBOX_ID_SIZE]; /* for the log */
};

struct gateway_reply {
    uint32_t magic;
    uint32_t code; /* enum err_code; ERR_INVALID: the policy is not understood, nothing changed */
    char msg[ERR_MSG_SIZE];
};

/*
 * The policy, as text: the effective rules of one sandbox. The members are those of the API's
 * NetworkConfig (platform-api 4), already validated, and absent when they are not set:
 *
 *   allowOut     addresses, CIDRs, host names ("*.example.com")
 *   denyOut      addresses and CIDRs; "0.0.0.0/0" is among them when internet access is off
 *   dnsServers   IPv4 addresses; TCP to their port 53 is allowed
 *   egressProxy  {address, username, password, tls}
 *   rules        {host: [{transform: {headers: {name: value}}}]}, secrets already filled in
 *
 * net_policy_parse (server/model/network.h) reads the addresses and names; the gateway reads the
 * last two itself.
 */

/* What the gateway is started with. */
struct gateway_start {
    int control;  /* listening, non-blocking SOCK_SEQPACKET; survives the process */
    int listener; /* listening, non-blocking TCP on GATEWAY_PORT; survives the process */
    uid_t uid;    /* whom to become */
    gid_t gid;
};

/*
 * What is given to the engine (local.h, struct local_config): be the gateway, in a process forked
 * for it: still root, in the router's network namespace, with the host's file system, no descriptor
 * open but those of START, 0 and 1 (/dev/null) and 2 (the log). It reads what only root may,
 * becomes START's user for good, asks to be killed when its parent ends (PR_SET_PDEATHSIG: a change
 * of user clears it, so after that) and serves. Must not return.
 */
typedef void (*gateway_fn)(const void *ctx, const struct gateway_start *start);

#endif
