#include "envd/connect/envelope.h"

#include <string.h>

void envelope_reader_init(struct envelope_reader *reader, size_t max)
{
    memset(reader, 0, sizeof(*reader));
    buf_init(&reader->payload, max);
}

void envelope_reader_clear(struct envelope_reader *reader)
{
    buf_clear(&reader->payload);
    reader->head_len = 0;
}

void envelope_reader_next(struct envelope_reader *reader)
{
    buf_reset(&reader->payload);
    reader->head_len = 0;
}

bool envelope_reader_partial(const struct envelope_reader *reader)
{
    return reader->head_len > 0;
}

static size_t length_in(const uint8_t *head)
{
    return (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
}

static size_t announced(const struct envelope_reader *reader)
{
    return length_in(reader->head);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int check_flags(uint8_t flags, struct err *err)
{
    if ((flags & ~(ENVELOPE_COMPRESSED | ENVELOPE_END)) != 0)
        return err_set(err, ERR_INVALID, "invalid envelope flags %u", flags);
    return 0;
}

static int too_large(size_t len, size_t max, struct err *err)
{
    return err_set(err, ERR_LIMIT, "message size %zu is larger than configured max %zu", len, max);
}

static int check_head(const struct envelope_reader *reader, struct err *err)
{
    if (check_flags(reader->head[0], err) < 0)
        return -1;
    if (announced(reader) > reader->payload.max)
        return too_large(announced(reader), reader->payload.max, err);
    return 0;
}

int envelope_reader_feed(struct envelope_reader *reader, const char *in, size_t in_len,
                         size_t *used, struct err *err)
{
    size_t take = smaller(ENVELOPE_HEAD_BYTES - reader->head_len, in_len);

    memcpy(reader->head + reader->head_len, in, take);
    reader->head_len += take;
    *used = take;
    if (reader->head_len < ENVELOPE_HEAD_BYTES)
        return 0;
    if (check_head(reader, err) < 0)
        return -1;
    take = smaller(announced(reader) - reader->payload.len, in_len - *used);
    buf_add(&reader->payload, in + *used, take);
    *used += take;
    return reader->payload.len == announced(reader) ? 1 : 0;
}

int envelope_split(const char *body, size_t body_len, size_t max, struct envelope *out,
                   struct err *err)
{
    const uint8_t *head = (const uint8_t *)body;
    size_t len;

    if (body_len < ENVELOPE_HEAD_BYTES)
        return err_set(err, ERR_INVALID, "protocol error: incomplete envelope");
    if (check_flags(head[0], err) < 0)
        return -1;
    len = length_in(head);
    if (len > max)
        return too_large(len, max, err);
    if (len > body_len - ENVELOPE_HEAD_BYTES)
        return err_set(err, ERR_INVALID, "protocol error: incomplete envelope");
    *out = (struct envelope){
        .flags = head[0],
        .payload = body + ENVELOPE_HEAD_BYTES,
        .len = len,
        .used = ENVELOPE_HEAD_BYTES + len,
    };
    return 0;
}

void envelope_head(uint8_t out[ENVELOPE_HEAD_BYTES], uint8_t flags, uint32_t len)
{
    out[0] = flags;
    out[1] = (uint8_t)(len >> 24);
    out[2] = (uint8_t)(len >> 16);
    out[3] = (uint8_t)(len >> 8);
    out[4] = (uint8_t)len;
}
