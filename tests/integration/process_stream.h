/*
 * tests/integration/process_stream.h - streams of process.Process whose every byte is checked.
 *
 * A stream's output must be the pattern of its seed: random bytes with a prime period, so that
 * bytes that are lost, doubled or moved show. It is compared, not decoded: JSON with the base64
 * that must be there. What is wrong ends the program.
 */
#ifndef TESTS_PROCESS_STREAM_H
#define TESTS_PROCESS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_MAX (64 << 10) /* bytes of output in one event, at most */

struct stream {
    int fd;
    uint64_t seed;
    uint64_t at;   /* of the output: what has come */
    bool lines;    /* the output is of `lines` instead of the pattern */
    uint64_t line; /* the number of the line that AT is in, and 1 less */
    size_t column;
    bool slow;
    uint32_t pid;
    bool started;
    bool ended;    /* an end event came */
    bool finished; /* the end envelope too */
    int status;
    size_t events;
    char *in; /* raw bytes */
    size_t in_len;
    size_t in_cap;
    bool head_done;
    size_t chunk_left; /* of the HTTP chunk */
    bool chunk_crlf;
    char *message; /* envelope head and payload, as far as they are there */
    size_t message_len;
};

extern bool json;
extern uint16_t port;
extern const char *self; /* the program that streams start */

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);
void *get_memory(size_t size);

/* Bytes of the pattern from OFFSET of SEED on: at least CHUNK_MAX of them. */
const uint8_t *pattern(uint64_t seed, uint64_t offset);
/* Returns the length. */
size_t to_base64(const uint8_t *in, size_t len, char *out);
/* Line N of `lines`, numbered from 1. Returns its length. */
size_t line_text(uint64_t n, char out[32]);

int dial(void);
void send_all(int fd, const void *data, size_t len);
/* A protobuf field with a length; a ProcessSelector of PID. They return their lengths. */
size_t proto_field(char *out, unsigned id, const char *data, size_t len);
size_t proto_selector(char *out, uint32_t pid);

/* Run SELF with these arguments. */
void stream_start(struct stream *stream, bool with_stdin, int argc, const char *const *argv);
/* HEADER: lines that are added, or "". */
void stream_connect(struct stream *stream, uint32_t pid, const char *header);
/* Read once. False: the stream is over. */
bool stream_read(struct stream *stream);
void stream_wait_started(struct stream *stream);
void stream_close(struct stream *stream);
/* Read all of COUNT streams to their ends. */
void stream_run_all(struct stream *streams, size_t count);
/* It has come to its end, with status 0 and so much output. */
void stream_expect(const struct stream *stream, uint64_t bytes);

#endif
