#include "envd/rpc_process.h"

#include <signal.h>
#include <string.h>

#include "envd/replay.h"
#include "envd/rpc.h"
#include "envd/route.h"
#include "server/base/mem.h"

struct process *select_process(const Process__ProcessSelector *selector, bool ended,
                               struct err *err)
{
    if (selector != NULL && selector->selector_case == PROCESS__PROCESS_SELECTOR__SELECTOR_PID)
        return process_by_pid(selector->pid, ended, err);
    if (selector != NULL && selector->selector_case == PROCESS__PROCESS_SELECTOR__SELECTOR_TAG)
        return process_by_tag(selector->tag, ended, err);
    err_set(err, ERR_UNSUPPORTED, "invalid input type: the selector names neither pid nor tag");
    return NULL;
}

ProtobufCMessage *empty_message(const ProtobufCMessageDescriptor *desc)
{
    ProtobufCMessage *message = mem_zalloc(desc->sizeof_message);

    protobuf_c_message_init(desc, message);
    return message;
}

static void list_envs(const struct process *process, Process__ProcessConfig *config)
{
    size_t pairs;
    char *const *envs = process_envs(process, &pairs);

    config->envs = mem_calloc(pairs + 1, sizeof(Process__ProcessConfig__EnvsEntry *));
    for (; config->n_envs < pairs; config->n_envs++) {
        Process__ProcessConfig__EnvsEntry *entry =
            (void *)empty_message(&process__process_config__envs_entry__descriptor);

        entry->key = mem_strdup(envs[2 * config->n_envs]);
        entry->value = mem_strdup(envs[2 * config->n_envs + 1]);
        config->envs[config->n_envs] = entry;
    }
}

static Process__ProcessInfo *list_one(const struct process *process)
{
    Process__ProcessInfo *info = (void *)empty_message(&process__process_info__descriptor);
    Process__ProcessConfig *config = (void *)empty_message(&process__process_config__descriptor);
    size_t count;
    char *const *args = process_args(process, &count);

    info->pid = process_pid(process);
    info->config = config;
    if (process_tag(process) != NULL) {
        info->optional_tag_case = PROCESS__PROCESS_INFO__OPTIONAL_TAG_TAG;
        info->tag = mem_strdup(process_tag(process));
    }
    config->cmd = mem_strdup(process_cmd(process));
    config->args = mem_calloc(count + 1, sizeof(char *));
    for (; config->n_args < count; config->n_args++)
        config->args[config->n_args] = mem_strdup(args[config->n_args]);
    list_envs(process, config);
    if (process_cwd(process) != NULL) {
        config->optional_cwd_case = PROCESS__PROCESS_CONFIG__OPTIONAL_CWD_CWD;
        config->cwd = mem_strdup(process_cwd(process));
    }
    return info;
}

static int list(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                struct err *err)
{
    Process__ListResponse *out = (void *)empty_message(&process__list_response__descriptor);
    size_t count = 0;

    (void)call;
    (void)request;
    (void)err;
    for (struct process *p = process_next(NULL); p != NULL; p = process_next(p))
        count++;
    out->processes = mem_calloc(count + 1, sizeof(Process__ProcessInfo *));
    for (struct process *p = process_next(NULL); p != NULL; p = process_next(p))
        out->processes[out->n_processes++] = list_one(p);
    *response = &out->base;
    return 0;
}

/* What the header says has been received. */
static int acknowledge(struct rpc_call *call, struct process *process, struct err *err)
{
    const char *header = rpc_header(call, REPLAY_ACKNOWLEDGE_HEADER);
    struct process_range ranges[PROCESS_OUTPUTS];
    size_t count = process_ranges(process, ranges);
    uint64_t at[PROCESS_OUTPUTS];

    if (header == NULL)
        return 0;
    if (replay_acknowledged(header, ranges, count, at, err) < 0)
        return -1;
    return process_acknowledge(process, at, err);
}

static int update(struct rpc_call *call, const ProtobufCMessage *request,
                  ProtobufCMessage **response, struct err *err)
{
    const Process__UpdateRequest *in = (const void *)request;
    struct process *process = select_process(in->process, false, err);

    if (process == NULL || acknowledge(call, process, err) < 0)
        return -1;
    if (in->pty != NULL && in->pty->size != NULL &&
        process_resize(process, in->pty->size->cols, in->pty->size->rows, err) < 0)
        return -1;
    *response = empty_message(&process__update_response__descriptor);
    return 0;
}

static int send_signal(struct rpc_call *call, const ProtobufCMessage *request,
                       ProtobufCMessage **response, struct err *err)
{
    const Process__SendSignalRequest *in = (const void *)request;
    struct process *process = select_process(in->process, false, err);
    const ProtobufCEnumValue *name =
        protobuf_c_enum_descriptor_get_value(&process__signal__descriptor, (int)in->signal);

    (void)call;
    if (process == NULL)
        return -1;
    if (in->signal != PROCESS__SIGNAL__SIGNAL_SIGKILL &&
        in->signal != PROCESS__SIGNAL__SIGNAL_SIGTERM) {
        if (name != NULL)
            return err_set(err, ERR_UNSUPPORTED, "invalid signal: %s", name->name);
        return err_set(err, ERR_UNSUPPORTED, "invalid signal: %d", (int)in->signal);
    }
    if (process_signal(process, (int)in->signal, err) < 0)
        return -1;
    *response = empty_message(&process__send_signal_response__descriptor);
    return 0;
}

static int close_stdin(struct rpc_call *call, const ProtobufCMessage *request,
                       ProtobufCMessage **response, struct err *err)
{
    const Process__CloseStdinRequest *in = (const void *)request;
    struct process *process = select_process(in->process, false, err);

    if (process == NULL)
        return -1;
    if (process_has_pty(process)) {
        rpc_set_code(call, CONNECT_UNKNOWN);
        return err_set(err, ERR_INTERNAL,
                       "error closing stdin: cannot close stdin for PTY process — send Ctrl+D "
                       "(0x04) instead");
    }
    process_close_stdin(process);
    *response = empty_message(&process__close_stdin_response__descriptor);
    return 0;
}

const struct rpc_method rpc_process_list = {
    .service = "process.Process",
    .name = "List",
    .idempotent = true,
    .kind = RPC_UNARY,
    .request = &process__list_request__descriptor,
    .response = &process__list_response__descriptor,
    .unary = list,
};

const struct rpc_method rpc_process_update = {
    .service = "process.Process",
    .name = "Update",
    .kind = RPC_UNARY,
    .request = &process__update_request__descriptor,
    .response = &process__update_response__descriptor,
    .unary = update,
};

const struct rpc_method rpc_process_send_signal = {
    .service = "process.Process",
    .name = "SendSignal",
    .kind = RPC_UNARY,
    .request = &process__send_signal_request__descriptor,
    .response = &process__send_signal_response__descriptor,
    .unary = send_signal,
};

const struct rpc_method rpc_process_close_stdin = {
    .service = "process.Process",
    .name = "CloseStdin",
    .kind = RPC_UNARY,
    .request = &process__close_stdin_request__descriptor,
    .response = &process__close_stdin_response__descriptor,
    .unary = close_stdin,
};
