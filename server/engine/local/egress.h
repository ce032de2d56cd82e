/*
 * server/engine/local/egress.h - how sandboxes reach the internet, and nothing else.
 *
 * One network namespace, the *router*, is shared: each sandbox has a veth link to it, nftables in
 * it forwards from sandboxes to the uplink only and never to private, loopback, link-local or the
 * host's own addresses, and slirp4netns (a program in user space) is the uplink. A process of ours
 * holds the namespace and keeps slirp4netns running; it outlives the launcher, so that connections
 * of running sandboxes do. Launcher and its children only.
 *
 * A sandbox with rules of its own (netrules.h) has them in its own network namespace; the router
 * only knows which links are gatewayed (gateway.h) or may reach private networks, by interface:
 * a source address that is not the link's is dropped (rp_filter).
 *
 * Slot N's link is "sb<N>" in the router and "eth0" inside, 100.64.0.0 + 4N + 1 and + 2, /30. The
 * resolver is slirp4netns's 10.0.2.3. IPv4 only.
 * Source: slirp4netns(1), nft(8).
 */
#ifndef SANDPIT_ENGINE_LOCAL_EGRESS_H
#define SANDPIT_ENGINE_LOCAL_EGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/engine/local/context.h"
#include "server/engine/local/gateway.h"

#define EGRESS_RESOLVER "10.0.2.3"
/* Of all links: slirp4netns takes bytes by the packet, so big ones are ten times as fast. */
#define EGRESS_MTU 65520
#define EGRESS_MTU_TEXT "65520"

/*
 * Find the router that an earlier launcher left, or start one; sets ctx->router_netns and *PIDFD.
 * *ADOPTED: it was there. Waits until its rules are loaded. ERR_UNSUPPORTED names the program that
 * is missing; sandboxes then start without egress.
 */
int egress_start(struct context *ctx, int *pidfd, bool *adopted, struct err *err);
/* End the router. When the last sandbox is gone. */
void egress_stop(struct context *ctx, int pidfd);
/* Load the rules again, with the host's present addresses. In a child: moves it to the router. */
int egress_reload(const struct context *ctx, struct err *err);

/* Builder, inside the sandbox's namespace: make SLOT's link, still down inside. */
int egress_attach(const struct context *ctx, uint32_t slot, struct err *err);
/* Inside the sandbox's namespace: address, up and default route. ERR_NOT_FOUND: no link. */
int egress_inside_up(uint32_t slot, struct err *err);
/* In a child, which it moves to NETNS (a pidfd): make SLOT's link, down inside, if missing. */
int egress_link(const struct context *ctx, uint32_t slot, int netns, struct err *err);
/* In a child: switch SLOT's link inside NETNS (a pidfd) on or off; made when missing. */
int egress_switch(const struct context *ctx, uint32_t slot, int netns, bool on, struct err *err);

/*
 * nft's input: the router's rules, HOSTS (host-order addresses) as further forbidden ones, GATEWAY
 * the gateway's user. What loaded before stays but for the two sets of links that have rules of
 * their own.
 */
void egress_rules(struct buf *out, const uint32_t *hosts, size_t host_count, uid_t gateway);

/*
 * In a child, which it moves to the router: SLOT's link is in these sets from now on, and in no
 * other. GATEWAYED: its TCP goes to the gateway. OPENED: it may reach private networks; which ones
 * is up to the rules inside (netrules.h).
 */
int egress_mark(const struct context *ctx, uint32_t slot, bool gatewayed, bool opened,
                struct err *err);
/* The sandbox's address in SLOT, host order. */
uint32_t egress_address(uint32_t slot);
/* The gateway's user: ids that no sandbox and no server has. */
uid_t egress_gateway_uid(const struct context *ctx);

/* The router's life (egress_router.c): in a fork of the launcher, never returns. READY gets a
 * struct err, code ERR_NONE when the rules are loaded. */
void router_run(const struct context *ctx, int ready) __attribute__((noreturn));
/* In the router's process: write down that it is there, for the next launcher. */
int egress_record_router(const struct context *ctx, struct err *err);
/* Run ARGV with INPUT on its standard input. Returns 0, or -1 with its words in *ERR. */
int router_run_program(char *const argv[], const char *input, size_t input_len, struct err *err);
/* "slirp4netns" or "nft" where PATH or the sbin folders have it: to free(), or NULL. */
char *router_find_program(const char *name);

#endif
