#include <string.h>

#include "server/base/mem.h"
#include "tests/conformance/conformance.h"

#define SERVICE "connectrpc.conformance.v1.ConformanceService"
#define GZIP_MIN_BYTES 1 /* all of them */

/* A call from its request to its last message. */
struct answer {
    struct rpc_call *call;
    struct loop_timer timer;
    CC(ConformancePayload__RequestInfo) * info; /* NULL: echoed already */
    CC(UnaryResponseDefinition) * unary;        /* what to answer, NULL: nothing special */
    CC(StreamResponseDefinition) * stream;
    size_t sent;
};

static void answer_free(struct answer *answer)
{
    codec_free((ProtobufCMessage *)answer->info);
    codec_free((ProtobufCMessage *)answer->unary);
    codec_free((ProtobufCMessage *)answer->stream);
    free(answer);
}

/* The call ended otherwise. */
static void on_closed(struct rpc_call *call)
{
    struct answer *answer = rpc_state(call);

    rpc_set_state(call, NULL);
    loop_timer_stop(rpc_loop(call), &answer->timer);
    answer_free(answer);
}

/* A copy of its own: requests are only lent. NULL stays NULL. */
static void *copy(const void *message)
{
    const ProtobufCMessage *from = message;
    _cleanup_free_ uint8_t *data = NULL;

    if (from == NULL)
        return NULL;
    data = mem_calloc(protobuf_c_message_get_packed_size(from) + 1, 1);
    return protobuf_c_message_unpack(from->descriptor, NULL, protobuf_c_message_pack(from, data),
                                     data);
}

/* Every request has its response definition first. */
static void *definition_of(const ProtobufCMessage *request)
{
    return *(void **)codec_member(request, &request->descriptor->fields[0]);
}

static struct answer *answer_new(struct rpc_call *call)
{
    struct answer *answer = mem_zalloc(sizeof(*answer));

    answer->call = call;
    answer->info = info_of(call);
    rpc_set_state(call, answer);
    return answer;
}

static void add_all(struct rpc_call *call, CC(Header) * *list, size_t count,
                    void (*add)(struct rpc_call *call, const char *name, const char *value))
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < list[i]->n_value; k++)
            add(call, list[i]->name, list[i]->value[k]);
    }
}

/* End the call with the error that was asked for. Frees ANSWER. */
static void finish_error(struct answer *answer, const CC(Error) * error)
{
    struct rpc_call *call = answer->call;
    struct err err = {0};

    rpc_set_code(call, (enum connect_code)error->code); /* the numbers are the same */
    err_set(&err, ERR_INVALID, "%s", error->optional_message_case ? error->message : "");
    for (size_t i = 0; i < error->n_details; i++)
        rpc_add_detail(call, strrchr(error->details[i]->type_url, '/') + 1,
                       error->details[i]->value.data, error->details[i]->value.len);
    if (answer->info != NULL) {
        Google__Protobuf__Any *any = any_of(&answer->info->base);

        rpc_add_detail(call, answer->info->base.descriptor->name, any->value.data, any->value.len);
        codec_free(&any->base);
    }
    rpc_set_state(call, NULL);
    answer_free(answer);
    rpc_finish(call, NULL, &err);
}

/* ---- Unary, IdempotentUnary, ClientStream: one response of one field, the payload ---- */

static void finish_payload(struct answer *answer)
{
    struct rpc_call *call = answer->call;
    _cleanup_message_ ProtobufCMessage *response =
        mem_zalloc(call->method->response->sizeof_message);
    CC(ConformancePayload) *payload = mem_zalloc(sizeof(*payload));

    protobuf_c_message_init(call->method->response, response);
    connectrpc__conformance__v1__conformance_payload__init(payload);
    *(void **)codec_member(response, &call->method->response->fields[0]) = payload;
    payload->request_info = steal_ptr(&answer->info);
    if (answer->unary != NULL && answer->unary->response_case == 2) { /* data */
        payload->data = answer->unary->response_data;
        answer->unary->response_case = 0;
    }
    rpc_set_state(call, NULL);
    answer_free(answer);
    rpc_finish(call, response, NULL);
}

static void finish_unary(struct loop_timer *timer)
{
    struct answer *answer = container_of(timer, struct answer, timer);
    const CC(UnaryResponseDefinition) *unary = answer->unary;

    if (unary != NULL) {
        add_all(answer->call, unary->response_headers, unary->n_response_headers, rpc_add_header);
        add_all(answer->call, unary->response_trailers, unary->n_response_trailers,
                rpc_add_trailer);
    }
    if (unary != NULL && unary->response_case == 3) /* error */
        finish_error(answer, unary->error);
    else
        finish_payload(answer);
}

