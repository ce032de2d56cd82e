/*
 * A fast client of envd's process.Process that checks every byte, and the programs it starts.
 *
 *   process_client PORT stdout CODEC BYTES        one process, its output
 *   process_client PORT stdin HOW CODEC BYTES     one process, its input; HOW: send, stream
 *   process_client PORT many CODEC COUNT BYTES    that many processes at once
 *   process_client PORT lines CODEC COUNT         short lines, each a write() of its own
 *   process_client PORT readers CODEC COUNT BYTES readers of one process, every third one slow
 *   process_client PORT replay CODEC COUNT BYTES  readers that come back at random offsets
 *   process_client PORT idle CODEC COUNT          processes that say nothing; waits for its stdin
 *   process_client write SEED BYTES | steps SEED BYTES | lines COUNT | check SEED BYTES | idle
 *
 * CODEC: json, proto. The HTTP side and the pattern are in process_stream.c.
 * Prints "ok …" with figures; status 1 and what was wrong otherwise.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/process_stream.h"

#define WRITE_BYTES (64 << 10)

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0')
        die("not a number: %s", text);
    return value;
}

/* ---- What runs in the sandbox ---- */

static int run_write(uint64_t seed, uint64_t at, uint64_t bytes)
{
    while (at < bytes) {
        size_t want = bytes - at < WRITE_BYTES ? (size_t)(bytes - at) : WRITE_BYTES;
        ssize_t n = write(1, pattern(seed, at), want);

        if (n < 0)
            return 3;
        at += (uint64_t)n;
    }
    return 0;
}

/* So much for each byte of its input. */
static int run_steps(uint64_t seed, uint64_t bytes)
{
    uint64_t at = 0;
    char byte;

    for (; read(0, &byte, 1) == 1; at += bytes) {
        if (run_write(seed, at, at + bytes) != 0)
            return 3;
    }
    return 0;
}

static int run_lines(uint64_t count)
{
    char line[32];

    for (uint64_t i = 1; i <= count; i++) {
        size_t len = line_text(i, line);

        if (write(1, line, len) != (ssize_t)len)
            return 3;
    }
    return 0;
}

static int run_check(uint64_t seed, uint64_t bytes)
{
    uint8_t *in = get_memory(CHUNK_MAX);
    uint64_t at = 0;
    ssize_t n;

    while ((n = read(0, in, CHUNK_MAX)) > 0) {
        if (memcmp(in, pattern(seed, at), (size_t)n) != 0)
            return 4;
        at += (uint64_t)n;
    }
    free(in);
    return n < 0 ? 5 : at != bytes ? 6 : 0;
}

/* ---- Cases ---- */

static const char *text_of(uint64_t value, char *room)
{
    sprintf(room, "%" PRIu64, value);
    return room;
}

static void start_writer(struct stream *stream, uint64_t seed, uint64_t bytes)
{
    char a[24], b[24];
    const char *argv[] = {"write", text_of(seed, a), text_of(bytes, b)};

    stream->seed = seed;
    stream_start(stream, false, 3, argv);
}

static void case_stdout(uint64_t bytes)
{
    struct stream stream = {0};
    double began, took;

    start_writer(&stream, 1, bytes);
    stream_wait_started(&stream);
    began = now();
    while (stream_read(&stream))
        ;
    took = now() - began;
    stream_expect(&stream, bytes);
    printf("ok %.0f MB/s, %zu events\n", (double)bytes / took / 1e6, stream.events);
}

static void case_many(uint64_t count, uint64_t bytes)
{
    struct stream *streams = calloc(count, sizeof(*streams));
    double began = now();

    for (uint64_t i = 0; i < count; i++)
        start_writer(&streams[i], i, bytes + i);
    stream_run_all(streams, count);
    for (uint64_t i = 0; i < count; i++)
        stream_expect(&streams[i], bytes + i);
    printf("ok %" PRIu64 " processes in %.2f s\n", count, now() - began);
}

static void case_idle(uint64_t count)
{
    static const char *const argv[] = {"idle"};
    struct stream *streams = calloc(count, sizeof(*streams));
    char byte;

    for (uint64_t i = 0; i < count; i++) {
        if (i == 0)
            stream_start(&streams[i], true, 1, argv);
        else
            stream_connect(&streams[i], streams[0].pid, "");
        stream_wait_started(&streams[i]);
        free(streams[i].in);
        free(streams[i].message);
    }
    printf("ok %u\n", streams[0].pid);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
}

static void case_lines(uint64_t count)
{
    char a[24];
    const char *argv[] = {"lines", text_of(count, a)};
    struct stream stream = {.lines = true};
    double began = now();

    stream_start(&stream, false, 2, argv);
    while (stream_read(&stream))
        ;
    stream_expect(&stream, stream.at);
    if (stream.line != count || stream.column != 0)
        die("%" PRIu64 " lines of %" PRIu64, stream.line, count);
    printf("ok %" PRIu64 " lines in %.2f s\n", count, now() - began);
}

