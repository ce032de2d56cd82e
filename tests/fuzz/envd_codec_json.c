/*
 * The codecs: what JSON is read as is written and read again as the same; and so through the
 * binary form. The first byte chooses the message, its high bit the form of the input.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/connect/codec.h"
#include "openapi/filesystem.pb-c.h"
#include "openapi/process.pb-c.h"
#include "server/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const messages[] = {
    &process__start_request__descriptor,        &process__start_response__descriptor,
    &process__send_input_request__descriptor,   &process__send_signal_request__descriptor,
    &process__stream_input_request__descriptor, &process__list_response__descriptor,
    &filesystem__entry_info__descriptor,        &filesystem__watch_dir_response__descriptor,
};

/* MESSAGE as TEXT through CODEC and back must give TEXT. */
static void round_trip(enum codec codec, const ProtobufCMessage *message, const struct buf *text)
{
    _cleanup_message_ ProtobufCMessage *again = NULL;
    _cleanup_buf_ struct buf wire, out;
    struct err err;

    buf_init(&wire, 1 << 22);
    buf_init(&out, 1 << 22);
    if (codec_encode(codec, message, &wire, &err) < 0 ||
        codec_decode(codec, message->descriptor, buf_str(&wire), wire.len, &again, &err) < 0 ||
        codec_encode(CODEC_JSON, again, &out, &err) < 0)
        abort();
    if (out.len != text->len || memcmp(buf_str(&out), buf_str(text), out.len) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_message_ ProtobufCMessage *message = NULL;
    _cleanup_buf_ struct buf text;
    struct err err;

    buf_init(&text, 1 << 22);
    if (size == 0 || size > 1 << 16 ||
        codec_decode(data[0] & 0x80 ? CODEC_PROTO : CODEC_JSON,
                     messages[data[0] % array_size(messages)], (const char *)data + 1, size - 1,
                     &message, &err) < 0)
        return 0;
    if (codec_encode(CODEC_JSON, message, &text, &err) < 0)
        return 0; /* a time that RFC 3339 does not have */
    round_trip(CODEC_JSON, message, &text);
    round_trip(CODEC_PROTO, message, &text);
    return 0;
}
