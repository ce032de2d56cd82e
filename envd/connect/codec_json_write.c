#include <inttypes.h>
#include <string.h>

#include "envd/connect/codec.h"
#include "server/base/date.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define NAME_MAX_BYTES 128 /* of a field of ours */

bool codec_is_timestamp(const ProtobufCMessageDescriptor *desc)
{
    return str_eq(desc->short_name, "Timestamp") && desc->n_fields == 2 &&
           desc->fields[0].type == PROTOBUF_C_TYPE_INT64 &&
           desc->fields[1].type == PROTOBUF_C_TYPE_INT32;
}

bool codec_is_map(const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;

    return field->label == PROTOBUF_C_LABEL_REPEATED && field->type == PROTOBUF_C_TYPE_MESSAGE &&
           str_ends(entry->short_name, "Entry") && entry->n_fields == 2 &&
           str_eq(entry->fields[0].name, "key") && str_eq(entry->fields[1].name, "value") &&
           entry->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

void codec_json_name(const char *name, char *out)
{
    for (; *name != '\0'; name++) {
        char c = *name;

        if (c == '_' && name[1] != '\0') {
            c = *++name;
            if (c >= 'a' && c <= 'z')
                c = (char)(c - 'a' + 'A');
        }
        *out++ = c;
    }
    *out = '\0';
}

static int write_message(const ProtobufCMessage *message, struct buf *out, struct err *err);

static int write_string(const char *s, struct buf *out, struct err *err)
{
    size_t len = strlen(s);

    if (!str_is_utf8(s, len))
        return err_set(err, ERR_INTERNAL, "a string of the answer is not UTF-8");
    buf_add_char(out, '"');
    while (*s != '\0') {
        size_t plain = 0;

        while ((unsigned char)s[plain] >= ' ' && s[plain] != '"' && s[plain] != '\\')
            plain++;
        buf_add(out, s, plain);
        s += plain;
        if (*s == '"' || *s == '\\')
            buf_printf(out, "\\%c", *s++);
        else if (*s != '\0')
            buf_printf(out, "\\u%04x", (unsigned char)*s++);
    }
    buf_add_char(out, '"');
    return 0;
}

static int write_bytes(const ProtobufCBinaryData *bytes, struct buf *out, struct err *err)
{
    char *to;

    buf_add_char(out, '"');
    to = buf_reserve(out, BASE64_SIZE(bytes->len) - 1);
    if (to == NULL)
        return err_set(err, ERR_LIMIT, "the message is larger than %zu bytes", out->max);
    buf_commit(out, base64_encode(BASE64_STD, bytes->data, bytes->len, to));
    buf_add_char(out, '"');
    return 0;
}

/* RFC 3339 in UTC with 0, 3, 6 or 9 digits of fraction. */
static int write_timestamp(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    const ProtobufCFieldDescriptor *fields = message->descriptor->fields;
    int64_t seconds = *(int64_t *)codec_member(message, &fields[0]);
    int32_t nanos = *(int32_t *)codec_member(message, &fields[1]);
    char text[DATE_ISO_SIZE];
    struct date date;

    date_from_unix(seconds, &date);
    if (nanos < 0 || nanos > 999999999 || date.year < 1 || date.year > 9999)
        return err_set(err, ERR_INTERNAL, "a time of the answer is outside years 1 to 9999");
    date_iso(seconds, text);
    buf_add_char(out, '"');
    buf_add_str(out, text);
    if (nanos % 1000 != 0)
        buf_printf(out, ".%09d", nanos);
    else if (nanos % 1000000 != 0)
        buf_printf(out, ".%06d", nanos / 1000);
    else if (nanos != 0)
        buf_printf(out, ".%03d", nanos / 1000000);
    return buf_add_str(out, "Z\"") < 0 ? err_set(err, ERR_LIMIT, "the message is too large") : 0;
}

static int write_enum(const ProtobufCFieldDescriptor *field, int value, struct buf *out)
{
    const ProtobufCEnumDescriptor *desc = field->descriptor;
    const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value(desc, value);

    if (named != NULL)
        buf_printf(out, "\"%s\"", named->name);
    else
        buf_printf(out, "%d", value);
    return 0;
}

/* One value of FIELD at MEMBER. */
static int write_value(const ProtobufCFieldDescriptor *field, const void *member, struct buf *out,
                       struct err *err)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return buf_printf(out, "%" PRId32, *(const int32_t *)member), 0;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return buf_printf(out, "%" PRIu32, *(const uint32_t *)member), 0;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return buf_printf(out, "\"%" PRId64 "\"", *(const int64_t *)member), 0;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return buf_printf(out, "\"%" PRIu64 "\"", *(const uint64_t *)member), 0;
    case PROTOBUF_C_TYPE_BOOL:
        return buf_add_str(out, *(const protobuf_c_boolean *)member ? "true" : "false"), 0;
    case PROTOBUF_C_TYPE_ENUM:
        return write_enum(field, *(const int *)member, out);
    case PROTOBUF_C_TYPE_STRING:
        return write_string(*(char *const *)member, out, err);
    case PROTOBUF_C_TYPE_BYTES:
        return write_bytes(member, out, err);
    case PROTOBUF_C_TYPE_MESSAGE:
        return write_message(*(ProtobufCMessage *const *)member, out, err);
    default:
        return err_set(err, ERR_INTERNAL, "field %s has a type without JSON form", field->name);
    }
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    default:
        return 4;
    }
}