static void answer_unary(struct answer *answer)
{
    uint32_t delay_ms = answer->unary != NULL ? answer->unary->response_delay_ms : 0;

    if (delay_ms > 0)
        loop_timer_set(rpc_loop(answer->call), &answer->timer, delay_ms, finish_unary);
    else
        finish_unary(&answer->timer);
}

static int start_unary(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    struct answer *answer = answer_new(call);

    (void)err;
    answer->unary = copy(definition_of(request));
    info_add(answer->info, request);
    answer_unary(answer);
    return 0;
}

static int take_request(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    struct answer *answer = rpc_state(call);

    (void)err;
    if (answer == NULL)
        answer = answer_new(call);
    if (answer->info->n_requests == 0) /* of the first message only */
        answer->unary = copy(definition_of(request));
    info_add(answer->info, request);
    return 0;
}

static void end_requests(struct rpc_call *call)
{
    struct answer *answer = rpc_state(call);

    answer_unary(answer != NULL ? answer : answer_new(call));
}

/* ---- ServerStream ---- */

static void stream_next(struct answer *answer);

static void send_one(struct loop_timer *timer)
{
    struct answer *answer = container_of(timer, struct answer, timer);
    CC(ServerStreamResponse) response = CONNECTRPC__CONFORMANCE__V1__SERVER_STREAM_RESPONSE__INIT;
    CC(ConformancePayload) payload = CONNECTRPC__CONFORMANCE__V1__CONFORMANCE_PAYLOAD__INIT;

    response.payload = &payload;
    payload.data = answer->stream->response_data[answer->sent++];
    payload.request_info = answer->info;
    if (rpc_send(answer->call, &response.base) < 0)
        return; /* on_closed was called */
    codec_free((ProtobufCMessage *)steal_ptr(&answer->info));
    stream_next(answer);
}

/* Frees ANSWER at the end. */
static void stream_next(struct answer *answer)
{
    const CC(StreamResponseDefinition) *stream = answer->stream;
    struct rpc_call *call = answer->call;

    if (stream != NULL && answer->sent < stream->n_response_data) {
        loop_timer_set(rpc_loop(call), &answer->timer, stream->response_delay_ms, send_one);
        return;
    }
    if (stream != NULL && stream->error != NULL) {
        finish_error(answer, stream->error);
        return;
    }
    rpc_set_state(call, NULL);
    answer_free(answer);
    rpc_finish(call, NULL, NULL);
}

static int start_stream(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    struct answer *answer = answer_new(call);
    CC(StreamResponseDefinition) * stream;

    (void)err;
    answer->stream = stream = copy(definition_of(request));
    info_add(answer->info, request);
    if (stream != NULL) {
        add_all(call, stream->response_headers, stream->n_response_headers, rpc_add_header);
        add_all(call, stream->response_trailers, stream->n_response_trailers, rpc_add_trailer);
    }
    if (stream != NULL && stream->n_response_data > 0)
        rpc_send_head(call);
    stream_next(answer);
    return 0;
}

struct rpc_method methods[] = {
    {
        .service = SERVICE,
        .name = "Unary",
        .kind = RPC_DEFERRED,
        .request = DESC(unary_request),
        .response = DESC(unary_response),
        .start = start_unary,
        .closed = on_closed,
        .gzip_min_bytes = GZIP_MIN_BYTES,
    },
    {
        .service = SERVICE,
        .name = "IdempotentUnary",
        .kind = RPC_DEFERRED,
        .request = DESC(idempotent_unary_request),
        .response = DESC(idempotent_unary_response),
        .start = start_unary,
        .closed = on_closed,
        .idempotent = true,
        .gzip_min_bytes = GZIP_MIN_BYTES,
    },
    {
        .service = SERVICE,
        .name = "ServerStream",
        .kind = RPC_STREAM,
        .request = DESC(server_stream_request),
        .response = DESC(server_stream_response),
        .start = start_stream,
        .closed = on_closed,
        .gzip_min_bytes = GZIP_MIN_BYTES,
    },
    {
        .service = SERVICE,
        .name = "ClientStream",
        .kind = RPC_CLIENT_STREAM,
        .request = DESC(client_stream_request),
        .response = DESC(client_stream_response),
        .start = take_request,
        .end = end_requests,
        .closed = on_closed,
        .gzip_min_bytes = GZIP_MIN_BYTES,
    },
};
const size_t method_count = array_size(methods);
