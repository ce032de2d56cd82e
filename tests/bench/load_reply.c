#include "tests/bench/load_reply.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ENVELOPE_HEAD 5
#define ENVELOPE_MAX (64u << 20)
#define FLAG_END 2

enum chunk_state { CHUNK_SIZE, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_CR, CHUNK_LF, CHUNK_TRAILER };

void reply_reset(struct reply *reply)
{
    reply->in_body = reply->done = reply->closes = reply->chunked = false;
    reply->status = 0;
    reply->left = 0;
    reply->chunk_state = CHUNK_SIZE;
    reply->head_len = 0;
    reply->envelope_len = 0;
}

/* ---- Data events ---- */

/* Bytes that {"event":{"data":{"stdout":"<base64>"}}} stands for; 0 when it is another event. */
static uint64_t json_payload(const char *text, size_t len)
{
    static const char *const names[] = {"\"stdout\":\"", "\"stderr\":\"", "\"pty\":\""};
    size_t look = len < 64 ? len : 64;

    for (size_t i = 0; i < 3; i++) {
        const char *at = memmem(text, look, names[i], strlen(names[i]));
        const char *end = memrchr(text, '"', len);
        uint64_t digits;

        if (at == NULL || end < at + strlen(names[i]))
            continue;
        for (at += strlen(names[i]); end > at && end[-1] == '='; end--)
            ;
        digits = (uint64_t)(end - at);
        return digits * 3 / 4;
    }
    return 0;
}

/* The value of length-delimited field NUMBER of a message, NULL when absent. */
static const unsigned char *proto_field(const unsigned char *at, const unsigned char *end,
                                        unsigned number, size_t *len)
{
    while (at < end) {
        unsigned tag = *at++;
        uint64_t value = 0;

        for (unsigned shift = 0; at < end && shift < 63; shift += 7) {
            value |= (uint64_t)(*at & 0x7f) << shift;
            if ((*at++ & 0x80) == 0)
                break;
        }
        if ((tag & 7) != 2)
            continue;
        if (value > (uint64_t)(end - at))
            return NULL;
        if (tag >> 3 == number) {
            *len = (size_t)value;
            return at;
        }
        at += value;
    }
    return NULL;
}

/* StartResponse.event(1).data(2).stdout(1), stderr(2) or pty(3). */
static uint64_t proto_payload(const unsigned char *bytes, size_t len)
{
    const unsigned char *at = proto_field(bytes, bytes + len, 1, &len);

    if (at != NULL)
        at = proto_field(at, at + len, 2, &len);
    for (unsigned number = 1; at != NULL && number <= 3; number++) {
        size_t found;

        if (proto_field(at, at + len, number, &found) != NULL)
            return found;
    }
    return 0;
}

static int count_event(struct reply *reply, const unsigned char *envelope, size_t len)
{
    reply->events++;
    if ((envelope[0] & FLAG_END) != 0)
        return memmem(envelope, len, "\"error\"", 7) != NULL ? -1 : 0;
    envelope += ENVELOPE_HEAD;
    len -= ENVELOPE_HEAD;
    reply->payload += reply->payload_kind == PAYLOAD_JSON
                          ? json_payload((const char *)envelope, len)
                          : proto_payload(envelope, len);
    return 0;
}