static int write_map_entry(const ProtobufCMessage *entry, struct buf *out, struct err *err)
{
    const ProtobufCFieldDescriptor *fields = entry->descriptor->fields;

    if (write_value(&fields[0], codec_member(entry, &fields[0]), out, err) < 0)
        return -1;
    buf_add_char(out, ':');
    return write_value(&fields[1], codec_member(entry, &fields[1]), out, err);
}

static const char *entry_key(const ProtobufCMessage *entry)
{
    return *(char *const *)codec_member(entry, &entry->descriptor->fields[0]);
}

/* In the binary form a key may come again, and the last one counts; in JSON it must not. */
static int write_map(ProtobufCMessage *const *entries, size_t count, struct buf *out,
                     struct err *err)
{
    const char *separator = "{";
    struct map last;
    int rc = 0;

    map_init(&last);
    for (size_t i = 0; i < count; i++)
        map_put(&last, entry_key(entries[i]), entries[i]);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (map_get(&last, entry_key(entries[i])) != entries[i])
            continue;
        buf_add_str(out, separator);
        separator = ",";
        rc = write_map_entry(entries[i], out, err);
    }
    buf_add_char(out, '}');
    map_clear(&last);
    return rc;
}

static int write_repeated(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                          struct buf *out, struct err *err)
{
    size_t count = *(size_t *)codec_quantifier(message, field);
    const char *element = *(char **)codec_member(message, field);

    if (codec_is_map(field))
        return write_map((ProtobufCMessage *const *)(const void *)element, count, out, err);
    buf_add_char(out, '[');
    for (size_t i = 0; i < count; i++, element += element_size(field)) {
        if (i > 0)
            buf_add_char(out, ',');
        if (write_value(field, element, out, err) < 0)
            return -1;
    }
    buf_add_char(out, ']');
    return 0;
}

/* The value is the default one, so it is left out. */
static bool is_default(const ProtobufCFieldDescriptor *field, const void *member)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return *(char *const *)member == NULL || **(char *const *)member == '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)member)->len == 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(void *const *)member == NULL;
    default:
        for (size_t i = 0; i < element_size(field); i++) {
            if (((const char *)member)[i] != 0)
                return false;
        }
        return true;
    }
}

static bool is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return *(size_t *)codec_quantifier(message, field) > 0;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(uint32_t *)codec_quantifier(message, field) == field->id;
    return !is_default(field, codec_member(message, field));
}

static int write_message(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    const ProtobufCMessageDescriptor *desc = message->descriptor;
    const struct codec_form *form = codec_form_of(desc);
    char name[NAME_MAX_BYTES];
    bool first = true;

    if (codec_is_timestamp(desc))
        return write_timestamp(message, out, err);
    if (form != NULL)
        return form->write(message, out, err);
    buf_add_char(out, '{');
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &desc->fields[i];

        if (!is_present(message, field))
            continue;
        if (strlen(field->name) >= sizeof(name))
            return err_set(err, ERR_INTERNAL, "a field's name is too long");
        codec_json_name(field->name, name);
        buf_printf(out, first ? "\"%s\":" : ",\"%s\":", name);
        first = false;
        if (field->label == PROTOBUF_C_LABEL_REPEATED
                ? write_repeated(message, field, out, err) < 0
                : write_value(field, codec_member(message, field), out, err) < 0)
            return -1;
    }
    buf_add_char(out, '}');
    return 0;
}

int codec_json_encode(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    if (write_message(message, out, err) < 0)
        return -1;
    if (out->overflow)
        return err_set(err, ERR_LIMIT, "the message is larger than %zu bytes", out->max);
    return 0;
}
