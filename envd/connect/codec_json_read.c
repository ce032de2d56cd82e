#include <stdlib.h>
#include <string.h>

#include "envd/connect/codec.h"
#include "envd/connect/json_text.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define NAME_MAX_BYTES 128
#define NUMBER_MAX_BYTES 64
#define LIST_FIRST 4 /* elements */

/* One decoding: the text, and what its messages may still take. */
struct reader {
    struct json_text text;
    size_t left; /* bytes of memory */
    struct err *err;
};

static int read_message(struct reader *in, const ProtobufCMessageDescriptor *desc,
                        ProtobufCMessage **out);

static int wrong(struct reader *in, const ProtobufCFieldDescriptor *field, const char *want)
{
    return in->text.problem != NULL
               ? json_text_error(&in->text, in->err)
               : err_set(in->err, ERR_INVALID, "field %s: expected %s", field->name, want);
}

static int malformed(struct reader *in)
{
    return json_text_error(&in->text, in->err);
}

static int twice(struct reader *in, const char *name)
{
    return err_set(in->err, ERR_INVALID, "field %s is there twice", name);
}

/* Take SIZE bytes of memory from what is left. */
static int spend(struct reader *in, size_t size)
{
    size = codec_memory(size);
    if (size > in->left)
        return err_set(in->err, ERR_LIMIT, "the message takes too much memory");
    in->left -= size;
    return 0;
}

/* ---- Numbers ---- */

static int integral(const char *s, int64_t *out)
{
    double real = strtod(s, NULL);

    if (!(real >= -9007199254740992.0 && real <= 9007199254740992.0) ||
        (double)(int64_t)real != real)
        return -1;
    *out = (int64_t)real;
    return 0;
}

/* The text of a number, or of a string that should be one; NUL-terminated in OUT. */
static int read_digits(struct reader *in, char *out, bool *quoted)
{
    struct json_slice slice;

    *quoted = json_text_peek(&in->text) == '"';
    if ((*quoted ? json_text_string(&in->text, &slice) : json_text_number(&in->text, &slice)) < 0)
        return -1;
    return slice.len == 0 ? -1 : str_copy(out, NUMBER_MAX_BYTES, slice.s, slice.len);
}

/* A JSON integer, an integral real, or an integer in a string. */
static int read_integer(struct reader *in, const ProtobufCFieldDescriptor *field, int64_t min,
                        int64_t max, int64_t *out)
{
    char digits[NUMBER_MAX_BYTES];
    struct err ignored;
    bool quoted;

    if (read_digits(in, digits, &quoted) < 0)
        return wrong(in, field, "an integer");
    if (str_to_i64(digits, strlen(digits), INT64_MIN, INT64_MAX, "", out, &ignored) < 0 &&
        (quoted || integral(digits, out) < 0))
        return wrong(in, field, "an integer");
    return *out < min || *out > max ? wrong(in, field, "an integer in range") : 0;
}

static int read_u64(struct reader *in, const ProtobufCFieldDescriptor *field, uint64_t *out)
{
    char digits[NUMBER_MAX_BYTES];
    struct err ignored;
    int64_t value;
    bool quoted;

    if (read_digits(in, digits, &quoted) < 0)
        return wrong(in, field, "an integer");
    if (str_to_u64(digits, strlen(digits), 0, UINT64_MAX, "", out, &ignored) == 0)
        return 0;
    if (quoted || integral(digits, &value) < 0 || value < 0)
        return wrong(in, field, "an integer in range");
    *out = (uint64_t)value;
    return 0;
}

static int read_i32(struct reader *in, const ProtobufCFieldDescriptor *field, int32_t *out)
{
    int64_t value;

    if (read_integer(in, field, INT32_MIN, INT32_MAX, &value) < 0)
        return -1;
    *out = (int32_t)value;
    return 0;
}

static int read_u32(struct reader *in, const ProtobufCFieldDescriptor *field, uint32_t *out)
{
    int64_t value;

    if (read_integer(in, field, 0, UINT32_MAX, &value) < 0)
        return -1;
    *out = (uint32_t)value;
    return 0;
}

