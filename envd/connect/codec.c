#include "envd/connect/codec.h"

#include "server/base/str.h"

#define CHUNK_OVERHEAD 8         /* of malloc, in bytes */
#define CHUNK_MIN_BYTES 32       /* the smallest allocation there is */
#define MEMORY_SLACK (256 << 10) /* beyond the size on the wire: some ten thousand small things */

static struct codec_form *forms;

int codec_decode(enum codec codec, const ProtobufCMessageDescriptor *desc, const char *data,
                 size_t len, ProtobufCMessage **out, struct err *err)
{
    return codec == CODEC_JSON ? codec_json_decode(desc, data, len, out, err)
                               : codec_proto_decode(desc, data, len, out, err);
}

int codec_encode(enum codec codec, const ProtobufCMessage *message, struct buf *out,
                 struct err *err)
{
    return codec == CODEC_JSON ? codec_json_encode(message, out, err)
                               : codec_proto_encode(message, out, err);
}

void codec_free(ProtobufCMessage *message)
{
    if (message != NULL)
        protobuf_c_message_free_unpacked(message, NULL);
}

void codec_add_form(struct codec_form *form)
{
    form->next = forms;
    forms = form;
}

const struct codec_form *codec_form_of(const ProtobufCMessageDescriptor *desc)
{
    const struct codec_form *form = forms;

    while (form != NULL && !str_eq(form->message, desc->name))
        form = form->next;
    return form;
}

size_t codec_memory(size_t size)
{
    size_t chunk = (size + CHUNK_OVERHEAD + 15) / 16 * 16;

    return chunk < CHUNK_MIN_BYTES ? CHUNK_MIN_BYTES : chunk;
}

size_t codec_memory_max(size_t len)
{
    return len + MEMORY_SLACK;
}
