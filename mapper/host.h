/*
 * mapper/host.h - which sandbox and port a request is for.
 *
 * Pure: no I/O, no allocation, no globals. Any thread.
 * Source: routing.md section 2; SDK getHost(), "<port>-<sandbox id>.<domain>"; RFC 9110 7.2.
 */
#ifndef SANDPIT_MAPPER_HOST_H
#define SANDPIT_MAPPER_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/model/sandbox.h"

#define HOST_DEFAULT_PORT 80 /* a name without "<port>-" */
#define HOST_MAX_BYTES 255

enum host_kind {
    HOST_SANDBOX, /* "<port>-<id>[-<client>].<domain>", "<id>.<domain>", or shared with headers */
    HOST_API,     /* "api.<domain>" */
};

struct host_target {
    enum host_kind kind;
    char id[SANDBOX_ID_SIZE]; /* NUL-terminated, lower case; "" for HOST_API */
    uint16_t port;
};

/*
 * Parse HOST (HOST_LEN bytes, untrusted, no NUL needed) under DOMAIN ("box.test" or
 * "box.test:3443"; its port is ignored; NULL: any domain). ID_HEADER and PORT_HEADER are the values
 * of E2b-Sandbox-Id and E2b-Sandbox-Port, NULL when absent; they count only on "sandbox.<domain>",
 * "localhost" and IP literals, never override a per-sandbox host. A label without a port must be a
 * whole id ('i' and 20 of [a-z0-9]). A trailing dot, letter case and ":port" of HOST are ignored;
 * an id in ID_HEADER is lower case. "api.<domain>" is HOST_API.
 * Returns 0 and fills *OUT, or -1 with *ERR set and *OUT untouched; msg is routing.md's body:
 *   ERR_INVALID "Invalid host", "Invalid sandbox ID", "missing header", "Invalid sandbox port"
 * A number of 64 bits outside 1..65535 is ERR_NOT_FOUND with the id filled in (closed port, not a
 * bad host): then, and only then, *OUT holds the id and port 0.
 */
int host_parse(const char *host, size_t host_len, const char *domain, const char *id_header,
               const char *port_header, struct host_target *out, struct err *err);

#endif