static int read_bool(struct reader *in, const ProtobufCFieldDescriptor *field,
                     protobuf_c_boolean *out)
{
    char c = json_text_peek(&in->text);

    if ((c != 't' && c != 'f') || json_text_word(&in->text, c == 't' ? "true" : "false") < 0)
        return wrong(in, field, "true or false");
    *out = c == 't';
    return 0;
}

/* ---- Strings ---- */

static int read_string(struct reader *in, const ProtobufCFieldDescriptor *field, char **out)
{
    _cleanup_free_ char *text = NULL;
    struct json_slice slice;
    ptrdiff_t len;

    if (json_text_peek(&in->text) != '"' || json_text_string(&in->text, &slice) < 0)
        return wrong(in, field, "a string");
    if (spend(in, slice.len + 1) < 0)
        return -1;
    text = mem_calloc(slice.len + 1, 1);
    len = json_slice_decode(&slice, text);
    if (len < 0 || memchr(text, '\0', (size_t)len) != NULL)
        return wrong(in, field, "Unicode text without NUL");
    text[len] = '\0';
    *out = steal_ptr(&text);
    return 0;
}

/* Base64 is seldom escaped, so it is decoded from where it stands. */
static int read_bytes(struct reader *in, const ProtobufCFieldDescriptor *field,
                      ProtobufCBinaryData *out)
{
    _cleanup_free_ char *plain = NULL;
    _cleanup_free_ uint8_t *data = NULL;
    struct json_slice slice;
    ptrdiff_t len;

    if (json_text_peek(&in->text) != '"' || json_text_string(&in->text, &slice) < 0)
        return wrong(in, field, "base64 in a string");
    if (spend(in, slice.len / 4 * 3 + 3) < 0 || (slice.escaped && spend(in, slice.len) < 0))
        return -1;
    len = (ptrdiff_t)slice.len;
    if (slice.escaped) { /* "\/" */
        plain = mem_calloc(slice.len, 1);
        len = json_slice_decode(&slice, plain);
    }
    data = mem_realloc_array(NULL, slice.len / 4 * 3 + 3, 1);
    if (len < 0 || base64_decode(plain != NULL ? plain : slice.s, (size_t)len, data, &out->len) < 0)
        return wrong(in, field, "base64 in a string");
    out->data = steal_ptr(&data);
    return 0;
}

static int read_enum(struct reader *in, const ProtobufCFieldDescriptor *field, int *out)
{
    _cleanup_free_ char *name = NULL;
    const ProtobufCEnumValue *value;
    int32_t number;
    char c = json_text_peek(&in->text);

    if (c == '"') {
        if (read_string(in, field, &name) < 0)
            return -1;
        value = protobuf_c_enum_descriptor_get_value_by_name(field->descriptor, name);
        if (value == NULL)
            return wrong(in, field, "a name of its enum");
        *out = value->value;
        return 0;
    }
    if (c != '-' && (c < '0' || c > '9'))
        return wrong(in, field, "a name or number of its enum");
    if (read_i32(in, field, &number) < 0)
        return -1;
    *out = number;
    return 0;
}

/* One value into MEMBER, which holds the default. */
static int read_value(struct reader *in, const ProtobufCFieldDescriptor *field, void *member)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_i32(in, field, member);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_u32(in, field, member);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_integer(in, field, INT64_MIN, INT64_MAX, member);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_u64(in, field, member);
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(in, field, member);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(in, field, member);
    case PROTOBUF_C_TYPE_STRING:
        return read_string(in, field, member);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(in, field, member);
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_message(in, field->descriptor, member);
    default:
        return wrong(in, field, "a type with a JSON form");
    }
}

/* ---- Lists and maps ---- */

/* Room for one more element behind COUNT. */
static int grow(struct reader *in, void **list, size_t count, size_t element)
{
    bool full = count == 0 || (count >= LIST_FIRST && (count & (count - 1)) == 0);
    size_t cap = count == 0 ? LIST_FIRST : 2 * count;

    if (!full)
        return 0;
    if (spend(in, (cap - count) * element) < 0)
        return -1;
    *list = mem_realloc_array(*list, cap, element);
    return 0;
}

