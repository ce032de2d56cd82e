#include "tests/integration/process_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 262139 /* prime */
#define TABLE (PERIOD + CHUNK_MAX + 3)
#define MESSAGE_MAX (1 << 20)

bool json;
uint16_t port;
const char *self;

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    printf("FAILED: ");
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    exit(1);
}

void *get_memory(size_t size)
{
    void *memory = malloc(size);

    if (memory == NULL)
        die("no memory");
    return memory;
}

/* ---- The pattern ---- */

static uint8_t plain[TABLE];

/* Bytes of the pattern from OFFSET of SEED on: at least CHUNK_MAX of them. */
const uint8_t *pattern(uint64_t seed, uint64_t offset)
{
    if (plain[0] == 0) {
        uint64_t x = 88172645463325252ULL;

        for (size_t i = 0; i < PERIOD; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            plain[i] = (uint8_t)(x >> 32);
        }
        plain[0] = 1;
        memcpy(plain + PERIOD, plain, TABLE - PERIOD);
    }
    return plain + (offset + seed * 7919) % PERIOD;
}

size_t to_base64(const uint8_t *in, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to = out;

    for (; len > 0; in += 3, len -= len < 3 ? len : 3) {
        uint32_t x =
            (uint32_t)in[0] << 16 | (len > 1 ? (uint32_t)in[1] << 8 : 0) | (len > 2 ? in[2] : 0);

        *to++ = digits[x >> 18];
        *to++ = digits[x >> 12 & 63];
        *to++ = len > 1 ? digits[x >> 6 & 63] : '=';
        *to++ = len > 2 ? digits[x & 63] : '=';
    }
    return (size_t)(to - out);
}

/* Whether TEXT is the base64 of LEN bytes of the pattern from AT (< PERIOD) on. */
static bool is_encoded(size_t at, const char *text, size_t text_len, size_t *len)
{
    static char *encoded[3]; /* of the whole table, from byte 0, 1 and 2 on */
    size_t shift = at % 3, whole, pad = 0;
    char tail[4];

    if (encoded[shift] == NULL) {
        encoded[shift] = get_memory(TABLE / 3 * 4 + 8);
        to_base64(plain + shift, TABLE - shift, encoded[shift]);
    }
    if (text_len == 0 || text_len % 4 != 0)
        return false;
    while (pad < 2 && text[text_len - 1 - pad] == '=')
        pad++;
    *len = text_len / 4 * 3 - pad;
    whole = *len / 3 * 4;
    if (*len > CHUNK_MAX || memcmp(encoded[shift] + at / 3 * 4, text, whole) != 0)
        return false;
    return pad == 0 || (to_base64(plain + at + *len / 3 * 3, 3 - pad, tail) == 4 &&
                        memcmp(tail, text + whole, 4) == 0);
}

/* ---- HTTP ---- */

struct bytes {
    char *data;
    size_t len;
};

int dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void send_all(int fd, const void *data, size_t len)
{
    const char *from = data;

    while (len > 0) {
        ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

        if (n < 0)
            die("send: %s", strerror(errno));
        from += n;
        len -= (size_t)n;
    }
}

/* A protobuf field with a length. */
size_t proto_field(char *out, unsigned id, const char *data, size_t len)
{
    char head[12];
    size_t n = 0, rest = len;

    head[n++] = (char)(id << 3 | 2);
    for (; rest > 127; rest >>= 7)
        head[n++] = (char)(rest | 128);
    head[n++] = (char)rest;
    memmove(out + n, data, len); /* they may overlap */
    memcpy(out, head, n);
    return n + len;
}

size_t proto_selector(char *out, uint32_t pid)
{
    size_t n = 0;

    out[n++] = 8;
    for (; pid > 127; pid >>= 7)
        out[n++] = (char)(pid | 128);
    out[n++] = (char)pid;
    return n;
}

/* A request of one message; its stream is read with stream_read. */
static void request(struct stream *stream, const char *method, const char *message, size_t len,
                    const char *header)
{
    char head[1024], envelope[5] = {0, 0, 0, (char)(len >> 8), (char)len};
    int n = snprintf(head, sizeof(head),
                     "POST /process.Process/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n"
                     "Content-Type: application/connect+%s\r\n%s\r\n",
                     method, len + 5, json ? "json" : "proto", header);

    stream->fd = dial();
    stream->in_cap = 256 << 10;
    stream->in = get_memory(stream->in_cap);
    stream->message = get_memory(MESSAGE_MAX);
    send_all(stream->fd, head, (size_t)n);
    send_all(stream->fd, envelope, sizeof(envelope));
    send_all(stream->fd, message, len);
}

