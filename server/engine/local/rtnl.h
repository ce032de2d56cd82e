/*
 * server/engine/local/rtnl.h - the few rtnetlink requests that sandboxes need.
 *
 * A socket acts in the network namespace it was opened in. Blocking, each request is acknowledged.
 * Launcher and its children only.
 * Source: rtnetlink(7), Linux include/uapi/linux/if_link.h.
 */
#ifndef SANDPIT_ENGINE_LOCAL_RTNL_H
#define SANDPIT_ENGINE_LOCAL_RTNL_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"

/* A socket in the calling thread's namespace, or -1 with *ERR set. */
int rtnl_open(struct err *err);
/* The index of link NAME, 0 when there is none. */
uint32_t rtnl_index(int sock, const char *name);
/* Switch a link on or off. ERR_NOT_FOUND when there is no such link. */
int rtnl_link_set(int sock, const char *name, bool up, struct err *err);
/* Remove a link; none by that name is no error. */
int rtnl_link_delete(int sock, const char *name, struct err *err);
/* A veth pair: NAME here, PEER in the namespace PEER_NETNS. Both are down; packets of MTU bytes. */
int rtnl_veth_add(int sock, const char *name, const char *peer, int peer_netns, uint32_t mtu,
                  struct err *err);
/* Give NAME the IPv4 ADDRESS (host order) with PREFIX bits. Already there is no error. */
int rtnl_address_add(int sock, const char *name, uint32_t address, uint8_t prefix, struct err *err);
/* Default IPv4 route by GATEWAY (host order) over NAME. Already there is no error. */
int rtnl_route_default(int sock, const char *name, uint32_t gateway, struct err *err);

#endif