static int new_message(struct reader *in, const ProtobufCMessageDescriptor *desc,
                       ProtobufCMessage **out)
{
    if (spend(in, desc->sizeof_message) < 0)
        return -1;
    *out = mem_zalloc(desc->sizeof_message);
    protobuf_c_message_init(desc, *out);
    return 0;
}

static int read_entry(struct reader *in, const ProtobufCMessageDescriptor *desc,
                      const struct json_slice *key, ProtobufCMessage **out)
{
    _cleanup_message_ ProtobufCMessage *entry = NULL;
    struct reader key_in = {.left = in->left, .err = in->err};

    /* The key with its quotes is a JSON text itself. */
    json_text_init(&key_in.text, key->s - 1, key->len + 2);
    if (new_message(in, desc, &entry) < 0 ||
        read_string(&key_in, &desc->fields[0], codec_member(entry, &desc->fields[0])) < 0 ||
        spend(in, key->len + 1) < 0 ||
        read_value(in, &desc->fields[1], codec_member(entry, &desc->fields[1])) < 0)
        return -1;
    *out = steal_ptr(&entry);
    return 0;
}

static int read_map(struct reader *in, const ProtobufCFieldDescriptor *field, size_t *count,
                    void **list)
{
    struct json_slice key;
    bool first = true;
    int more;

    if (json_text_peek(&in->text) != '{' || json_text_enter(&in->text, '{') < 0)
        return wrong(in, field, "an object");
    while ((more = json_text_key(&in->text, &first, &key)) > 0) {
        if (grow(in, list, *count, sizeof(void *)) < 0 ||
            read_entry(in, field->descriptor, &key, (ProtobufCMessage **)*list + *count) < 0)
            return -1;
        ++*count;
    }
    return more < 0 ? malformed(in) : 0;
}

static int read_list(struct reader *in, const ProtobufCFieldDescriptor *field, size_t *count,
                     void **list)
{
    size_t element = field->type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData) : 8;
    bool first = true;
    int more;

    /* Repeated fields of ours are strings, bytes and messages; numbers would need packing here. */
    if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_BYTES &&
        field->type != PROTOBUF_C_TYPE_MESSAGE)
        return wrong(in, field, "a supported list");
    if (json_text_peek(&in->text) != '[' || json_text_enter(&in->text, '[') < 0)
        return wrong(in, field, "an array");
    while ((more = json_text_element(&in->text, &first)) > 0) {
        if (grow(in, list, *count, element) < 0)
            return -1;
        memset((char *)*list + *count * element, 0, element);
        if (read_value(in, field, (char *)*list + *count * element) < 0)
            return -1;
        ++*count;
    }
    return more < 0 ? malformed(in) : 0;
}

static int read_repeated(struct reader *in, ProtobufCMessage *message,
                         const ProtobufCFieldDescriptor *field)
{
    size_t *count = codec_quantifier(message, field);
    void *list = codec_member(message, field);

    if (*(void **)list != NULL)
        return twice(in, field->name);
    return codec_is_map(field) ? read_map(in, field, count, list)
                               : read_list(in, field, count, list);
}

/* ---- Messages ---- */

static int read_oneof(struct reader *in, ProtobufCMessage *message,
                      const ProtobufCFieldDescriptor *field)
{
    uint32_t *which = codec_quantifier(message, field);
    void *member = codec_member(message, field);

    if (*which != 0)
        return err_set(in->err, ERR_INVALID, "field %s: its oneof is already set", field->name);
    if (field->type == PROTOBUF_C_TYPE_STRING) /* the union's bytes may be another member's */
        *(const char **)member = protobuf_c_empty_string;
    if (read_value(in, field, member) < 0)
        return -1;
    *which = field->id;
    return 0;
}

