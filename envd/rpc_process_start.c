#include <string.h>

#include "envd/process_handover.h"
#include "envd/replay.h"
#include "envd/route.h"
#include "envd/rpc.h"
#include "envd/rpc_process.h"
#include "server/base/mem.h"

/* A stream of events: Start, or Connect. Lives as long as its call. */
struct follower {
    struct watcher watcher;
    struct rpc_call *call;
    bool is_start; /* wraps its events in StartResponse */
};

static int send_event(struct follower *follower, Process__ProcessEvent *event)
{
    Process__StartResponse start = PROCESS__START_RESPONSE__INIT;
    Process__ConnectResponse connect = PROCESS__CONNECT_RESPONSE__INIT;

    start.event = event;
    connect.event = event;
    return rpc_send(follower->call, follower->is_start ? &start.base : &connect.base);
}

static void send_start(struct follower *follower, const struct process *process)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__StartEvent start = PROCESS__PROCESS_EVENT__START_EVENT__INIT;

    start.pid = process_pid(process);
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_START;
    event.start = &start;
    send_event(follower, &event);
}

#define SCARCE_CHUNK_BYTES (4 << 10)

/* StartResponse or ConnectResponse {event: {data: {…}}}. */
#define OUTPUT_FORM(name, id)                                                                      \
    {                                                                                              \
        .json_head = "{\"event\":{\"data\":{\"" name "\":\"", .json_tail = "\"}}}",                \
        .ids = (const uint8_t[]){1, 2, id}, .depth = 3                                             \
    }

static const struct rpc_bytes_form output_forms[OUTPUT_KINDS] = {
    [OUTPUT_STDOUT] = OUTPUT_FORM("stdout", 1),
    [OUTPUT_STDERR] = OUTPUT_FORM("stderr", 2),
    [OUTPUT_PTY] = OUTPUT_FORM("pty", 3),
};

static int on_output(struct watcher *watcher, enum process_output kind, const uint8_t *data,
                     size_t len)
{
    struct follower *follower = container_of(watcher, struct follower, watcher);

    process_chunk_max(rpc_is_scarce(follower->call) ? SCARCE_CHUNK_BYTES : PROCESS_CHUNK_BYTES);
    return rpc_send_bytes(follower->call, &output_forms[kind], data, len);
}

static void send_end(struct follower *follower, const struct process_end *end)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__EndEvent message = PROCESS__PROCESS_EVENT__END_EVENT__INIT;

    message.exit_code = end->exit_code;
    message.exited = end->exited;
    message.status = (char *)(uintptr_t)end->status;
    if (!end->exited || end->exit_code != 0) {
        message.optional_error_case = PROCESS__PROCESS_EVENT__END_EVENT__OPTIONAL_ERROR_ERROR;
        message.error = message.status;
    }
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_END;
    event.end = &message;
    send_event(follower, &event);
}

static void on_end(struct watcher *watcher, const struct process_end *end)
{
    struct follower *follower = container_of(watcher, struct follower, watcher);

    send_end(follower, end);
    rpc_finish(follower->call, NULL, NULL);
    free(follower);
}

static void on_deadline(struct watcher *watcher)
{
    struct follower *follower = container_of(watcher, struct follower, watcher);
    struct err err = {0};

    err_set(&err, ERR_TIMEOUT, "context deadline exceeded");
    rpc_finish(follower->call, NULL, &err);
    free(follower);
}

static void on_writable(struct rpc_call *call)
{
    struct follower *follower = rpc_state(call);

    if (follower != NULL)
        process_watcher_ready(&follower->watcher);
}

/* The client left; its process does not care. */
static void on_closed(struct rpc_call *call)
{
    struct follower *follower = rpc_state(call);

    rpc_set_state(call, NULL);
    process_unwatch(&follower->watcher);
    free(follower);
}

static struct follower *follower_new(struct rpc_call *call, bool is_start)
{
    struct follower *follower = mem_zalloc(sizeof(*follower));

    follower->call = call;
    follower->is_start = is_start;
    follower->watcher.output = on_output;
    follower->watcher.end = on_end;
    follower->watcher.deadline = is_start ? on_deadline : NULL;
    return follower;
}

