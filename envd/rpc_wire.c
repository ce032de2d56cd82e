#include <string.h>

#include "envd/connect/gzip.h"
#include "envd/rpc_call.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define SCRATCH_KEEP_BYTES (1 << 20)
#define TIMEOUT_DIGITS_MAX 10

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

static bool is_streaming(const struct rpc_method *method)
{
    return method->kind == RPC_STREAM || method->kind == RPC_CLIENT_STREAM;
}

static const char *content_type(const struct rpc_call *call)
{
    if (call->stream)
        return call->codec == CODEC_JSON ? "application/connect+json" : "application/connect+proto";
    return call->codec == CODEC_JSON ? "application/json" : "application/proto";
}

bool wire_read_type(struct rpc_call *call)
{
    const char *type = http_header(call->ex, "content-type");
    size_t len;

    if (type == NULL)
        return false;
    len = strcspn(type, "; \t");
    call->stream = is_streaming(call->method);
    for (call->codec = CODEC_JSON; call->codec <= CODEC_PROTO; call->codec++) {
        if (mem_is_nocase(type, len, content_type(call)))
            return true;
    }
    return false;
}

void wire_refuse_type(struct exchange *ex, const struct rpc_method *method)
{
    http_set_header(ex, "Accept-Post",
                    is_streaming(method) ? "application/connect+json, application/connect+proto"
                                         : "application/json, application/proto");
    http_reply_empty(ex, 415);
}

static int read_timeout(struct rpc_call *call, struct err *err)
{
    const char *text = http_header(call->ex, "connect-timeout-ms");
    struct err why;
    uint64_t ms;

    if (text == NULL || *text == '\0')
        return 0;
    if (strlen(text) > TIMEOUT_DIGITS_MAX)
        return err_set(err, ERR_INVALID, "parse timeout: \"%.32s\" has >10 digits", text);
    if (str_to_u64(text, strlen(text), 0, 9999999999, "timeout", &ms, &why) < 0)
        return err_set(err, ERR_INVALID, "parse timeout: \"%.32s\" is not a number", text);
    call->timeout_ms = (int64_t)ms;
    return 0;
}

static int read_compression(struct rpc_call *call, struct err *err)
{
    const char *name =
        http_header(call->ex, call->stream ? "connect-content-encoding" : "content-encoding");

    if (name == NULL || *name == '\0' || str_eq(name, "identity"))
        return 0;
    if (!str_eq(name, "gzip"))
        return err_set(err, ERR_UNSUPPORTED,
                       "unknown compression \"%.64s\": supported encodings are gzip", name);
    call->gzip = true;
    return 0;
}

static void read_keepalive(struct rpc_call *call)
{
    const char *text = http_header(call->ex, "keepalive-ping-interval");
    struct err ignored;
    uint64_t seconds;

    call->keepalive_ms = RPC_KEEPALIVE_DEFAULT_MS;
    if (text != NULL &&
        str_to_u64(text, strlen(text), 1, 86400, "interval", &seconds, &ignored) == 0)
        call->keepalive_ms = (int64_t)seconds * 1000;
}

int wire_read_head(struct rpc_call *call, struct err *err)
{
    const char *version = http_header(call->ex, "connect-protocol-version");

    if (version != NULL && !str_eq(version, "1"))
        return err_set(err, ERR_INVALID, "Connect-Protocol-Version must be \"1\": got \"%.64s\"",
                       version);
    read_keepalive(call);
    if (read_timeout(call, err) < 0)
        return -1;
    return read_compression(call, err);
}

static size_t message_max(const struct rpc_call *call)
{
    return call->method->body_max_bytes > 0 ? call->method->body_max_bytes : RPC_BODY_MAX_BYTES;
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

    buf_init(&plain, message_max(call));
    if (!compressed || len == 0)
        return decode(call, data, len, out, err);
    if (!call->gzip)
        return err_set(err, ERR_INVALID, "protocol error: compressed message without an encoding");
    if (gzip_inflate(data, len, &plain, err) < 0)
        return -1;
    return decode(call, buf_str(&plain), plain.len, out, err);
}

static void stream_begin(struct rpc_call *call)
{
    if (!call->begun)
        http_stream_begin(call->ex, 200, content_type(call));
    call->begun = true;
}

/* Fill in the head that was kept free at the front of OUT, and send it. */
static void send_envelope(struct rpc_call *call, struct buf *out, uint8_t flags)
{
    envelope_head((uint8_t *)out->data, flags, (uint32_t)(out->len - ENVELOPE_HEAD_BYTES));
    stream_begin(call);
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
        http_reply(call->ex, 200, content_type(call), buf_str(out), out->len);
}
