#include <string.h>

#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define DEPTH_MAX 4
#define TAG_BYTES_MAX 11 /* a field number below 16, and a length */

static uint8_t *put_tag(uint8_t *to, uint8_t id, size_t len)
{
    *to++ = (uint8_t)(id << 3 | 2); /* "a length, then so many bytes" */
    for (; len >= 128; len >>= 7)
        *to++ = (uint8_t)(len | 128);
    *to++ = (uint8_t)len;
    return to;
}

/* The tags and lengths before LEN bytes. Returns how many bytes they are, at the end of ROOM. */
static size_t proto_head(const struct rpc_bytes_form *form, size_t len,
                         uint8_t room[DEPTH_MAX * TAG_BYTES_MAX])
{
    size_t at = DEPTH_MAX * TAG_BYTES_MAX;

    for (size_t i = form->depth; i-- > 0;) {
        uint8_t tag[TAG_BYTES_MAX];
        size_t size = (size_t)(put_tag(tag, form->ids[i], len) - tag);

        at -= size;
        memcpy(room + at, tag, size);
        len += size;
    }
    return DEPTH_MAX * TAG_BYTES_MAX - at;
}

static char *put(char *to, const void *data, size_t len)
{
    memcpy(to, data, len);
    return to + len;
}

/* Where one envelope is written: the connection's buffer, or PACKED when it is to be compressed. */
struct place {
    struct rpc_call *call;
    struct buf packed;
};

/* Room for one envelope of LEN bytes, its head filled in. */
static char *envelope_room(struct place *place, size_t len)
{
    char *to;

    if (place->call->gzip_answer) {
        wire_envelope_open(&place->packed);
        return buf_reserve(&place->packed, len);
    }
    to = http_stream_room(place->call->ex, ENVELOPE_HEAD_BYTES + len);
    if (to == NULL)
        return NULL;
    envelope_head((uint8_t *)to, 0, (uint32_t)len);
    return to + ENVELOPE_HEAD_BYTES;
}

static void envelope_done(struct place *place, size_t len)
{
    if (!place->call->gzip_answer) {
        http_stream_commit(place->call->ex, ENVELOPE_HEAD_BYTES + len);
        return;
    }
    buf_commit(&place->packed, len);
    wire_envelope_send(place->call, &place->packed, 0);
    buf_clear(&place->packed);
}

static void send_proto(struct place *place, const struct rpc_bytes_form *form, const void *data,
                       size_t len)
{
    uint8_t room[DEPTH_MAX * TAG_BYTES_MAX];
    size_t head = proto_head(form, len, room);
    char *to = envelope_room(place, head + len);

    if (to == NULL)
        return;
    to = put(to, room + sizeof(room) - head, head);
    put(to, data, len);
    envelope_done(place, head + len);
}

static void send_json(struct place *place, const struct rpc_bytes_form *form, const void *data,
                      size_t len)
{
    size_t head = strlen(form->json_head), tail = strlen(form->json_tail);
    size_t size = head + BASE64_SIZE(len) - 1 + tail;
    char *to = envelope_room(place, size);

    if (to == NULL)
        return;
    to = put(to, form->json_head, head);
    to += base64_encode(BASE64_STD, data, len, to);
    put(to, form->json_tail, tail);
    envelope_done(place, size);
}

int rpc_send_bytes(struct rpc_call *call, const struct rpc_bytes_form *form, const void *data,
                   size_t len)
{
    struct place place = {.call = call};

    if (call->over)
        return -1;
    wire_begin(call);
    if (call->codec == CODEC_JSON)
        send_json(&place, form, data, len);
    else
        send_proto(&place, form, data, len);
    return call_sent(call);
}
