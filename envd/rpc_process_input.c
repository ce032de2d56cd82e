#include <inttypes.h>
#include <string.h>

#include "envd/process_handover.h"
#include "envd/replay.h"
#include "envd/route.h"
#include "envd/rpc.h"
#include "envd/rpc_process.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define SEND_MAX_BYTES (64 << 20) /* of one message: SDKs send all of a string at once */

/* One message's bytes. Outlives its call when the client leaves: what was taken is written. */
struct delivery {
    struct input input;
    struct rpc_call *call; /* NULL: the client is gone */
    bool stream;
};

/* A StreamInput call: where its data goes. */
struct feeder {
    uint32_t pid;
    bool chosen; /* a start event named pid */
    struct delivery *pending;
};

static void send_done(struct delivery *delivery, const struct err *err)
{
    Process__SendInputResponse response = PROCESS__SEND_INPUT_RESPONSE__INIT;

    if (delivery->call != NULL)
        rpc_finish(delivery->call, &response.base, err);
}

static void stream_done(struct delivery *delivery, const struct err *err)
{
    struct rpc_call *call = delivery->call;
    struct feeder *feeder;

    if (call == NULL)
        return;
    feeder = rpc_state(call);
    feeder->pending = NULL;
    if (err != NULL) {
        rpc_set_state(call, NULL);
        free(feeder);
        rpc_finish(call, NULL, err);
        return;
    }
    rpc_resume(call);
}

static void on_finished(struct input *input, const struct err *err)
{
    struct delivery *delivery = container_of(input, struct delivery, input);

    if (delivery->stream)
        stream_done(delivery, err);
    else
        send_done(delivery, err);
    free(input->data);
    free(delivery);
}

/* The bytes of a ProcessInput, and whether they are for the terminal. */
static int input_bytes(const Process__ProcessInput *in, const ProtobufCBinaryData **bytes,
                       bool *pty, struct err *err)
{
    if (in != NULL && in->input_case == PROCESS__PROCESS_INPUT__INPUT_STDIN) {
        *bytes = &in->stdin;
        *pty = false;
        return 0;
    }
    if (in != NULL && in->input_case == PROCESS__PROCESS_INPUT__INPUT_PTY) {
        *bytes = &in->pty;
        *pty = true;
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "invalid input type: neither stdin nor pty is set");
}

static struct delivery *delivery_new(struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct delivery *delivery = mem_zalloc(sizeof(*delivery));

    delivery->call = call;
    delivery->input.finished = on_finished;
    delivery->input.len = len;
    delivery->input.data = mem_zalloc(len + 1);
    if (len > 0)
        memcpy(delivery->input.data, data, len);
    return delivery;
}

static void delivery_free(struct delivery *delivery)
{
    free(delivery->input.data);
    free(delivery);
}

/*
 * How many of the LEN bytes a sender that says where they begin has sent before: its connection
 * broke, and it cannot know.
 */
static int sent_before(struct rpc_call *call, uint64_t taken, size_t len, size_t *skip,
                       struct err *err)
{
    const char *header = rpc_header(call, REPLAY_INPUT_HEADER);
    uint64_t from;

    *skip = 0;
    if (header == NULL)
        return 0;
    if (str_to_u64(header, strlen(header), 0, INT64_MAX, "Sandpit-Input-Offset", &from, err) < 0)
        return -1;
    if (from > taken) {
        rpc_set_code(call, CONNECT_OUT_OF_RANGE);
        return err_set(err, ERR_INVALID,
                       "input is missing: these bytes begin at %" PRIu64 ", taken are %" PRIu64,
                       from, taken);
    }
    *skip = taken - from < len ? (size_t)(taken - from) : len;
    return 0;
}

static int send_input(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    const Process__SendInputRequest *in = (const void *)request;
    struct process *process = select_process(in->process, false, err);
    const ProtobufCBinaryData *bytes = NULL;
    struct delivery *delivery;
    bool pty = false;
    size_t skip, numbered;

    if (process == NULL || input_bytes(in->input, &bytes, &pty, err) < 0 ||
        sent_before(call, *process_input_numbered(process), bytes->len, &skip, err) < 0)
        return -1;
    delivery = delivery_new(call, bytes->data + skip, bytes->len - skip);
    rpc_set_state(call, delivery);
    numbered = rpc_header(call, REPLAY_INPUT_HEADER) != NULL ? bytes->len - skip : 0;
    *process_input_numbered(process) += numbered;
    if (process_input(process, pty, &delivery->input, err) < 0) {
        *process_input_numbered(process) -= numbered;
        rpc_set_state(call, NULL);
        delivery_free(delivery);
        return -1;
    }
    return 0;
}

static void send_closed(struct rpc_call *call)
{
    struct delivery *delivery = rpc_state(call);

    delivery->call = NULL;
    rpc_set_state(call, NULL);
}

/* ---- Handed over: what waits is the process's; here is who waits for it ---- */

struct input *input_restore(const uint8_t *data, size_t len)
{
    return &delivery_new(NULL, data, len)->input;
}

static int save_delivery(const struct delivery *delivery, Handover__Delivery *out)
{
    out->process = process_input_place(&delivery->input, &out->place);
    return out->process > 0 ? 0 : 1;
}

static struct delivery *load_delivery(struct rpc_call *call, const Handover__Delivery *in,
                                      struct err *err)
{
    struct input *input = process_input_at(in, err);
    struct delivery *delivery = input != NULL ? container_of(input, struct delivery, input) : NULL;

