/*
 * server/engine/local/netns.h - a sandbox's network namespace.
 *
 * Owned by the host's user namespace, so that root inside cannot change it. Launcher and its
 * children only: single-threaded processes, because setns moves the calling thread.
 */
#ifndef SANDPIT_ENGINE_LOCAL_NETNS_H
#define SANDPIT_ENGINE_LOCAL_NETNS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/err.h"

/*
 * Move the caller into a new namespace with loopback up, all ports and ping open to everybody in
 * it (ids from ROOT_ID), and a socket that listens on 0.0.0.0:PORT. Returns the socket
 * (non-blocking) or -1.
 */
int netns_new(uint32_t root_id, uint16_t port, struct err *err);

/*
 * COUNT TCP sockets into SOCKS, inside the namespace that FD names (a nsfs file or a pidfd); the
 * caller is back in HOME afterwards. Non-blocking. Returns how many there are, 1 at least, or -1.
 */
int netns_sockets(int fd, int home, bool ipv6, int *socks, int count, struct err *err);

#endif
