/*
 * server/gateway/hello.h - the server name in the first bytes of a TLS connection.
 *
 * Pure: no I/O, no allocation, no globals. Any thread. Strict: what two parsers could read
 * differently is refused, as the name decides who may be reached.
 * Source: RFC 8446 sections 4.1.2, 5.1; RFC 6066 section 3; draft-ietf-tls-esni for ECH.
 */
#ifndef SANDPIT_GATEWAY_HELLO_H
#define SANDPIT_GATEWAY_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELLO_MAX_BYTES 16384 /* a whole ClientHello, fragments put together */
#define HELLO_NAME_SIZE 254   /* with the NUL */

enum hello_result {
    HELLO_NONE, /* this is no TLS */
    HELLO_MORE, /* so far it is; more bytes are needed */
    HELLO_BAD,  /* TLS that is malformed, too long or ambiguous */
    HELLO_DONE, /* *OUT is filled */
};

struct hello {
    char name[HELLO_NAME_SIZE]; /* lower case, no final dot; "" when there is none of use */
    bool encrypted;             /* ECH is offered: the name is not the one that counts, so "" */
};

/* Look at DATA (LEN bytes, untrusted), the beginning of a stream. */
enum hello_result hello_parse(const uint8_t *data, size_t len, struct hello *out);

#endif
