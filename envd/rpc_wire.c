#include <string.h>

#include "envd/connect/gzip.h"
#include "envd/rpc_call.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define SCRATCH_KEEP_BYTES (1 << 20)

static struct buf scratch; /* loop thread: one message on its way out */

static struct buf *scratch_get(void)
{
    if (scratch.cap > SCRATCH_KEEP_BYTES)
        buf_clear(&scratch);
    if (scratch.max == 0)
        buf_init(&scratch, CONN_OUT_MAX / 2);
    buf_reset(&scratch);
    return &scratch;
}

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
    if (!compressed || len == 0)
        return decode(call, data, len, out, err);
    if (!call->gzip)
        return err_set(err, ERR_INVALID, "protocol error: compressed message without an encoding");
    if (gzip_inflate(data, len, &plain, err) < 0)
        return -1;
    return decode(call, buf_str(&plain), plain.len, out, err);
}

void wire_begin(struct rpc_call *call)
{
    if (!call->begun)
        http_stream_begin(call->ex, 200, wire_content_type(call));
    call->begun = true;
    call_trim(call);
}

/* Fill in the head that was kept free at the front of OUT, and send it. */
static void send_envelope(struct rpc_call *call, struct buf *out, uint8_t flags)
{
    envelope_head((uint8_t *)out->data, flags, (uint32_t)(out->len - ENVELOPE_HEAD_BYTES));
    wire_begin(call);
    http_stream_write(call->ex, out->data, out->len);
}

int wire_send(struct rpc_call *call, const ProtobufCMessage *message, struct err *err)
{
    struct buf *out = scratch_get();

    buf_add(out, "\0\0\0\0\0", ENVELOPE_HEAD_BYTES);
    if (codec_encode(call->codec, message, out, err) < 0)
        return -1;
    send_envelope(call, out, 0);
    return 0;
}

/* What the handler chose, else what fits ERR. CALL may be NULL. */
static enum connect_code code_of(const struct rpc_call *call, const struct err *err)
{
    if (call != NULL && call->code != CONNECT_NONE)
        return call->code;
    return connect_code_of(err->code);
}

/* {"code":"…","message":"…"}; a new reference. */
static json_t *error_json(const struct rpc_call *call, const struct err *err)
{
    enum connect_code code = code_of(call, err);
    json_t *json = json_object();
    size_t len = strlen(err->msg);

    while (len > 0 && !str_is_utf8(err->msg, len)) /* cut at its limit, or a name of the disk */
        len--;
    json_put_str(json, "code", connect_code_name(code));
    json_put(json, "message", json_stringn(err->msg, len));
    return json;
}

static void finish_stream(struct rpc_call *call, const struct err *err)
{
    _cleanup_json_ json_t *end = json_object();
    _cleanup_free_ char *text = NULL;
    struct buf *out = scratch_get();

    if (err != NULL)
        json_put(end, "error", error_json(call, err));
    text = json_text(end);
    buf_add(out, "\0\0\0\0\0", ENVELOPE_HEAD_BYTES);
    buf_add_str(out, text);
    send_envelope(call, out, ENVELOPE_END);
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

void wire_finish(struct rpc_call *call, const ProtobufCMessage *response, const struct err *err)
{
    struct err encode_err = {0};
    struct buf *out;

    if (err != NULL && err->code == ERR_INTERNAL && err->detail[0] != '\0')
        log_err(LOG_WARN, call->method->name, NULL, err);
    if (call->stream && err == NULL && response != NULL &&
        wire_send(call, response, &encode_err) < 0)
        err = &encode_err;
    if (call->stream) {
        finish_stream(call, err);
        return;
    }
    out = scratch_get();
    if (err == NULL && codec_encode(call->codec, response, out, &encode_err) < 0)
        err = &encode_err;
    if (err != NULL)
        reply_unary_error(call->ex, call, err);
    else
        http_reply(call->ex, 200, wire_content_type(call), buf_str(out), out->len);
}
