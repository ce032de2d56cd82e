/*
 * server/base/chunked.h - where a chunked body ends (RFC 9112 section 7.1), byte by byte.
 *
 * The proxy passes chunked bodies on as they came and follows the framing only; uploads take it
 * out. Strict: CRLF line ends, bounded lines, trailer fields well-formed. Pure; one owner.
 */
#ifndef SANDPIT_BASE_CHUNKED_H
#define SANDPIT_BASE_CHUNKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_LINE_MAX_BYTES 4096            /* size and extensions of one chunk */
#define CHUNK_TRAILERS_MAX_BYTES (16 * 1024) /* all trailer fields together */

enum chunked_state {
    CHUNKED_SIZE_FIRST, /* zero: a fresh struct is ready */
    CHUNKED_SIZE,
    CHUNKED_EXTENSION,
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_LINE, /* start of a trailer line or of the last, empty one */
    CHUNKED_NAME,
    CHUNKED_VALUE,
    CHUNKED_VALUE_LF,
    CHUNKED_END_LF,
    CHUNKED_DONE,
    CHUNKED_BAD,
};

struct chunked {
    enum chunked_state state;
    uint32_t line; /* bytes of the current size line, or of the trailers so far */
    uint64_t left; /* bytes left in the current chunk */
};

/*
 * Feed LEN bytes. Returns how many of them belong to the body (fewer than LEN only at its end), and
 * sets *BAD when they are malformed. Unless KEPT is NULL the framing is taken out of DATA: its
 * first *KEPT bytes are then the content.
 */
size_t chunked_feed(struct chunked *chunked, char *data, size_t len, size_t *kept, bool *bad);

#endif
