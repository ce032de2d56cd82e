#include <string.h>

#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define TIMEOUT_DIGITS_MAX 10

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

bool wire_read_type(struct rpc_call *call)
{
    const char *type = http_header(call->ex, "content-type");
    size_t len;

    if (type == NULL)
        return false;
    len = strcspn(type, "; \t");
    call->stream = is_streaming(call->method);
    for (call->codec = CODEC_JSON; call->codec <= CODEC_PROTO; call->codec++) {
        if (mem_is_nocase(type, len, wire_content_type(call)))
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
