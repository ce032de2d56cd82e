/*
 * tests/bench/load_reply.h - reads one HTTP/1.1 response and counts what it carries.
 *
 * The bytes of a Connect stream's data events can be counted apart from their wrapping, so that a
 * rate is one of the process's output and not of base64. No allocation but that of an envelope.
 */
#ifndef SANDPIT_BENCH_LOAD_REPLY_H
#define SANDPIT_BENCH_LOAD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_HEAD_MAX 8192

enum payload { PAYLOAD_NONE, PAYLOAD_JSON, PAYLOAD_PROTO };

struct reply {
    enum payload payload_kind; /* set once, kept by reply_reset */
    bool head_only;            /* of HEAD: no body, whatever the length says */

    bool in_body;
    bool done;
    bool closes; /* the server ends the connection after it */
    bool chunked;
    int status;
    uint64_t left;    /* of the body or of this chunk */
    int chunk_state;  /* enum chunk_state in load_reply.c */
    uint64_t body;    /* bytes of the body so far, without the chunks' frames */
    uint64_t payload; /* bytes in data events so far */
    uint32_t events;  /* envelopes seen */

    char head[REPLY_HEAD_MAX];
    size_t head_len;
    unsigned char *envelope; /* the one being received */
    size_t envelope_len, envelope_size;
};

void reply_reset(struct reply *reply);

/* Take LEN bytes. Returns how many belong to this reply (fewer once done), -1 when malformed. */
ptrdiff_t reply_feed(struct reply *reply, const char *bytes, size_t len);

#endif