void stream_start(struct stream *stream, bool with_stdin, int argc, const char *const *argv)
{
    char message[1024], config[512];
    size_t n, len = 0;

    if (json) {
        n = (size_t)snprintf(message, sizeof(message), "{\"process\":{\"cmd\":\"%s\",\"args\":[",
                             self);
        for (int i = 0; i < argc; i++)
            n += (size_t)snprintf(message + n, sizeof(message) - n, "%s\"%s\"", i > 0 ? "," : "",
                                  argv[i]);
        n += (size_t)snprintf(message + n, sizeof(message) - n, "]},\"stdin\":%s}",
                              with_stdin ? "true" : "false");
    } else {
        len = proto_field(config, 1, self, strlen(self));
        for (int i = 0; i < argc; i++)
            len += proto_field(config + len, 2, argv[i], strlen(argv[i]));
        n = proto_field(message, 1, config, len);
        message[n++] = 4 << 3;
        message[n++] = with_stdin;
    }
    request(stream, "Start", message, n, "");
}

void stream_connect(struct stream *stream, uint32_t pid, const char *header)
{
    char message[64], inner[16];
    size_t n;

    if (json)
        n = (size_t)snprintf(message, sizeof(message), "{\"process\":{\"pid\":%u}}", pid);
    else
        n = proto_field(message, 1, inner, proto_selector(inner, pid));
    request(stream, "Connect", message, n, header);
}

/* ---- Events ---- */

size_t line_text(uint64_t n, char out[32])
{
    return (size_t)snprintf(out, 32, "line %" PRIu64 "\n", n);
}

static void take_lines(struct stream *stream, const char *data, size_t len)
{
    char want[32];

    for (size_t i = 0; i < len; i++) {
        size_t size = line_text(stream->line + 1, want);

        if (data[i] != want[stream->column])
            die("wrong byte in line %" PRIu64, stream->line + 1);
        if (++stream->column == size) {
            stream->column = 0;
            stream->line++;
        }
    }
    stream->at += len;
}

/* Returns the length. */
static size_t from_base64(const char *in, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t n = 0, count = 0;

    for (size_t i = 0; i < len && in[i] != '='; i++) {
        const char *digit = strchr(digits, in[i]);

        if (digit == NULL)
            die("no base64");
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (++count % 4 != 1)
            out[n++] = (char)(bits >> (6 - 2 * ((count - 1) % 4)));
    }
    return n;
}

static void take_output(struct stream *stream, const char *data, size_t len, bool encoded)
{
    size_t at = (size_t)(pattern(stream->seed, stream->at) - plain), got = len;

    stream->events++;
    if (stream->lines) {
        char room[CHUNK_MAX];

        if (encoded && len / 4 * 3 > CHUNK_MAX)
            die("a chunk of %zu bytes", len);
        take_lines(stream, encoded ? room : data, encoded ? from_base64(data, len, room) : len);
        return;
    }
    if (encoded ? !is_encoded(at, data, len, &got)
                : len > CHUNK_MAX || memcmp(plain + at, data, len) != 0)
        die("wrong output of seed %" PRIu64 " at %" PRIu64 " (%zu)", stream->seed, stream->at, len);
    stream->at += got;
}

/* The field ID of a message, its bytes or number. False: it is not there. */
static bool get(const char *in, size_t len, unsigned id, struct bytes *out, uint64_t *value)
{
    const uint8_t *from = (const uint8_t *)in, *end = from + len;

    while (from < end) {
        unsigned key = *from++, shift = 0;
        uint64_t n = 0;

        do {
            n |= (uint64_t)(*from & 127) << shift;
            shift += 7;
        } while (from < end && (*from++ & 128));
        if (key >> 3 == id) {
            *out = (struct bytes){(char *)(uintptr_t)from, (size_t)n};
            *value = n;
            if ((key & 7) == 2 && n > (size_t)(end - from))
                die("a field is longer than its message");
            return true;
        }
        if ((key & 7) == 2)
            from += n;
    }
    return false;
}

static void take_proto(struct stream *stream, const char *in, size_t len)
{
    struct bytes event, data, out;
    uint64_t value = 0;

    if (!get(in, len, 1, &event, &value))
        die("no event");
    if (get(event.data, event.len, 2, &data, &value)) {
        if (!get(data.data, data.len, 1, &out, &value))
            die("not stdout");
        take_output(stream, out.data, out.len, false);
    } else if (get(event.data, event.len, 1, &data, &value)) {
        if (stream->started || !get(data.data, data.len, 1, &out, &value))
            die("a second start, or one without pid");
        stream->started = true;
        stream->pid = (uint32_t)value;
    } else if (get(event.data, event.len, 3, &data, &value)) {
        stream->ended = true;
        if (get(data.data, data.len, 1, &out, &value))
            stream->status = (int)(value >> 1 ^ -(value & 1));
    }
}

static void take_json(struct stream *stream, char *in, size_t len)
{
    static const char output[] = "{\"event\":{\"data\":{\"stdout\":\"", tail[] = "\"}}}";
    const char *at;

    in[len] = '\0';
    if (len > sizeof(output) + sizeof(tail) - 2 && memcmp(in, output, sizeof(output) - 1) == 0) {
        if (memcmp(in + len - sizeof(tail) + 1, tail, sizeof(tail) - 1) != 0)
            die("strange end of an event");
        take_output(stream, in + sizeof(output) - 1, len - sizeof(output) - sizeof(tail) + 2, true);
    } else if ((at = strstr(in, "\"start\":{\"pid\":")) != NULL) {
        if (stream->started)
            die("a second start");
        stream->started = true;
        stream->pid = (uint32_t)strtoul(at + 15, NULL, 10);
    } else if (strstr(in, "\"end\":{") != NULL) {
        stream->ended = true;
        if ((at = strstr(in, "\"exitCode\":")) != NULL)
            stream->status = (int)strtol(at + 11, NULL, 10);
    } else if (strstr(in, "keepalive") == NULL) {
        die("strange event: %.100s", in);
    }
}