/* ---- Handed over ---- */

static int save(struct rpc_call *call, struct handover_call *out)
{
    const struct follower *follower = rpc_state(call);

    if (follower == NULL || follower->watcher.process == NULL)
        return 1;
    out->follower.process = process_number(follower->watcher.process);
    out->follower.is_start = follower->is_start;
    out->follower.at = out->at;
    out->follower.n_at = PROCESS_OUTPUTS;
    memcpy(out->at, follower->watcher.at, sizeof(out->at));
    out->call.follower = &out->follower;
    return 0;
}

static int load(struct rpc_call *call, const Handover__Call *in, struct err *err)
{
    struct follower *follower;
    struct process *process;

    if (in->follower == NULL)
        return err_set(err, ERR_INVALID, "a stream of the state follows no process");
    process = process_by_number(in->follower->process, err);
    if (process == NULL)
        return -1;
    follower = follower_new(call, in->follower->is_start);
    if (process_watch_at(process, &follower->watcher, in->follower->at, in->follower->n_at,
                         in->held, err) < 0) {
        free(follower);
        return -1;
    }
    rpc_set_state(call, follower);
    return 0;
}

static int check_config(const Process__ProcessConfig *config, struct err *err)
{
    if (config == NULL)
        return err_set(err, ERR_INVALID, "the request names no process");
    for (size_t i = 0; i < config->n_envs; i++) {
        const char *name = config->envs[i]->key;

        if (name[0] == '\0' || strchr(name, '=') != NULL)
            return err_set(err, ERR_INVALID,
                           "an environment variable's name is empty or holds '='");
    }
    return 0;
}

static void fill_spec(struct rpc_call *call, const Process__StartRequest *in,
                      struct process_spec *spec)
{
    const Process__ProcessConfig *config = in->process;
    const struct settings *settings = rpc_settings(call);

    spec->cmd = config->cmd;
    spec->args = config->args;
    spec->arg_count = config->n_args;
    spec->default_envs = settings->envs;
    spec->workdir = settings->default_workdir;
    if (config->optional_cwd_case == PROCESS__PROCESS_CONFIG__OPTIONAL_CWD_CWD)
        spec->cwd = config->cwd;
    if (in->optional_tag_case == PROCESS__START_REQUEST__OPTIONAL_TAG_TAG)
        spec->tag = in->tag;
    spec->stdin_pipe =
        in->optional_stdin_case != PROCESS__START_REQUEST__OPTIONAL_STDIN_STDIN || in->stdin;
    spec->pty = in->pty != NULL;
    if (in->pty != NULL && in->pty->size != NULL) {
        spec->cols = in->pty->size->cols;
        spec->rows = in->pty->size->rows;
    }
    spec->timeout_ms = rpc_timeout_ms(call);
    spec->replay_bytes = (size_t)settings->replay_bytes;
}

/* The hold that the header asks for: *MS is 0 without one. */
static int wanted_hold(struct rpc_call *call, int64_t *ms, struct err *err)
{
    const char *header = rpc_header(call, REPLAY_HOLD_HEADER);

    *ms = 0;
    return header != NULL ? replay_hold_parse(header, ms, err) : 0;
}

static int start_spec(struct rpc_call *call, const struct process_spec *spec, struct err *err)
{
    struct follower *follower;
    struct process *process;
    int64_t hold_ms;

    if (wanted_hold(call, &hold_ms, err) < 0)
        return -1;
    follower = follower_new(call, true);
    if (process_start(spec, &follower->watcher, &process, err) < 0) {
        free(follower);
        return -1;
    }
    rpc_set_state(call, follower);
    if (hold_ms > 0)
        process_hold(process, hold_ms, NULL);
    send_start(follower, process);
    return 0;
}

