/*
 * envd/connect/codec.h - messages on the wire: binary protobuf and protobuf's JSON.
 *
 * Both work from protobuf-c's descriptors, so a new message needs no code here. Pure. Any thread.
 * JSON out: lowerCamelCase names, default values left out, `optional` ones (oneof members) kept,
 * bytes in base64, 64-bit integers as strings, enums by name, Timestamp as RFC 3339, maps as
 * objects. JSON in: also snake_case names, URL-safe or unpadded base64, numbers or strings for
 * integers, numbers for enums; null is absent; unknown fields are skipped.
 * Strings must be UTF-8 without NUL in both forms. What a message takes in memory is bounded by
 * codec_memory_max(), so that a small text of many empty things cannot fill it.
 * Source: envd-api section 2.6; protobuf.dev "ProtoJSON Format" and "Encoding".
 */
#ifndef ENVD_CONNECT_CODEC_H
#define ENVD_CONNECT_CODEC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/base/buf.h"
#include "server/base/err.h"

enum codec { CODEC_JSON, CODEC_PROTO };

/*
 * Decode LEN bytes as a DESC message: 0 and *OUT, to free with codec_free; or -1 with ERR_INVALID
 * whose message says what is wrong, or ERR_LIMIT when it would take too much memory.
 */
int codec_decode(enum codec codec, const ProtobufCMessageDescriptor *desc, const char *data,
                 size_t len, ProtobufCMessage **out, struct err *err);
/* Append MESSAGE. -1: ERR_LIMIT when OUT is full, ERR_INTERNAL for what cannot be expressed. */
int codec_encode(enum codec codec, const ProtobufCMessage *message, struct buf *out,
                 struct err *err);
/* NULL is fine. */
void codec_free(ProtobufCMessage *message);

static inline void cleanup_message(ProtobufCMessage **message)
{
    codec_free(*message);
}
#define _cleanup_message_ __attribute__((cleanup(cleanup_message)))

/*
 * A message type with a JSON form of its own, beside Timestamp. TEXT is one well-formed JSON value;
 * READ fills MESSAGE, WRITE appends one value. Add before the first message; never freed.
 */
struct codec_form {
    const char *message; /* full name, "google.protobuf.Any" */
    int (*read)(const char *text, size_t len, ProtobufCMessage *message, struct err *err);
    int (*write)(const ProtobufCMessage *message, struct buf *out, struct err *err);
    struct codec_form *next;
};
void codec_add_form(struct codec_form *form);

/* ---- The parts, for codec_*.c and tests ---- */

/* NULL: the usual one. */
const struct codec_form *codec_form_of(const ProtobufCMessageDescriptor *desc);
/* What an allocation of SIZE bytes takes, and all those of a message of LEN bytes may take. */
size_t codec_memory(size_t size);
size_t codec_memory_max(size_t len);

int codec_json_decode(const ProtobufCMessageDescriptor *desc, const char *data, size_t len,
                      ProtobufCMessage **out, struct err *err);
int codec_json_encode(const ProtobufCMessage *message, struct buf *out, struct err *err);
int codec_proto_decode(const ProtobufCMessageDescriptor *desc, const char *data, size_t len,
                       ProtobufCMessage **out, struct err *err);
int codec_proto_encode(const ProtobufCMessage *message, struct buf *out, struct err *err);

/* DESC is the seconds-and-nanos message that JSON shows as RFC 3339. */
bool codec_is_timestamp(const ProtobufCMessageDescriptor *desc);
/* FIELD is a map: a repeated message of key and value, as protoc makes of map<string, string>. */
bool codec_is_map(const ProtobufCFieldDescriptor *field);
/* "modified_time" to "modifiedTime"; OUT holds at least strlen(NAME) + 1. */
void codec_json_name(const char *name, char *out);

/* Where MESSAGE keeps FIELD, and its presence word (count, oneof case, has_). */
static inline void *codec_member(const ProtobufCMessage *message,
                                 const ProtobufCFieldDescriptor *field)
{
    return (char *)(uintptr_t)message + field->offset;
}
static inline void *codec_quantifier(const ProtobufCMessage *message,
                                     const ProtobufCFieldDescriptor *field)
{
    return (char *)(uintptr_t)message + field->quantifier_offset;
}

#endif