static void take_message(struct stream *stream)
{
    size_t len = stream->message_len - 5;

    if (stream->finished || (stream->ended && (stream->message[0] & 2) == 0))
        die("something after the end");
    if (stream->message[0] & 2) {
        if (len != 2 || memcmp(stream->message + 5, "{}", 2) != 0)
            die("the stream failed: %.*s", (int)len, stream->message + 5);
        stream->finished = true;
        return;
    }
    if (json)
        take_json(stream, stream->message + 5, len);
    else
        take_proto(stream, stream->message + 5, len);
    if (!stream->started)
        die("the first event is not start");
}

static void take_body(struct stream *stream, const char *data, size_t len)
{
    while (len > 0) {
        const uint8_t *head = (const uint8_t *)stream->message;
        size_t want = 5, n;

        if (stream->message_len >= 5)
            want += (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
        if (want >= MESSAGE_MAX)
            die("an envelope of %zu bytes", want);
        n = want - stream->message_len < len ? want - stream->message_len : len;
        memcpy(stream->message + stream->message_len, data, n);
        stream->message_len += n;
        data += n;
        len -= n;
        if (stream->message_len == want && want > 5) {
            take_message(stream);
            stream->message_len = 0;
        }
    }
}

/* Use what is in stream->in; returns how many bytes of it. */
static size_t take_raw(struct stream *stream)
{
    char *at = stream->in, *end = at + stream->in_len, *line;

    if (!stream->head_done) {
        line = memmem(at, stream->in_len, "\r\n\r\n", 4);
        if (line == NULL)
            return 0;
        if (memcmp(at, "HTTP/1.1 200 ", 13) != 0)
            die("%.60s", at);
        at = line + 4;
        stream->head_done = true;
    }
    while (at < end) {
        size_t n = (size_t)(end - at);

        if (stream->chunk_left > 0) {
            if (n > stream->chunk_left)
                n = stream->chunk_left;
            take_body(stream, at, n);
            stream->chunk_left -= n;
            at += n;
            continue;
        }
        if (n < 3 || (line = memmem(at + 2 * stream->chunk_crlf, n - 2 * stream->chunk_crlf, "\r\n",
                                    2)) == NULL)
            break;
        stream->chunk_left = strtoull(at + 2 * stream->chunk_crlf, NULL, 16);
        stream->chunk_crlf = true;
        at = line + 2;
        if (stream->chunk_left == 0 && !stream->finished)
            die("the body ends without an end envelope");
    }
    return (size_t)(at - stream->in);
}

/* Read once. False: the stream is over. */
bool stream_read(struct stream *stream)
{
    size_t used;
    ssize_t n;

    if (stream->slow)
        usleep(300);
    n = recv(stream->fd, stream->in + stream->in_len,
             stream->slow ? 3000 : stream->in_cap - stream->in_len - 1, 0);
    if (n < 0)
        die("recv: %s", strerror(errno));
    if (n == 0)
        die("cut after %" PRIu64 " bytes of seed %" PRIu64, stream->at, stream->seed);
    stream->in_len += (size_t)n;
    stream->in[stream->in_len] = '\0';
    used = take_raw(stream);
    memmove(stream->in, stream->in + used, stream->in_len - used);
    stream->in_len -= used;
    return !stream->finished;
}

void stream_close(struct stream *stream)
{
    close(stream->fd);
    free(stream->in);
    free(stream->message);
    *stream = (struct stream){.fd = -1};
}

void stream_expect(const struct stream *stream, uint64_t bytes)
{
    if (!stream->ended || stream->status != 0 || stream->at != bytes)
        die("seed %" PRIu64 ": %" PRIu64 " of %" PRIu64 " bytes, end %d, status %d", stream->seed,
            stream->at, bytes, stream->ended, stream->status);
}

void stream_wait_started(struct stream *stream)
{
    while (!stream->started) {
        if (!stream_read(stream))
            die("over before it began");
    }
}

/* Read all of COUNT streams to their ends. */
void stream_run_all(struct stream *streams, size_t count)
{
    struct pollfd *fds = get_memory(count * sizeof(*fds));
    size_t left = count;

    for (size_t i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = streams[i].fd, .events = POLLIN};
    while (left > 0) {
        if (poll(fds, count, 60000) <= 0)
            die("nothing comes");
        for (size_t i = 0; i < count; i++) {
            if (fds[i].revents == 0 || stream_read(&streams[i]))
                continue;
            fds[i].fd = -1;
            left--;
        }
    }
    free(fds);
}
