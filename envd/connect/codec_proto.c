#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "envd/connect/codec.h"
#include "server/base/str.h"

#define DEPTH_MAX 32

struct wire {
    const uint8_t *at;
    const uint8_t *end;
};

/* Returns 0, or -1 when the bytes end or the number has more than 64 bits. */
static int read_varint(struct wire *wire, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte;

        if (wire->at == wire->end || (shift == 63 && *wire->at > 1))
            return -1;
        byte = *wire->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return 0;
        }
    }
    return -1;
}

static int skip(struct wire *wire, uint64_t len)
{
    if (len > (uint64_t)(wire->end - wire->at))
        return -1;
    wire->at += len;
    return 0;
}

static const char *check(const ProtobufCMessageDescriptor *desc, struct wire wire, int depth);

/* A length-delimited field. Returns what is wrong, or NULL. */
static const char *check_bytes(const ProtobufCFieldDescriptor *field, struct wire *wire, int depth)
{
    struct wire inner;
    uint64_t len;

    if (read_varint(wire, &len) < 0)
        return "truncated length";
    inner.at = wire->at;
    if (skip(wire, len) < 0)
        return "truncated field";
    inner.end = wire->at;
    if (field == NULL)
        return NULL;
    if (field->type == PROTOBUF_C_TYPE_STRING && !str_is_utf8((const char *)inner.at, (size_t)len))
        return "a string is not UTF-8";
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return check(field->descriptor, inner, depth + 1);
    return NULL;
}

/* What protobuf-c does not check: UTF-8 in strings, NUL in them, nesting. */
static const char *check(const ProtobufCMessageDescriptor *desc, struct wire wire, int depth)
{
    if (depth > DEPTH_MAX)
        return "nested too deep";
    while (wire.at < wire.end) {
        const char *problem = NULL;
        uint64_t tag, value;

        if (read_varint(&wire, &tag) < 0 || tag > UINT32_MAX || tag >> 3 == 0)
            return "invalid tag";
        switch (tag & 7) {
        case 0:
            problem = read_varint(&wire, &value) < 0 ? "invalid number" : NULL;
            break;
        case 1:
            problem = skip(&wire, 8) < 0 ? "truncated field" : NULL;
            break;
        case 2:
            problem = check_bytes(
                protobuf_c_message_descriptor_get_field(desc, (unsigned)(tag >> 3)), &wire, depth);
            break;
        case 5:
            problem = skip(&wire, 4) < 0 ? "truncated field" : NULL;
            break;
        default:
            return "invalid wire type";
        }
        if (problem != NULL)
            return problem;
    }
    return NULL;
}

/* What protobuf-c may allocate for one message, by plain malloc and free. */
struct allowance {
    size_t left;
    bool exhausted;
};

static void *allot(void *data, size_t size)
{
    struct allowance *allowance = data;
    void *memory = codec_memory(size) <= allowance->left ? malloc(size) : NULL;
    size_t taken = memory != NULL ? codec_memory(malloc_usable_size(memory)) : 0;

    if (memory == NULL)
        allowance->exhausted = true;
    allowance->left -= taken < allowance->left ? taken : allowance->left;
    return memory;
}

static void unallot(void *data, void *memory)
{
    struct allowance *allowance = data;

    if (memory != NULL)
        allowance->left += codec_memory(malloc_usable_size(memory));
    free(memory);
}

int codec_proto_decode(const ProtobufCMessageDescriptor *desc, const char *data, size_t len,
                       ProtobufCMessage **out, struct err *err)
{
    struct wire wire = {(const uint8_t *)data, (const uint8_t *)data + len};
    const char *problem = check(desc, wire, 0);
    struct allowance allowance = {.left = codec_memory_max(len)};
    ProtobufCAllocator allocator = {allot, unallot, &allowance};
    ProtobufCMessage *message;

    if (problem != NULL)
        return err_set(err, ERR_INVALID, "invalid %s: %s", desc->short_name, problem);
    message = protobuf_c_message_unpack(desc, &allocator, len, (const uint8_t *)data);
    if (message == NULL && allowance.exhausted)
        return err_set(err, ERR_LIMIT, "the message takes too much memory");
    if (message == NULL)
        return err_set(err, ERR_INVALID, "invalid %s: not well-formed", desc->short_name);
    *out = message;
    return 0;
}

int codec_proto_encode(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    char *to = buf_reserve(out, len);

    if (to == NULL)
        return err_set(err, ERR_LIMIT, "the message is larger than %zu bytes", out->max);
    buf_commit(out, protobuf_c_message_pack(message, (uint8_t *)to));
    return 0;
}
