#include <stdio.h>
#include <string.h>

#include "envd/connect/gzip.h"
#include "envd/rpc_call.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define TRAILER_NAME_SIZE 256

size_t wire_message_max(const struct rpc_method *method)
{
    return method->body_max_bytes > 0 ? method->body_max_bytes : RPC_BODY_MAX_BYTES;
}

/* The codec's words behind "unmarshal message: ". */
static int decode(struct rpc_call *call, const char *data, size_t len, ProtobufCMessage **out,
                  struct err *err)
{
    struct err why = {0};

    if (codec_decode(call->codec, call->method->request, data, len, out, &why) < 0)
        return err_set(err, why.code, "unmarshal message: %.400s", why.msg);
    return 0;
}

int wire_decode(struct rpc_call *call, const char *data, size_t len, bool compressed,
                ProtobufCMessage **out, struct err *err)
{
    _cleanup_buf_ struct buf plain;

    buf_init(&plain, wire_message_max(call->method));
    if (compressed && call->stream && !call->gzip)
        return err_set(err, ERR_INTERNAL,
                       "protocol error: sent compressed message without compression support");
    if (!compressed || len == 0)
        return decode(call, data, len, out, err);
    if (gzip_inflate(data, len, &plain, err) < 0)
        return -1;
    return decode(call, buf_str(&plain), plain.len, out, err);
}

static size_t gzip_min(const struct rpc_call *call)
{
    size_t min = call->method->gzip_min_bytes;

    return min > 0 ? min : RPC_GZIP_MIN_BYTES;
}

void wire_begin(struct rpc_call *call)
{
    if (call->begun)
        return;
    http_set_header(call->ex, "Connect-Accept-Encoding", "gzip");
    if (call->gzip_answer)
        http_set_header(call->ex, "Connect-Content-Encoding", "gzip");
    http_stream_begin(call->ex, 200, wire_content_type(call));
    call->begun = true;
    call_trim(call);
}

/* Compress what OUT holds from AT on. False: it stays as it is. */
static bool compress(const struct rpc_call *call, struct buf *out, size_t at)
{
    _cleanup_buf_ struct buf packed;
    size_t len = out->len - at;

    buf_init(&packed, CONN_OUT_MAX);
    if (!call->gzip_answer || out->overflow || len < gzip_min(call) ||
        gzip_deflate(out->data + at, len, &packed) < 0 || packed.len >= len)
        return false;
    memcpy(out->data + at, packed.data, packed.len);
    out->len = at + packed.len;
    return true;
}

void wire_envelope_open(struct buf *out)
{
    buf_init(out, CONN_OUT_MAX / 2);
    buf_add(out, "\0\0\0\0\0", ENVELOPE_HEAD_BYTES);
}

void wire_envelope_send(struct rpc_call *call, struct buf *out, uint8_t flags)
{
    if (compress(call, out, ENVELOPE_HEAD_BYTES))
        flags |= ENVELOPE_COMPRESSED;
    envelope_head((uint8_t *)out->data, flags, (uint32_t)(out->len - ENVELOPE_HEAD_BYTES));
    wire_begin(call);
    http_stream_write(call->ex, out->data, out->len);
}

int wire_send(struct rpc_call *call, const ProtobufCMessage *message, struct err *err)
{
    _cleanup_buf_ struct buf out;

    wire_envelope_open(&out);
    if (codec_encode(call->codec, message, &out, err) < 0)
        return -1;
    wire_envelope_send(call, &out, 0);
    return 0;
}

/* What the handler chose, else what fits ERR. CALL may be NULL. */
static enum connect_code code_of(const struct rpc_call *call, const struct err *err)
{
    if (call != NULL && call->code != CONNECT_NONE)
        return call->code;
    return connect_code_of(err->code);
}

/* {"code":"…","message":"…","details":[…]}; a new reference. */
static json_t *error_json(const struct rpc_call *call, const struct err *err)
{
    enum connect_code code = code_of(call, err);
    json_t *json = json_object();
    size_t len = strlen(err->msg);

    while (len > 0 && !str_is_utf8(err->msg, len)) /* cut at its limit, or a name of the disk */
        len--;
    json_put_str(json, "code", connect_code_name(code));
    if (len > 0)
        json_put(json, "message", json_stringn(err->msg, len));
    if (call != NULL && call->details != NULL)
        json_put(json, "details", json_incref(call->details));
    return json;
}

static void finish_stream(struct rpc_call *call, const struct err *err)
{
    _cleanup_json_ json_t *end = json_object();
    _cleanup_free_ char *text = NULL;
    _cleanup_buf_ struct buf out;

    if (err != NULL)
        json_put(end, "error", error_json(call, err));
    if (call->trailers != NULL)
        json_put(end, "metadata", json_incref(call->trailers));
    text = json_text(end);
    wire_envelope_open(&out);
    buf_add_str(&out, text);
    wire_envelope_send(call, &out, ENVELOPE_END);
    http_stream_end(call->ex);
}

static void reply_unary_error(struct exchange *ex, const struct rpc_call *call,
                              const struct err *err)
{
    _cleanup_json_ json_t *json = error_json(call, err);
    _cleanup_free_ char *text = json_text(json);
    enum connect_code code = code_of(call, err);

    http_reply(ex, connect_code_status(code), "application/json", text, strlen(text));
}

void rpc_refuse(struct exchange *ex, const struct err *err)
{
    reply_unary_error(ex, NULL, err);
}

/* A unary call has its trailers as headers. */
static void add_trailers(struct rpc_call *call)
{
    const char *name;
    json_t *values, *value;
    char header[TRAILER_NAME_SIZE];
    size_t i;

    json_object_foreach(call->trailers, name, values) {
        snprintf(header, sizeof(header), "Trailer-%s", name);
        json_array_foreach(values, i, value)
            http_add_header(call->ex, header, json_string_value(value));
    }
}

int wire_encode(const struct rpc_call *call, const ProtobufCMessage *response, struct buf *out,
                bool *packed, struct err *err)
{
    buf_init(out, CONN_OUT_MAX / 2);
    if (codec_encode(call->codec, response, out, err) < 0)
        return -1;
    *packed = compress(call, out, 0);
    return 0;
}

static void reply_unary(struct rpc_call *call, const ProtobufCMessage *response)
{
    _cleanup_buf_ struct buf own = {0};
    const struct buf *out = &own;
    struct err err = {0};
    bool packed;

    if (response == NULL) { /* a worker has done it */
        out = &call->work->out;
        packed = call->work->packed;
    } else if (wire_encode(call, response, &own, &packed, &err) < 0) {
        reply_unary_error(call->ex, call, &err);
        return;
    }
    if (packed)
        http_set_header(call->ex, "Content-Encoding", "gzip");
    http_reply(call->ex, 200, wire_content_type(call), buf_str(out), out->len);
}

void wire_finish(struct rpc_call *call, const ProtobufCMessage *response, const struct err *err)
{
    struct err encode_err = {0};

    if (err != NULL && err->code == ERR_INTERNAL && err->detail[0] != '\0')
        log_err(LOG_WARN, call->method->name, NULL, err);
    if (call->stream && err == NULL && response != NULL &&
        wire_send(call, response, &encode_err) < 0)
        err = &encode_err;
    if (call->stream) {
        finish_stream(call, err);
        return;
    }
    add_trailers(call);
    if (err != NULL)
        reply_unary_error(call->ex, call, err);
    else
        reply_unary(call, response);
}
