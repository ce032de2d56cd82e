#include <string.h>

#include "envd/connect/codec.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define NAME_MAX_BYTES 128

static int read_message(const ProtobufCMessageDescriptor *desc, const json_t *json,
                        ProtobufCMessage **out, struct err *err);

static int wrong(const ProtobufCFieldDescriptor *field, const char *want, struct err *err)
{
    return err_set(err, ERR_INVALID, "field %s: expected %s", field->name, want);
}

/* A JSON integer, an integral real, or either in a string. */
static int read_integer(const ProtobufCFieldDescriptor *field, const json_t *json, int64_t min,
                        int64_t max, int64_t *out, struct err *err)
{
    struct err ignored;

    if (json_is_integer(json)) {
        *out = json_integer_value(json);
    } else if (json_is_real(json)) {
        double real = json_real_value(json);

        if (!(real >= -9007199254740992.0 && real <= 9007199254740992.0) ||
            (double)(int64_t)real != real)
            return wrong(field, "an integer", err);
        *out = (int64_t)real;
    } else if (!json_is_string(json) ||
               str_to_i64(json_string_value(json), json_string_length(json), INT64_MIN, INT64_MAX,
                          field->name, out, &ignored) < 0) {
        return wrong(field, "an integer", err);
    }
    return *out < min || *out > max ? wrong(field, "an integer in range", err) : 0;
}

/* Above INT64_MAX jansson has no integers, so such values come as strings only. */
static int read_u64(const ProtobufCFieldDescriptor *field, const json_t *json, uint64_t *out,
                    struct err *err)
{
    struct err ignored;
    int64_t value;

    if (json_is_string(json) && str_to_u64(json_string_value(json), json_string_length(json), 0,
                                           UINT64_MAX, field->name, out, &ignored) == 0)
        return 0;
    if (read_integer(field, json, 0, INT64_MAX, &value, err) < 0)
        return -1;
    *out = (uint64_t)value;
    return 0;
}

static int read_enum(const ProtobufCFieldDescriptor *field, const json_t *json, int *out,
                     struct err *err)
{
    int64_t number;

    if (json_is_string(json)) {
        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value_by_name(
            field->descriptor, json_string_value(json));

        if (value == NULL)
            return wrong(field, "a name of its enum", err);
        *out = value->value;
        return 0;
    }
    if (!json_is_integer(json) || read_integer(field, json, INT32_MIN, INT32_MAX, &number, err) < 0)
        return wrong(field, "a name or number of its enum", err);
    *out = (int)number;
    return 0;
}

static int read_bytes(const ProtobufCFieldDescriptor *field, const json_t *json,
                      ProtobufCBinaryData *out, struct err *err)
{
    _cleanup_free_ uint8_t *data = NULL;
    size_t len;

    if (!json_is_string(json))
        return wrong(field, "base64 in a string", err);
    len = json_string_length(json);
    data = mem_zalloc(len / 4 * 3 + 3);
    if (base64_decode(json_string_value(json), len, data, &out->len) < 0)
        return wrong(field, "base64 in a string", err);
    out->data = steal_ptr(&data);
    return 0;
}

static int read_i32(const ProtobufCFieldDescriptor *field, const json_t *json, int32_t *out,
                    struct err *err)
{
    int64_t value;

    if (read_integer(field, json, INT32_MIN, INT32_MAX, &value, err) < 0)
        return -1;
    *out = (int32_t)value;
    return 0;
}

static int read_u32(const ProtobufCFieldDescriptor *field, const json_t *json, uint32_t *out,
                    struct err *err)
{
    int64_t value;

    if (read_integer(field, json, 0, UINT32_MAX, &value, err) < 0)
        return -1;
    *out = (uint32_t)value;
    return 0;
}

/* One value into MEMBER, which holds the default. */
static int read_value(const ProtobufCFieldDescriptor *field, const json_t *json, void *member,
                      struct err *err)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_i32(field, json, member, err);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_u32(field, json, member, err);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_integer(field, json, INT64_MIN, INT64_MAX, member, err);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_u64(field, json, member, err);
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(json))
            return wrong(field, "true or false", err);
        *(protobuf_c_boolean *)member = json_is_true(json);
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(field, json, member, err);
    case PROTOBUF_C_TYPE_STRING:
        if (!json_is_string(json))
            return wrong(field, "a string", err);
        *(char **)member = mem_strdup(json_string_value(json));
        return 0;
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(field, json, member, err);
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_message(field->descriptor, json, member, err);
    default:
        return wrong(field, "a type with a JSON form", err);
    }
}

static int read_map(const ProtobufCFieldDescriptor *field, const json_t *json, size_t *count,
                    ProtobufCMessage ***list, struct err *err)
{
    const ProtobufCMessageDescriptor *desc = field->descriptor;
    const char *key;
    json_t *value;

    if (!json_is_object(json))
        return wrong(field, "an object", err);
    *list = mem_calloc(json_object_size(json) + 1, sizeof(ProtobufCMessage *));
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        ProtobufCMessage *entry = mem_zalloc(desc->sizeof_message);

        protobuf_c_message_init(desc, entry);
        (*list)[(*count)++] = entry; /* freed with the message whatever comes */
        *(char **)codec_member(entry, &desc->fields[0]) = mem_strdup(key);
        if (read_value(&desc->fields[1], value, codec_member(entry, &desc->fields[1]), err) < 0)
            return -1;
    }
    return 0;
}