    if (delivery != NULL && delivery->call != NULL) {
        err_set(err, ERR_INVALID, "an input of the state has two senders");
        return NULL;
    }
    if (delivery != NULL)
        delivery->call = call;
    return delivery;
}

static int send_save(struct rpc_call *call, struct handover_call *out)
{
    const struct delivery *delivery = rpc_state(call);

    if (delivery == NULL || save_delivery(delivery, &out->delivery) != 0)
        return 1;
    out->call.delivery = &out->delivery;
    return 0;
}

static int send_load(struct rpc_call *call, const Handover__Call *in, struct err *err)
{
    struct delivery *delivery;

    if (in->delivery == NULL)
        return err_set(err, ERR_INVALID, "a call of the state sends nothing");
    delivery = load_delivery(call, in->delivery, err);
    if (delivery == NULL)
        return -1;
    rpc_set_state(call, delivery);
    return 0;
}

/* ---- StreamInput ---- */

static struct feeder *feeder_of(struct rpc_call *call)
{
    struct feeder *feeder = rpc_state(call);

    if (feeder == NULL) {
        feeder = mem_zalloc(sizeof(*feeder));
        rpc_set_state(call, feeder);
    }
    return feeder;
}

static int stream_start(struct rpc_call *call, const Process__StreamInputRequest__StartEvent *in,
                        struct err *err)
{
    struct feeder *feeder = feeder_of(call);
    struct process *process = select_process(in->process, false, err);

    if (process == NULL)
        return -1;
    feeder->pid = process_pid(process);
    feeder->chosen = true;
    return 0;
}

static int stream_data(struct rpc_call *call, const Process__StreamInputRequest__DataEvent *in,
                       struct err *err)
{
    struct feeder *feeder = feeder_of(call);
    const ProtobufCBinaryData *bytes = NULL;
    struct delivery *delivery;
    struct process *process;
    bool pty = false;

    if (!feeder->chosen)
        return err_set(err, ERR_INVALID, "data came before a start event named the process");
    process = process_by_pid(feeder->pid, false, err);
    if (process == NULL || input_bytes(in->input, &bytes, &pty, err) < 0)
        return -1;
    delivery = delivery_new(call, bytes->data, bytes->len);
    delivery->stream = true;
    feeder->pending = delivery;
    rpc_pause(call); /* until it is written, which may be at once */
    if (process_input(process, pty, &delivery->input, err) < 0) {
        feeder->pending = NULL;
        delivery_free(delivery);
        return -1;
    }
    return 0;
}

static int stream_message(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    const Process__StreamInputRequest *in = (const void *)request;

    switch (in->event_case) {
    case PROCESS__STREAM_INPUT_REQUEST__EVENT_START:
        return stream_start(call, in->start, err);
    case PROCESS__STREAM_INPUT_REQUEST__EVENT_DATA:
        return stream_data(call, in->data, err);
    case PROCESS__STREAM_INPUT_REQUEST__EVENT_KEEPALIVE:
        return 0;
    default:
        return err_set(err, ERR_UNSUPPORTED, "invalid event type: none is set");
    }
}

static void stream_closed(struct rpc_call *call)
{
    struct feeder *feeder = rpc_state(call);

    if (feeder->pending != NULL)
        feeder->pending->call = NULL;
    rpc_set_state(call, NULL);
    free(feeder);
}

static void stream_end(struct rpc_call *call)
{
    Process__StreamInputResponse response = PROCESS__STREAM_INPUT_RESPONSE__INIT;

    free(rpc_state(call));
    rpc_set_state(call, NULL);
    rpc_finish(call, &response.base, NULL);
}

static int stream_save(struct rpc_call *call, struct handover_call *out)
{
    const struct feeder *feeder = rpc_state(call);

    if (feeder == NULL)
        return 0; /* no message has come */
    out->feeder.pid = feeder->pid;
    out->feeder.chosen = feeder->chosen;
    if (feeder->pending != NULL) {
        if (save_delivery(feeder->pending, &out->delivery) != 0)
            return 1;
        out->feeder.pending = &out->delivery;
    }
    out->call.feeder = &out->feeder;
    return 0;
}

static int stream_load(struct rpc_call *call, const Handover__Call *in, struct err *err)
{
    struct feeder *feeder;

    if (in->feeder == NULL)
        return 0;
    feeder = feeder_of(call);
    feeder->pid = in->feeder->pid;
    feeder->chosen = in->feeder->chosen;
    if (in->feeder->pending == NULL)
        return 0;
    feeder->pending = load_delivery(call, in->feeder->pending, err);
    if (feeder->pending == NULL) {
        rpc_set_state(call, NULL);
        free(feeder);
        return -1;
    }
    feeder->pending->stream = true;
    return 0;
}

const struct rpc_method rpc_process_send_input = {
    .service = "process.Process",
    .name = "SendInput",
    .kind = RPC_DEFERRED,
    .request = &process__send_input_request__descriptor,
    .response = &process__send_input_response__descriptor,
    .start = send_input,
    .closed = send_closed,
    .body_max_bytes = SEND_MAX_BYTES,
    .save = send_save,
    .load = send_load,
};

const struct rpc_method rpc_process_stream_input = {
    .service = "process.Process",
    .name = "StreamInput",
    .kind = RPC_CLIENT_STREAM,
    .request = &process__stream_input_request__descriptor,
    .response = &process__stream_input_response__descriptor,
    .start = stream_message,
    .end = stream_end,
    .closed = stream_closed,
    .body_max_bytes = SEND_MAX_BYTES,
    .save = stream_save,
    .load = stream_load,
};
