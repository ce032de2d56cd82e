/*
 * server/loop/address.h - listening addresses to socket addresses.
 */
#ifndef SANDPIT_LOOP_ADDRESS_H
#define SANDPIT_LOOP_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "server/base/err.h"

#define ADDRESS_MAX 2 /* "localhost" and "" stand for one of each family */

struct address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sa;
};

/*
 * Parse "HOST:PORT" as listener.h describes it. Pure; no name is looked up. Returns 0 and COUNT
 * addresses in OUT, or -1 with ERR_INVALID naming TEXT.
 */
int address_parse(const char *text, struct address out[ADDRESS_MAX], size_t *count,
                  struct err *err);
void address_set_port(struct address *address, uint16_t port);
uint16_t address_port(const struct address *address);

#endif
