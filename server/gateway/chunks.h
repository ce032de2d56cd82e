/*
 * server/gateway/chunks.h - where a chunked body ends, byte by byte, without changing it.
 *
 * Pure. Any thread. Strict: bare line feeds and blanks are refused, as two parsers could disagree
 * about the body's end. Source: RFC 9112 section 7.1.
 */
#ifndef SANDPIT_GATEWAY_CHUNKS_H
#define SANDPIT_GATEWAY_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNKS_LINE_MAX 8192 /* bytes of a size line with extensions, and of the trailer */

struct chunks { /* zero: at the beginning */
    int state;
    unsigned digits;
    uint64_t left; /* of the present chunk */
    size_t line;   /* bytes of the present line */
    bool field;    /* the present line of the trailer has a byte */
};

/*
 * How many of DATA (LEN bytes) belong to the body. *DONE: the last of them ends it. SIZE_MAX:
 * malformed.
 */
size_t chunks_scan(struct chunks *chunks, const char *data, size_t len, bool *done);

#endif