static int read_field(struct reader *in, ProtobufCMessage *message,
                      const ProtobufCFieldDescriptor *field)
{
    void *member = codec_member(message, field);

    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return read_repeated(in, message, field);
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return read_oneof(in, message, field);
    if ((field->type == PROTOBUF_C_TYPE_STRING && *(const char **)member != field->default_value) ||
        (field->type == PROTOBUF_C_TYPE_BYTES && ((ProtobufCBinaryData *)member)->data != NULL) ||
        (field->type == PROTOBUF_C_TYPE_MESSAGE && *(void **)member != NULL))
        return twice(in, field->name);
    return read_value(in, field, member);
}

/* The field a JSON key names: as in the .proto file, or in lowerCamelCase. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc,
                                                  const struct json_slice *key)
{
    char name[NAME_MAX_BYTES];

    if (key->len >= sizeof(name) || key->escaped)
        return NULL;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const char *field = desc->fields[i].name;

        if (mem_is(key->s, key->len, field))
            return &desc->fields[i];
        if (strlen(field) >= sizeof(name) || strchr(field, '_') == NULL)
            continue;
        codec_json_name(field, name);
        if (mem_is(key->s, key->len, name))
            return &desc->fields[i];
    }
    return NULL;
}

static int read_timestamp(struct reader *in, ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *fields = message->descriptor->fields;
    struct json_slice slice;
    int64_t ms;
    uint32_t nanos;

    if (json_text_peek(&in->text) != '"' || json_text_string(&in->text, &slice) < 0 ||
        time_parse_rfc3339(slice.s, slice.len, &ms, &nanos) < 0)
        return in->text.problem != NULL
                   ? malformed(in)
                   : err_set(in->err, ERR_INVALID, "a time must be an RFC 3339 string");
    *(int64_t *)codec_member(message, &fields[0]) = (ms - (int64_t)(nanos / 1000000)) / 1000;
    *(int32_t *)codec_member(message, &fields[1]) = (int32_t)nanos;
    return 0;
}

static int read_fields(struct reader *in, ProtobufCMessage *message)
{
    struct json_slice key;
    bool first = true;
    int more;

    if (json_text_peek(&in->text) != '{' || json_text_enter(&in->text, '{') < 0)
        return in->text.problem != NULL ? malformed(in)
                                        : err_set(in->err, ERR_INVALID, "%s must be an object",
                                                  message->descriptor->short_name);
    while ((more = json_text_key(&in->text, &first, &key)) > 0) {
        const ProtobufCFieldDescriptor *field = find_field(message->descriptor, &key);

        if (field == NULL || json_text_peek(&in->text) == 'n') { /* null is absent */
            if (json_text_skip(&in->text, NULL) < 0)
                return malformed(in);
        } else if (read_field(in, message, field) < 0) {
            return -1;
        }
    }
    return more < 0 ? malformed(in) : 0;
}

static int read_message(struct reader *in, const ProtobufCMessageDescriptor *desc,
                        ProtobufCMessage **out)
{
    _cleanup_message_ ProtobufCMessage *message = NULL;
    const struct codec_form *form = codec_form_of(desc);
    struct json_slice slice;
    int rc;

    if (new_message(in, desc, &message) < 0)
        return -1;
    if (form != NULL) {
        if (json_text_skip(&in->text, &slice) < 0)
            return malformed(in);
        rc = spend(in, slice.len) < 0 ? -1 : form->read(slice.s, slice.len, message, in->err);
    } else {
        rc = codec_is_timestamp(desc) ? read_timestamp(in, message) : read_fields(in, message);
    }
    if (rc == 0)
        *out = steal_ptr(&message);
    return rc;
}

int codec_json_decode(const ProtobufCMessageDescriptor *desc, const char *data, size_t len,
                      ProtobufCMessage **out, struct err *err)
{
    _cleanup_message_ ProtobufCMessage *message = NULL;
    struct reader in = {.left = codec_memory_max(len), .err = err};

    if (len == 0)
        return err_set(err, ERR_INVALID, "zero-length payload is not a valid JSON object");
    json_text_init(&in.text, data, len);
    if (read_message(&in, desc, &message) < 0)
        return -1;
    if (json_text_end(&in.text) < 0)
        return malformed(&in);
    *out = steal_ptr(&message);
    return 0;
}
