/*
 * envd/connect/envelope.h - the framing of Connect streams: flags, length, payload.
 *
 * Pure and incremental. Any thread. Source: the Connect protocol, "Streaming RPCs": 1 flag byte,
 * 4 bytes of big-endian length, payload.
 */
#ifndef ENVD_CONNECT_ENVELOPE_H
#define ENVD_CONNECT_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"

#define ENVELOPE_HEAD_BYTES 5
#define ENVELOPE_COMPRESSED 0x01
#define ENVELOPE_END 0x02

struct envelope_reader {
    uint8_t head[ENVELOPE_HEAD_BYTES];
    size_t head_len;
    struct buf payload; /* born with the largest message */
};

/* A message of at most MAX bytes. */
void envelope_reader_init(struct envelope_reader *reader, size_t max);
void envelope_reader_clear(struct envelope_reader *reader);

/*
 * Take bytes of IN until an envelope is complete. *USED is how many were taken. Returns 1 with a
 * complete envelope (flags in head[0], payload in `payload`; call envelope_reader_next before the
 * next bytes), 0 when more bytes are needed, -1 with *ERR: ERR_LIMIT (too large), ERR_INVALID
 * (unknown flag).
 */
int envelope_reader_feed(struct envelope_reader *reader, const char *in, size_t in_len,
                         size_t *used, struct err *err);
void envelope_reader_next(struct envelope_reader *reader);
/* Bytes of an unfinished envelope are held. */
bool envelope_reader_partial(const struct envelope_reader *reader);

/* The first envelope of a whole body. */
struct envelope {
    uint8_t flags;
    const char *payload; /* borrowed from the body */
    size_t len;
    size_t used; /* bytes of the body, head included */
};

/* Returns 0, or -1: ERR_LIMIT (announces more than MAX), ERR_INVALID (incomplete, unknown flag). */
int envelope_split(const char *body, size_t body_len, size_t max, struct envelope *out,
                   struct err *err);

/* Write the head for LEN bytes of payload. */
void envelope_head(uint8_t out[ENVELOPE_HEAD_BYTES], uint8_t flags, uint32_t len);

#endif
