/*
 * server/engine/local/gateway_client.h - the launcher's side of gateway.h: telling it policies.
 *
 * gateway_call waits for the answer, so only children of the launcher call it.
 */
#ifndef SANDPIT_ENGINE_LOCAL_GATEWAY_CLIENT_H
#define SANDPIT_ENGINE_LOCAL_GATEWAY_CLIENT_H

#include "server/engine/local/context.h"
#include "server/engine/local/gateway.h"

#define GATEWAY_WAIT_MS 5000 /* for an answer; a gateway that has ended is back sooner */

/* Higher than every one before, also across restarts of the launcher, but not of the machine. */
uint64_t gateway_version(void);

/* Send OP for ADDRESS (RULES: SET's memfd, else -1) and wait. ERR_BUSY: no answer in time. */
int gateway_call(const struct context *ctx, enum gateway_op op, uint32_t address, uint64_t version,
                 const char *id, int rules, struct err *err);
/* A connection that ends when the gateway does, or -1. */
int gateway_connect(const struct context *ctx, struct err *err);
/* The router's process: the listening socket of GATEWAY_SOCKET, or -1. */
int gateway_listen(const struct context *ctx, struct err *err);

#endif
