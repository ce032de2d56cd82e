/*
 * server/gateway/resolver.h - names to IPv4 addresses, asked of one server over UDP.
 *
 * The gateway never believes what a sandbox was told: it asks itself. Each question has a socket,
 * so a port, and an id of its own. Answers are kept for their time to live, 1 to 300 s. Loop only.
 */
#ifndef SANDPIT_GATEWAY_RESOLVER_H
#define SANDPIT_GATEWAY_RESOLVER_H

#include <stdint.h>

#include "server/gateway/dns.h"
#include "server/gateway/ev.h"

#define RESOLVER_CACHE_MAX 4096    /* names */
#define RESOLVER_QUESTIONS_MAX 512 /* at once */

struct resolver;
struct question;

struct resolver_wait {
    struct resolver_wait *next;
    struct question *question; /* NULL: not waiting */
    /* ANSWER is borrowed; NULL with WHY, a static text. */
    void (*done)(struct resolver_wait *wait, const struct dns_answer *answer, const char *why);
};

/* SERVER is an address in host order. */
struct resolver *resolver_new(struct ev *ev, uint32_t server, uint16_t port);
/* WAIT->done is called exactly once, maybe at once, unless it is cancelled before. */
void resolver_ask(struct resolver *resolver, const char *name, struct resolver_wait *wait);
void resolver_cancel(struct resolver_wait *wait);
/* On each tick: ask again, give up. */
void resolver_tick(struct resolver *resolver);

#endif