static int read_list(const ProtobufCFieldDescriptor *field, const json_t *json, size_t *count,
                     void **list, struct err *err)
{
    size_t element = field->type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData) : 8;
    json_t *value;
    size_t i;

    /* Repeated fields of ours are strings, bytes and messages; numbers would need packing here. */
    if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_BYTES &&
        field->type != PROTOBUF_C_TYPE_MESSAGE)
        return wrong(field, "a supported list", err);
    if (!json_is_array(json))
        return wrong(field, "an array", err);
    *list = mem_calloc(json_array_size(json) + 1, element);
    json_array_foreach(json, i, value) {
        char *member = (char *)*list + i * element;

        if (read_value(field, value, member, err) < 0)
            return -1;
        *count = i + 1;
    }
    return 0;
}

static int read_repeated(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         const json_t *json, struct err *err)
{
    size_t *count = codec_quantifier(message, field);
    void *list = codec_member(message, field);

    if (*(void **)list != NULL)
        return err_set(err, ERR_INVALID, "field %s is there twice", field->name);
    return codec_is_map(field) ? read_map(field, json, count, list, err)
                               : read_list(field, json, count, list, err);
}

static int read_oneof(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                      const json_t *json, struct err *err)
{
    uint32_t *which = codec_quantifier(message, field);
    void *member = codec_member(message, field);

    if (*which != 0)
        return err_set(err, ERR_INVALID, "field %s: its oneof is already set", field->name);
    if (field->type == PROTOBUF_C_TYPE_STRING) /* the union's bytes may be another member's */
        *(const char **)member = protobuf_c_empty_string;
    if (read_value(field, json, member, err) < 0)
        return -1;
    *which = field->id;
    return 0;
}

static int read_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                      const json_t *json, struct err *err)
{
    void *member = codec_member(message, field);

    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return read_repeated(message, field, json, err);
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return read_oneof(message, field, json, err);
    if ((field->type == PROTOBUF_C_TYPE_STRING && *(const char **)member != field->default_value) ||
        (field->type == PROTOBUF_C_TYPE_BYTES && ((ProtobufCBinaryData *)member)->data != NULL) ||
        (field->type == PROTOBUF_C_TYPE_MESSAGE && *(void **)member != NULL))
        return err_set(err, ERR_INVALID, "field %s is there twice", field->name);
    return read_value(field, json, member, err);
}

/* The field a JSON key names: as in the .proto file, or in lowerCamelCase. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc,
                                                  const char *key)
{
    char name[NAME_MAX_BYTES];

    for (unsigned i = 0; i < desc->n_fields; i++) {
        if (str_eq(desc->fields[i].name, key))
            return &desc->fields[i];
        if (strlen(desc->fields[i].name) >= sizeof(name))
            continue;
        codec_json_name(desc->fields[i].name, name);
        if (str_eq(name, key))
            return &desc->fields[i];
    }
    return NULL;
}

static int read_timestamp(ProtobufCMessage *message, const json_t *json, struct err *err)
{
    const ProtobufCFieldDescriptor *fields = message->descriptor->fields;
    int64_t ms;
    uint32_t nanos;

    if (!json_is_string(json) ||
        time_parse_rfc3339(json_string_value(json), json_string_length(json), &ms, &nanos) < 0)
        return err_set(err, ERR_INVALID, "a time must be an RFC 3339 string");
    *(int64_t *)codec_member(message, &fields[0]) = (ms - (int64_t)(nanos / 1000000)) / 1000;
    *(int32_t *)codec_member(message, &fields[1]) = (int32_t)nanos;
    return 0;
}

static int read_fields(ProtobufCMessage *message, const json_t *json, struct err *err)
{
    const char *key;
    json_t *value;

    if (codec_is_timestamp(message->descriptor))
        return read_timestamp(message, json, err);
    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, "%s must be an object", message->descriptor->short_name);
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        const ProtobufCFieldDescriptor *field = find_field(message->descriptor, key);

        if (field != NULL && !json_is_null(value) && read_field(message, field, value, err) < 0)
            return -1;
    }
    return 0;
}

static int read_message(const ProtobufCMessageDescriptor *desc, const json_t *json,
                        ProtobufCMessage **out, struct err *err)
{
    _cleanup_message_ ProtobufCMessage *message = mem_zalloc(desc->sizeof_message);

    protobuf_c_message_init(desc, message);
    if (read_fields(message, json, err) < 0)
        return -1;
    *out = steal_ptr(&message);
    return 0;
}

int codec_json_decode(const ProtobufCMessageDescriptor *desc, const char *data, size_t len,
                      ProtobufCMessage **out, struct err *err)
{
    _cleanup_json_ json_t *json = NULL;

    if (len == 0)
        return err_set(err, ERR_INVALID, "zero-length payload is not a valid JSON object");
    json = json_parse(data, len, err);
    if (json == NULL)
        return -1;
    return read_message(desc, json, out, err);
}
