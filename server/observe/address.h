/*
 * server/observe/address.h - addresses that the outside has no business to make this server call.
 *
 * Pure. Source: RFC 6890 and the IANA special-purpose address registries.
 */
#ifndef SANDPIT_OBSERVE_ADDRESS_H
#define SANDPIT_OBSERVE_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Loopback, private, link-local, shared, multicast, reserved; also of an IPv4 inside an IPv6. */
bool address_is_private(const struct sockaddr *address);

#endif