/* ---- Input ---- */

/* Send one unary request on FD and expect 200. */
static void unary(int fd, const char *method, const char *body, size_t len)
{
    char head[256], answer[1024];
    size_t got = 0;
    int n = snprintf(head, sizeof(head),
                     "POST /process.Process/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n"
                     "Content-Type: application/%s\r\n\r\n",
                     method, len, json ? "json" : "proto");

    send_all(fd, head, (size_t)n);
    send_all(fd, body, len);
    do {
        ssize_t more = recv(fd, answer + got, sizeof(answer) - 1 - got, 0);

        if (more <= 0)
            die("%s: cut", method);
        got += (size_t)more;
        answer[got] = '\0';
    } while (strstr(answer, "\r\n\r\n") == NULL);
    if (memcmp(answer, "HTTP/1.1 200", 12) != 0)
        die("%s: %s", method, answer);
}

/* A SendInputRequest, or the data event of a StreamInputRequest, of LEN bytes of the pattern. */
static size_t input_message(char *out, uint32_t pid, bool streamed, uint64_t at, size_t len)
{
    const uint8_t *data = pattern(3, at);
    char inner[32], *room;
    size_t n = 0;

    if (json) {
        n = (size_t)sprintf(out,
                            streamed ? "{\"data\":{\"input\":{\"stdin\":\""
                                     : "{\"process\":{\"pid\":%u},\"input\":{\"stdin\":\"",
                            pid);
        n += to_base64(data, len, out + n);
        n += (size_t)sprintf(out + n, streamed ? "\"}}}" : "\"}}");
        return n;
    }
    room = get_memory(len + 64);
    if (streamed) {
        n = proto_field(room, 1, (const char *)data, len); /* ProcessInput */
        n = proto_field(room, 2, room, n);                 /* DataEvent */
        n = proto_field(out, 2, room, n);
    } else {
        n = proto_field(out, 1, inner, proto_selector(inner, pid));
        n += proto_field(out + n, 2, room, proto_field(room, 1, (const char *)data, len));
    }
    free(room);
    return n;
}

static void send_chunk(int fd, const char *message, size_t len)
{
    char head[32];
    int n = sprintf(head, "%zx\r\n", len + 5);
    uint8_t envelope[5] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                           (uint8_t)len};

    send_all(fd, head, (size_t)n);
    send_all(fd, envelope, 5);
    send_all(fd, message, len);
    send_all(fd, "\r\n", 2);
}

static void feed_stream(uint32_t pid, uint64_t bytes, char *message)
{
    char head[256], inner[32], answer[1024] = "";
    int fd = dial(), n;
    size_t len;

    n = sprintf(head,
                "POST /process.Process/StreamInput HTTP/1.1\r\nHost: x\r\n"
                "Transfer-Encoding: chunked\r\nContent-Type: application/connect+%s\r\n\r\n",
                json ? "json" : "proto");
    send_all(fd, head, (size_t)n);
    if (json) {
        len = (size_t)sprintf(message, "{\"start\":{\"process\":{\"pid\":%u}}}", pid);
    } else {
        len = proto_field(inner, 1, inner, proto_selector(inner, pid));
        len = proto_field(message, 1, inner, len);
    }
    send_chunk(fd, message, len);
    for (uint64_t at = 0; at < bytes;) {
        size_t want = bytes - at < CHUNK_MAX ? (size_t)(bytes - at) : CHUNK_MAX;

        send_chunk(fd, message, input_message(message, pid, true, at, want));
        at += want;
    }
    send_all(fd, "0\r\n\r\n", 5);
    if (recv(fd, answer, sizeof(answer) - 1, 0) <= 0 || memcmp(answer, "HTTP/1.1 200", 12) != 0 ||
        memmem(answer, sizeof(answer), "error", 5) != NULL)
        die("StreamInput: %s", answer);
    close(fd);
}

static void close_stdin(int fd, uint32_t pid)
{
    char message[64], inner[16];
    size_t len;

    if (json)
        len = (size_t)sprintf(message, "{\"process\":{\"pid\":%u}}", pid);
    else
        len = proto_field(message, 1, inner, proto_selector(inner, pid));
    unary(fd, "CloseStdin", message, len);
}

static void case_stdin(bool streamed, uint64_t bytes)
{
    char b[24], *message = get_memory(2 * CHUNK_MAX + 256);
    const char *argv[] = {"check", "3", text_of(bytes, b)};
    struct stream stream = {0};
    int fd = dial();
    double began;

    stream_start(&stream, true, 3, argv);
    stream_wait_started(&stream);
    began = now();
    if (streamed)
        feed_stream(stream.pid, bytes, message);
    for (uint64_t at = 0; !streamed && at < bytes;) {
        size_t want = bytes - at < CHUNK_MAX ? (size_t)(bytes - at) : CHUNK_MAX;

        unary(fd, "SendInput", message, input_message(message, stream.pid, false, at, want));
        at += want;
    }
    close_stdin(fd, stream.pid);
    while (stream_read(&stream))
        ;
    stream_expect(&stream, 0);
    printf("ok %.0f MB/s\n", (double)bytes / (now() - began) / 1e6);
}

