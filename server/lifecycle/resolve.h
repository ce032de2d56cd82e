/*
 * server/lifecycle/resolve.h - a host name's addresses, within a time.
 */
#ifndef SANDPIT_LIFECYCLE_RESOLVE_H
#define SANDPIT_LIFECYCLE_RESOLVE_H

#include <netdb.h>

/*
 * Where HOST leads by IPv4, by the server's own resolver, asked on a thread of its own for at most
 * WAIT_S seconds. Worker. To freeaddrinfo; NULL: not known, or not in time.
 */
struct addrinfo *resolve_name(const char *host, int wait_s);

#endif
