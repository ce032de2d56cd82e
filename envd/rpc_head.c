#include <string.h>

#include "envd/connect/gzip.h"
#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define TIMEOUT_DIGITS_MAX 10
#define PARAMETER_MAX_BYTES 64

static bool is_streaming(const struct rpc_method *method)
{
    return method->kind == RPC_STREAM || method->kind == RPC_CLIENT_STREAM;
}

const char *wire_content_type(const struct rpc_call *call)
{
    if (call->stream)
        return call->codec == CODEC_JSON ? "application/connect+json" : "application/connect+proto";
    return call->codec == CODEC_JSON ? "application/json" : "application/proto";
}

/* Of GET: the query names the codec. */
static bool read_encoding(struct rpc_call *call)
{
    _cleanup_buf_ struct buf name;
    struct err ignored;

    buf_init(&name, PARAMETER_MAX_BYTES);
    if (http_query_param(call->ex, "encoding", &name, &ignored) != 1 ||
        http_body_length(call->ex) != 0)
        return false;
    call->codec = str_eq(buf_str(&name), "json") ? CODEC_JSON : CODEC_PROTO;
    return call->codec == CODEC_JSON || str_eq(buf_str(&name), "proto");
}

bool wire_read_type(struct rpc_call *call)
{
    const char *type = http_header(call->ex, "content-type");
    size_t len;

    call->stream = is_streaming(call->method);
    call->get = str_eq(http_method(call->ex), "GET");
    if (call->get)
        return read_encoding(call);
    if (type == NULL)
        return false;
    len = strcspn(type, "; \t");
    for (call->codec = CODEC_JSON; call->codec <= CODEC_PROTO; call->codec++) {
        if (mem_is_nocase(type, len, wire_content_type(call)))
            return true;
    }
    return false;
}

void wire_refuse_type(struct exchange *ex, const struct rpc_method *method)
{
    if (str_eq(http_method(ex), "GET")) {
        http_reply_empty(ex, 415);
        return;
    }
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

/* The name of a compression, as a header or query gives it. */
static int compression_named(const char *name, bool *gzip, struct err *err)
{
    *gzip = name != NULL && str_eq(name, "gzip");
    if (name == NULL || *name == '\0' || *gzip || str_eq(name, "identity"))
        return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "unknown compression \"%.64s\": supported encodings are gzip", name);
}

static int read_compression(struct rpc_call *call, struct err *err)
{
    const char *accepts =
        http_header(call->ex, call->stream ? "connect-accept-encoding" : "accept-encoding");

    call->gzip_answer = accepts != NULL && gzip_accepted(accepts);
    if (call->get)
        return 0;
    return compression_named(
        http_header(call->ex, call->stream ? "connect-content-encoding" : "content-encoding"),
        &call->gzip, err);
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

/* 1 and *OUT, 0 when there is none, -1 with *ERR. */
static int parameter(struct rpc_call *call, const char *name, struct buf *out, struct err *err)
{
    buf_init(out, PARAMETER_MAX_BYTES);
    return http_query_param(call->ex, name, out, err);
}

/* What a GET says beside its message. */
static int read_parameters(struct rpc_call *call, bool *base64, bool *compressed, struct err *err)
{
    _cleanup_buf_ struct buf version = {0}, form = {0}, compression = {0};
    int rc = parameter(call, "connect", &version, err);

    if (rc < 0 || parameter(call, "base64", &form, err) < 0 ||
        parameter(call, "compression", &compression, err) < 0)
        return -1;
    if (rc > 0 && !str_eq(buf_str(&version), "v1"))
        return err_set(err, ERR_INVALID, "connect query parameter must be \"v1\": got \"%s\"",
                       buf_str(&version));
    *base64 = str_eq(buf_str(&form), "1");
    if (compression_named(buf_str(&compression), compressed, err) < 0)
        return -1;
    call->gzip = *compressed;
    return 0;
}

int wire_read_query(struct rpc_call *call, struct buf *text, bool *compressed, struct err *err)
{
    _cleanup_free_ uint8_t *data = NULL;
    bool base64 = false;
    size_t len;
    int rc;

    if (read_parameters(call, &base64, compressed, err) < 0)
        return -1;
    rc = http_query_bytes(http_query(call->ex), "message", text, err);
    if (rc == 0)
        return err_set(err, ERR_INVALID, "missing message parameter");
    if (rc < 0 || !base64)
        return rc < 0 ? -1 : 0;
    data = mem_calloc(text->len / 4 * 3 + 3, 1);
    if (base64_decode(buf_str(text), text->len, data, &len) < 0)
        return err_set(err, ERR_INVALID, "the message parameter is not base64");
    buf_reset(text);
    return buf_add(text, data, len);
}
