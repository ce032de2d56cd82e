#include <string.h>

#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "tests/conformance/conformance.h"

#define PREFIX "type.googleapis.com/"
#define TEXT_MAX (8 << 20)

static const ProtobufCMessageDescriptor *const types[] = {
    DESC(unary_request),
    DESC(idempotent_unary_request),
    DESC(client_stream_request),
    DESC(server_stream_request),
    DESC(header),
    DESC(conformance_payload__request_info),
};

static const ProtobufCMessageDescriptor *find_type(const char *url)
{
    const char *slash = strrchr(url, '/');

    for (size_t i = 0; slash != NULL && i < array_size(types); i++) {
        if (str_eq(types[i]->name, slash + 1))
            return types[i];
    }
    return NULL;
}

static void pack(const ProtobufCMessage *message, ProtobufCBinaryData *out)
{
    out->data = mem_calloc(protobuf_c_message_get_packed_size(message) + 1, 1);
    out->len = protobuf_c_message_pack(message, out->data);
}

Google__Protobuf__Any *any_of(const ProtobufCMessage *message)
{
    Google__Protobuf__Any *any = mem_zalloc(sizeof(*any));

    google__protobuf__any__init(any);
    any->type_url = mem_asprintf(PREFIX "%s", message->descriptor->name);
    pack(message, &any->value);
    return any;
}

/* {"@type": "…", and the fields of the message} */
static int read_any(const char *text, size_t len, ProtobufCMessage *message, struct err *err)
{
    Google__Protobuf__Any *any = (Google__Protobuf__Any *)message;
    _cleanup_json_ json_t *json = json_parse_object(text, len, err);
    _cleanup_message_ ProtobufCMessage *inner = NULL;
    const ProtobufCMessageDescriptor *desc;
    const char *url = NULL;

    if (json == NULL || json_get_str(json, "@type", &url, err) < 0)
        return -1;
    desc = url != NULL ? find_type(url) : NULL;
    if (desc == NULL)
        return err_set(err, ERR_INVALID, "an Any of an unknown type");
    if (codec_json_decode(desc, text, len, &inner, err) < 0)
        return -1;
    any->type_url = mem_strdup(url);
    pack(inner, &any->value);
    return 0;
}

static int write_any(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    const Google__Protobuf__Any *any = (const Google__Protobuf__Any *)message;
    const ProtobufCMessageDescriptor *desc = find_type(any->type_url);
    _cleanup_message_ ProtobufCMessage *inner = NULL;
    _cleanup_buf_ struct buf text;

    buf_init(&text, TEXT_MAX);
    if (desc == NULL)
        return err_set(err, ERR_INTERNAL, "an Any of an unknown type");
    if (codec_proto_decode(desc, (const char *)any->value.data, any->value.len, &inner, err) < 0 ||
        codec_json_encode(inner, &text, err) < 0)
        return -1;
    buf_printf(out, "{\"@type\":\"%s\"%s%s", any->type_url, text.len > 2 ? "," : "",
               buf_str(&text) + 1);
    return 0;
}

static struct codec_form any_form = {"google.protobuf.Any", read_any, write_any, NULL};

void any_init(void)
{
    codec_add_form(&any_form);
}
