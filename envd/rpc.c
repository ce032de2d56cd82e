#include "envd/rpc.h"

#include <string.h>

#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/str.h"

const struct settings *rpc_settings(const struct rpc_call *call)
{
    return http_settings(call->ex);
}

const char *rpc_header(const struct rpc_call *call, const char *name)
{
    return http_header(call->ex, name);
}

int64_t rpc_timeout_ms(const struct rpc_call *call)
{
    return call->timeout_ms;
}

bool rpc_is_get(const struct rpc_call *call)
{
    return call->get;
}

void rpc_add_header(struct rpc_call *call, const char *name, const char *value)
{
    http_add_header(call->ex, name, value);
}

void rpc_add_trailer(struct rpc_call *call, const char *name, const char *value)
{
    json_t *values;

    if (call->trailers == NULL)
        call->trailers = json_object();
    values = json_object_get(call->trailers, name);
    if (values == NULL) {
        json_put(call->trailers, name, json_array());
        values = json_object_get(call->trailers, name);
    }
    json_array_append_new(values, json_string(value));
}

void rpc_add_detail(struct rpc_call *call, const char *type, const void *data, size_t len)
{
    _cleanup_free_ char *text = mem_calloc(BASE64_SIZE(len), 1);
    json_t *detail = json_object();

    base64_encode(BASE64_STD_RAW, data, len, text);
    json_put_str(detail, "type", type);
    json_put_str(detail, "value", text);
    if (call->details == NULL)
        call->details = json_array();
    json_array_append_new(call->details, detail);
}

void rpc_send_head(struct rpc_call *call)
{
    if (!call->over)
        wire_begin(call);
}

void rpc_set_state(struct rpc_call *call, void *state)
{
    call->state = state;
}

void *rpc_state(const struct rpc_call *call)
{
    return call->state;
}

void rpc_set_code(struct rpc_call *call, enum connect_code code)
{
    call->code = code;
}

void rpc_set_header(struct rpc_call *call, const char *name, const char *value)
{
    http_set_header(call->ex, name, value);
}

const struct user *rpc_user(struct rpc_call *call, struct err *err)
{
    const char *name = rpc_settings(call)->default_user;
    struct user *user;

    if (call->ex->user != NULL)
        return call->ex->user;
    if (call->user != NULL)
        return call->user;
    if (name[0] == '\0') {
        err_set(err, ERR_UNAUTHENTICATED, "no user specified");
        return NULL;
    }
    user = mem_zalloc(sizeof(*user));
    if (user_find(name, user) < 0) {
        free(user);
        err_set(err, ERR_UNAUTHENTICATED, "invalid default user: '%s'", name);
        return NULL;
    }
    call->user = user;
    return user;
}

bool rpc_is_scarce(const struct rpc_call *call)
{
    return http_is_scarce(call->ex->server);
}

struct loop *rpc_loop(const struct rpc_call *call)
{
    return call->ex->server->loop;
}

void call_unref(struct rpc_call *call)
{
    if (--call->refs > 0)
        return;
    loop_timer_stop(rpc_loop(call), &call->deadline);
    loop_timer_stop(rpc_loop(call), &call->keepalive);
    client_stream_free(call->input);
    if (call->work != NULL)
        buf_clear(&call->work->out);
    free(call->work);
    json_decref(call->trailers);
    json_decref(call->details);
    codec_free(call->request);
    codec_free(call->response);
    free(call->user);
    exchange_unref(call->ex);
    free(call);
}

void call_over(struct rpc_call *call)
{
    call->over = true;
    loop_timer_stop(rpc_loop(call), &call->deadline);
    loop_timer_stop(rpc_loop(call), &call->keepalive);
    call->ex->owner = NULL;
    call->ex->on_gone = NULL;
    call->ex->on_writable = NULL;
    call->ex->on_body = NULL;
    call_unref(call);
}

void call_trim(struct rpc_call *call)
{
    if (!call->begun || !call->started || call->method->kind != RPC_STREAM)
        return;
    codec_free(call->request);
    call->request = NULL;
    free(call->user);
    call->user = NULL;
    exchange_trim(call->ex);
}

void rpc_finish(struct rpc_call *call, const ProtobufCMessage *response, const struct err *err)
{
    if (call->over)
        return;
    call->refs++;
    call_over(call);
    wire_finish(call, response, err);
    call_unref(call);
}

void call_tell_closed(struct rpc_call *call)
{
    if (call->method->closed != NULL && call->state != NULL)
        call->method->closed(call);
}

static void on_gone(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;

    call->refs++;
    call_over(call);
    call_tell_closed(call);
    call_unref(call);
}

static void on_deadline(struct loop_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, deadline);
    struct err err = {0};

    err_set(&err, ERR_TIMEOUT, "context deadline exceeded");
    call->refs++;
    call_tell_closed(call);
    rpc_finish(call, NULL, &err);
    call_unref(call);
}

void call_arm_deadline_in(struct rpc_call *call, int64_t ms)
{
    loop_timer_set(rpc_loop(call), &call->deadline, ms, on_deadline);
}

void call_arm_deadline(struct rpc_call *call)
{
    if (call->timeout_ms > 0 && !call->method->owns_timeout)
        call_arm_deadline_in(call, call->timeout_ms);
}

static void on_silence(struct loop_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, keepalive);

    rpc_send(call, call->method->keepalive);
}

void call_arm_keepalive(struct rpc_call *call, int64_t ms)
{
    loop_timer_set(rpc_loop(call), &call->keepalive, ms, on_silence);
}

int call_sent(struct rpc_call *call)
{
    if (call->method->keepalive != NULL)
        call_arm_keepalive(call, call->keepalive_ms);
    return call->ex->conn->held ? 0 : 1;
}

int rpc_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct err err = {0};

    if (call->over)
        return -1;
    if (wire_send(call, message, &err) < 0) {
        call->refs++;
        call_tell_closed(call);
        rpc_finish(call, NULL, &err);
        call_unref(call);
        return -1;
    }
    return call_sent(call);
}

static void on_writable(struct exchange *ex)
{
    struct rpc_call *call = ex->owner;

    if (call->method->writable != NULL)
        call->method->writable(call);
}

struct rpc_call *call_new(struct exchange *ex, const struct rpc_method *method)
{
    struct rpc_call *call = mem_zalloc(sizeof(*call));

    call->refs = 1;
    call->ex = exchange_ref(ex);
    call->method = method;
    ex->owner = call;
    ex->on_gone = on_gone;
    ex->on_writable = on_writable;
    return call;
}

void call_fail(struct rpc_call *call, const struct err *err)
{
    rpc_finish(call, NULL, err);
}