static int start(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    const Process__StartRequest *in = (const void *)request;
    struct process_spec spec = {0};
    _cleanup_free_ const char **names = NULL;
    _cleanup_free_ const char **values = NULL;

    if (check_config(in->process, err) < 0)
        return -1;
    spec.user = rpc_user(call, err);
    if (spec.user == NULL)
        return -1;
    fill_spec(call, in, &spec);
    process_replay_total((size_t)rpc_settings(call)->replay_total_bytes);
    names = mem_calloc(in->process->n_envs + 1, sizeof(char *));
    values = mem_calloc(in->process->n_envs + 1, sizeof(char *));
    for (size_t i = 0; i < in->process->n_envs; i++) {
        names[i] = in->process->envs[i]->key;
        values[i] = in->process->envs[i]->value;
    }
    spec.env_names = names;
    spec.env_values = values;
    spec.env_count = in->process->n_envs;
    return start_spec(call, &spec, err);
}

/* Where the outputs of PROCESS begin for this call, by its header. Tells the client. */
static int choose_offsets(struct rpc_call *call, const struct process *process,
                          uint64_t from[PROCESS_OUTPUTS], struct err *err)
{
    const char *header = rpc_header(call, REPLAY_HEADER);
    struct process_range ranges[PROCESS_OUTPUTS];
    size_t count = process_ranges(process, ranges);
    char offsets[REPLAY_OFFSETS_SIZE];
    struct replay replay;
    bool out_of_range = false;

    for (size_t i = 0; i < count; i++)
        from[i] = ranges[i].end;
    if (header != NULL && replay_parse(header, &replay, err) < 0)
        return -1;
    if (header != NULL && replay_resolve(&replay, ranges, count, from, &out_of_range, err) < 0) {
        if (out_of_range)
            rpc_set_code(call, CONNECT_OUT_OF_RANGE);
        return -1;
    }
    replay_offsets(ranges, count, from, offsets);
    rpc_set_header(call, REPLAY_OFFSETS_HEADER, offsets);
    return 0;
}

static int connect_to(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    const Process__ConnectRequest *in = (const void *)request;
    struct process *process = select_process(in->process, true, err);
    uint64_t from[PROCESS_OUTPUTS] = {0};
    struct follower *follower;
    int64_t hold_ms;

    if (process == NULL || wanted_hold(call, &hold_ms, err) < 0 ||
        choose_offsets(call, process, from, err) < 0)
        return -1;
    follower = follower_new(call, false);
    rpc_set_state(call, follower);
    process_watch(process, &follower->watcher, from);
    if (hold_ms > 0)
        process_hold(process, hold_ms, from);
    send_start(follower, process);
    process_watcher_ready(&follower->watcher);
    return 0;
}

static const Process__ProcessEvent__KeepAlive keepalive = PROCESS__PROCESS_EVENT__KEEP_ALIVE__INIT;
static const Process__ProcessEvent keepalive_event = {
    .base = PROTOBUF_C_MESSAGE_INIT(&process__process_event__descriptor),
    .event_case = PROCESS__PROCESS_EVENT__EVENT_KEEPALIVE,
    .keepalive = (Process__ProcessEvent__KeepAlive *)(uintptr_t)&keepalive,
};
static const Process__StartResponse start_keepalive = {
    .base = PROTOBUF_C_MESSAGE_INIT(&process__start_response__descriptor),
    .event = (Process__ProcessEvent *)(uintptr_t)&keepalive_event,
};
static const Process__ConnectResponse connect_keepalive = {
    .base = PROTOBUF_C_MESSAGE_INIT(&process__connect_response__descriptor),
    .event = (Process__ProcessEvent *)(uintptr_t)&keepalive_event,
};

const struct rpc_method rpc_process_start = {
    .service = "process.Process",
    .name = "Start",
    .kind = RPC_STREAM,
    .request = &process__start_request__descriptor,
    .response = &process__start_response__descriptor,
    .start = start,
    .writable = on_writable,
    .closed = on_closed,
    .keepalive = &start_keepalive.base,
    .owns_timeout = true,
    .save = save,
    .load = load,
};

const struct rpc_method rpc_process_connect = {
    .service = "process.Process",
    .name = "Connect",
    .kind = RPC_STREAM,
    .request = &process__connect_request__descriptor,
    .response = &process__connect_response__descriptor,
    .start = connect_to,
    .writable = on_writable,
    .closed = on_closed,
    .keepalive = &connect_keepalive.base,
    .save = save,
    .load = load,
};
