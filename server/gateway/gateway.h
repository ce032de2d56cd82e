/*
 * server/gateway/gateway.h - the egress gateway: a process that decides by name where a sandbox's
 * TCP may go, sets headers, and speaks to SOCKS5 proxies. docs/internals/gateway.md tells how.
 *
 * The engine starts it and tells it policies: server/engine/local/gateway.h is that contract.
 */
#ifndef SANDPIT_GATEWAY_GATEWAY_H
#define SANDPIT_GATEWAY_GATEWAY_H

#include <stdint.h>

#include "server/engine/local/gateway.h"

#define GATEWAY_RESOLVER_PORT 53

struct gateway_config {
    const char *ca_dir;     /* see ca.h; NULL: no CA, so headers cannot be set over TLS */
    const char *roots;      /* PEM of whom to trust upstream; NULL: the system's */
    const char *more_roots; /* PEM of further ones, or NULL */
    const char *empty_dir;  /* made, and its root folder for good; NULL: it keeps the host's */
    uint32_t resolver;      /* host order; 0: NET_RESOLVER */
    uint16_t resolver_port; /* 0: GATEWAY_RESOLVER_PORT */
};

/* A gateway_fn; CTX is a struct gateway_config. Never returns. */
void gateway_main(const void *ctx, const struct gateway_start *start) __attribute__((noreturn));

#endif