static size_t envelope_total(const unsigned char *head)
{
    return ENVELOPE_HEAD +
           ((size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | (size_t)head[4]);
}

static int keep(struct reply *reply, const unsigned char *bytes, size_t len)
{
    if (reply->envelope_len + len > reply->envelope_size) {
        reply->envelope_size = (reply->envelope_len + len) * 2;
        reply->envelope = realloc(reply->envelope, reply->envelope_size);
        if (reply->envelope == NULL)
            return -1;
    }
    memcpy(reply->envelope + reply->envelope_len, bytes, len);
    reply->envelope_len += len;
    return 0;
}

/* Whole envelopes are looked at where they are; only one cut in two is copied. */
static int feed_envelopes(struct reply *reply, const unsigned char *bytes, size_t len)
{
    while (len > 0) {
        bool held = reply->envelope_len > 0;
        const unsigned char *head = held ? reply->envelope : bytes;
        size_t have = held ? reply->envelope_len : len;
        size_t total = have >= ENVELOPE_HEAD ? envelope_total(head) : 0;
        size_t want = total != 0 ? total : ENVELOPE_HEAD, take;

        if (total > ENVELOPE_MAX)
            return -1;
        if (!held && total != 0 && have >= total) {
            if (count_event(reply, bytes, total) < 0)
                return -1;
            bytes += total;
            len -= total;
            continue;
        }
        take = want - reply->envelope_len < len ? want - reply->envelope_len : len;
        if (keep(reply, bytes, take) < 0)
            return -1;
        bytes += take;
        len -= take;
        if (reply->envelope_len < ENVELOPE_HEAD ||
            reply->envelope_len < envelope_total(reply->envelope))
            continue;
        if (count_event(reply, reply->envelope, reply->envelope_len) < 0)
            return -1;
        reply->envelope_len = 0;
    }
    return 0;
}

/* ---- The response ---- */

static int feed_body(struct reply *reply, const char *bytes, size_t len)
{
    reply->body += len;
    reply->left -= len;
    if (reply->payload_kind == PAYLOAD_NONE || reply->status != 200)
        return 0;
    return feed_envelopes(reply, (const unsigned char *)bytes, len);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a chunk's frame. */
static int feed_frame(struct reply *reply, char c)
{
    switch (reply->chunk_state) {
    case CHUNK_SIZE:
        if (hex_digit(c) >= 0)
            reply->left = reply->left << 4 | (unsigned)hex_digit(c);
        else
            reply->chunk_state = CHUNK_SIZE_LF;
        return 0;
    case CHUNK_SIZE_LF:
        if (c == '\n')
            reply->chunk_state = reply->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
        return 0;
    case CHUNK_CR:
        reply->chunk_state = CHUNK_LF;
        return c == '\r' ? 0 : -1;
    case CHUNK_LF:
        reply->chunk_state = CHUNK_SIZE;
        return c == '\n' ? 0 : -1;
    default: /* an empty line ends it; nobody here sends trailers */
        reply->done = c == '\n';
        return c == '\r' || c == '\n' ? 0 : -1;
    }
}

static ptrdiff_t feed_chunked(struct reply *reply, const char *bytes, size_t len)
{
    size_t at = 0;

    while (at < len && !reply->done) {
        if (reply->chunk_state == CHUNK_DATA) {
            size_t take = reply->left < len - at ? (size_t)reply->left : len - at;

            if (feed_body(reply, bytes + at, take) < 0)
                return -1;
            at += take;
            if (reply->left == 0)
                reply->chunk_state = CHUNK_CR;
        } else if (feed_frame(reply, bytes[at++]) < 0) {
            return -1;
        }
    }
    return (ptrdiff_t)at;
}

static bool header_is(const char *line, const char *name, const char **value)
{
    size_t len = strlen(name);

    if (strncasecmp(line, name, len) != 0 || line[len] != ':')
        return false;
    for (*value = line + len + 1; **value == ' '; (*value)++)
        ;
    return true;
}

static int read_head(struct reply *reply)
{
    char *line = reply->head;
    const char *value;

    if (strncmp(line, "HTTP/1.1 ", 9) != 0)
        return -1;
    reply->status = (int)strtol(line + 9, NULL, 10);
    while ((line = strstr(line, "\r\n")) != NULL) {
        line += 2;
        if (header_is(line, "content-length", &value))
            reply->left = strtoull(value, NULL, 10);
        else if (header_is(line, "transfer-encoding", &value))
            reply->chunked = strncasecmp(value, "chunked", 7) == 0;
        else if (header_is(line, "connection", &value))
            reply->closes = strncasecmp(value, "close", 5) == 0;
    }
    reply->in_body = true;
    if (reply->chunked)
        reply->left = 0;
    if (reply->status == 204 || reply->status == 304 || reply->head_only)
        reply->left = 0, reply->chunked = false;
    reply->done = !reply->chunked && reply->left == 0;
    return 0;
}

/* Bytes of the head among these LEN. */
static ptrdiff_t feed_head(struct reply *reply, const char *bytes, size_t len)
{
    size_t room = sizeof(reply->head) - 1 - reply->head_len;
    size_t take = len < room ? len : room, before = reply->head_len, used;
    const char *end;

    memcpy(reply->head + before, bytes, take);
    reply->head[before + take] = '\0';
    end = strstr(reply->head, "\r\n\r\n");
    if (end == NULL) {
        reply->head_len += take;
        return take < len ? -1 : (ptrdiff_t)take;
    }
    used = (size_t)(end + 4 - reply->head);
    reply->head[used] = '\0';
    reply->head_len = used;
    return read_head(reply) < 0 ? -1 : (ptrdiff_t)(used - before);
}

ptrdiff_t reply_feed(struct reply *reply, const char *bytes, size_t len)
{
    size_t at = 0;

    while (at < len && !reply->done) {
        ptrdiff_t used;

        if (!reply->in_body) {
            used = feed_head(reply, bytes + at, len - at);
        } else if (reply->chunked) {
            used = feed_chunked(reply, bytes + at, len - at);
        } else {
            size_t take = reply->left < len - at ? (size_t)reply->left : len - at;

            used = feed_body(reply, bytes + at, take) < 0 ? -1 : (ptrdiff_t)take;
            reply->done = reply->left == 0;
        }
        if (used < 0)
            return -1;
        at += (size_t)used;
    }
    return (ptrdiff_t)at;
}