/* ---- Readers ---- */

static void start_steps(struct stream *stream, uint64_t seed, uint64_t bytes)
{
    char a[24], b[24];
    const char *argv[] = {"steps", text_of(seed, a), text_of(bytes, b)};

    stream->seed = seed;
    stream_start(stream, true, 3, argv);
    stream_wait_started(stream);
}

static void case_readers(uint64_t count, uint64_t bytes)
{
    struct stream *streams = calloc(count, sizeof(*streams));
    char message[256];
    int fd = dial();

    start_steps(&streams[0], 3, bytes);
    for (uint64_t i = 1; i < count; i++) {
        streams[i].seed = 3;
        streams[i].slow = i % 3 == 0;
        stream_connect(&streams[i], streams[0].pid, "Sandpit-Replay-From: 0\r\n");
        stream_wait_started(&streams[i]);
    }
    unary(fd, "SendInput", message, input_message(message, streams[0].pid, false, 0, 1));
    close_stdin(fd, streams[0].pid);
    stream_run_all(streams, count);
    for (uint64_t i = 0; i < count; i++)
        stream_expect(&streams[i], bytes);
    printf("ok %" PRIu64 " readers of %" PRIu64 " bytes\n", count, bytes);
}

/* Read a little, leave, come back where one left or a little before. */
static void case_replay(uint64_t count, uint64_t bytes)
{
    struct stream first = {0}, stream;
    uint64_t step = bytes / count, at = 0, back = 0;
    unsigned seed = 42;
    char message[256], header[64];
    int fd = dial();

    start_steps(&first, 9, step);
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t goal = at + (uint64_t)rand_r(&seed) % (2 * step);

        unary(fd, "SendInput", message, input_message(message, first.pid, false, 0, 1));
        if (i == count)
            close_stdin(fd, first.pid);
        if (i == 1) {
            unsigned pid = first.pid;

            stream_close(&first); /* nobody listens now and then */
            first.pid = pid;
        }
        if (goal + 2 * step < i * step)
            goal = i * step - step; /* or what we want is gone */
        if (goal > i * step)
            goal = i * step;
        stream = (struct stream){.seed = 9, .at = at - back};
        sprintf(header, "Sandpit-Replay-From: stdout=%" PRIu64 "\r\n", stream.at);
        stream_connect(&stream, first.pid, header);
        while (stream.at < goal || !stream.started || (i == count && !stream.finished))
            stream_read(&stream);
        at = stream.at;
        if (i == count)
            stream_expect(&stream, count * step);
        stream_close(&stream);
        back = at < step ? 0 : (uint64_t)rand_r(&seed) % step;
    }
    printf("ok %" PRIu64 " readers one after the other\n", count);
}

/* argv[2] on: CASE and its arguments. */
static int run_case(int argc, char **argv)
{
    const char *name = argv[2], *codec = argv[strcmp(name, "stdin") == 0 ? 4 : 3];
    uint64_t a, b;

    json = strcmp(codec, "json") == 0;
    if (!json && strcmp(codec, "proto") != 0)
        die("no codec: %s", codec);
    a = strcmp(name, "stdin") != 0 && argc > 5 ? number(argv[4]) : 0;
    b = number(argv[argc - 1]);
    if (strcmp(name, "stdout") == 0)
        case_stdout(b);
    else if (strcmp(name, "stdin") == 0)
        case_stdin(strcmp(argv[3], "stream") == 0, b);
    else if (strcmp(name, "many") == 0)
        case_many(a, b);
    else if (strcmp(name, "lines") == 0)
        case_lines(b);
    else if (strcmp(name, "readers") == 0)
        case_readers(a, b);
    else if (strcmp(name, "replay") == 0)
        case_replay(a, b);
    else if (strcmp(name, "idle") == 0)
        case_idle(b);
    else
        die("no case: %s", name);
    return 0;
}

int main(int argc, char **argv)
{
    char path[512];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n < 0 || argc < 2)
        die("usage: see the head of process_client.c");
    path[n] = '\0';
    self = path;
    if (argc == 4 && strcmp(argv[1], "write") == 0)
        return run_write(number(argv[2]), 0, number(argv[3]));
    if (argc == 4 && strcmp(argv[1], "steps") == 0)
        return run_steps(number(argv[2]), number(argv[3]));
    if (argc == 3 && strcmp(argv[1], "lines") == 0)
        return run_lines(number(argv[2]));
    if (argc == 4 && strcmp(argv[1], "check") == 0)
        return run_check(number(argv[2]), number(argv[3]));
    if (argc == 2 && strcmp(argv[1], "idle") == 0)
        return read(0, path, 1) < 0;
    if (argc < 5)
        die("usage: see the head of process_client.c");
    port = (uint16_t)number(argv[1]);
    return run_case(argc, argv);
}
