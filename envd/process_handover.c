#include "envd/process_handover.h"

#include <string.h>

#include "envd/process_inner.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define STRINGS_MAX (1 << 20) /* of one process: arguments, or names and values */

/* ---- Saving ---- */

static void number_all(void)
{
    uint32_t number = 0;

    for (struct process *p = processes; p != NULL; p = p->next)
        p->number = ++number;
}

uint32_t process_number(const struct process *process)
{
    return process->number;
}

uint32_t process_input_place(const struct input *input, uint32_t *place)
{
    for (const struct process *p = processes; p != NULL; p = p->next) {
        *place = 1;
        for (const struct input *i = p->input; i != NULL; i = i->next, ++*place) {
            if (i == input)
                return p->number;
        }
    }
    return 0;
}

/* What its outputs and their rings are; MEMORY for the bytes kept is to free. */
struct outputs {
    Handover__Output output[PROCESS_OUTPUTS];
    Handover__Output *list[PROCESS_OUTPUTS];
    uint8_t *memory[PROCESS_OUTPUTS];
};

static void outputs_clear(struct outputs *outputs)
{
    for (size_t i = 0; i < PROCESS_OUTPUTS; i++)
        free(outputs->memory[i]);
}

static void save_outputs(const struct process *process, struct handover_out *out,
                         struct outputs *to)
{
    for (size_t i = 0; i < PROCESS_OUTPUTS; i++) {
        const struct ring *ring = &process->streams[i].ring;
        Handover__Output *output = &to->output[i];
        const uint8_t *data;
        size_t len;

        handover__output__init(output);
        output->fd = handover_fd(out, process->streams[i].io.fd);
        output->kind = process->streams[i].kind;
        output->end = ring->end;
        to->memory[i] = mem_zalloc(ring->len + 1);
        for (uint64_t at = ring_start(ring); (len = ring_peek(ring, at, &data)) > 0; at += len)
            memcpy(to->memory[i] + (at - ring_start(ring)), data, len);
        output->kept = handover_bytes(to->memory[i], ring->len);
        to->list[i] = output;
    }
}

static ProtobufCBinaryData *save_strings(char *const *strings, size_t count)
{
    ProtobufCBinaryData *bytes = mem_calloc(count + 1, sizeof(*bytes));

    for (size_t i = 0; i < count; i++)
        bytes[i] = handover_str(strings[i]);
    return bytes;
}

static ProtobufCBinaryData *save_inputs(const struct process *process, size_t *count)
{
    ProtobufCBinaryData *bytes;
    size_t at = 0;

    *count = 0;
    for (const struct input *i = process->input; i != NULL; i = i->next)
        ++*count;
    bytes = mem_calloc(*count + 1, sizeof(*bytes));
    for (const struct input *i = process->input; i != NULL; i = i->next)
        bytes[at++] = handover_bytes(i->data + i->done, i->len - i->done);
    return bytes;
}

static void save_plain(const struct process *process, Handover__Process *to)
{
    to->number = process->number;
    to->pid = (uint32_t)process->pid;
    to->has_tag = process->tag != NULL;
    to->tag = handover_str(process->tag);
    to->cmd = handover_str(process->cmd);
    to->has_cwd = process->cwd != NULL;
    to->cwd = handover_str(process->cwd);
    to->pty = process->pty;
    to->close_input = process->close_input;
    if (process->deadline.slot > 0)
        to->deadline_mono_ms = process->deadline.due_mono_ms;
    if (process->forget.slot > 0)
        to->forget_mono_ms = process->forget.due_mono_ms;
    to->exited = process->exited;
    to->stop_early = process->stop_early;
    to->done = process->done;
    to->forgotten = process->forgotten;
    to->exit_code = process->end.exit_code;
    to->exited_itself = process->end.exited;
    to->status = (char *)(uintptr_t)process->end.status;
    to->replay_bytes = process->replay_bytes;
    to->input_numbered = process->input_numbered;
    if (!process->hold.on)
        return;
    to->hold_ms = process->hold.ms;
    to->hold_at = (uint64_t *)(uintptr_t)process->hold.at;
    to->n_hold_at = PROCESS_OUTPUTS;
}

static void save_one(const struct process *process, struct handover_out *out)
{
    Handover__Record record = HANDOVER__RECORD__INIT;
    Handover__Process to = HANDOVER__PROCESS__INIT;
    _cleanup_(outputs_clear) struct outputs outputs = {0};
    _cleanup_free_ ProtobufCBinaryData *args = save_strings(process->args, process->arg_count);
    _cleanup_free_ ProtobufCBinaryData *envs = save_strings(process->envs, 2 * process->env_pairs);
    _cleanup_free_ ProtobufCBinaryData *inputs = save_inputs(process, &to.n_inputs);

    save_plain(process, &to);
    save_outputs(process, out, &outputs);
    to.outputs = outputs.list;
    to.n_outputs = PROCESS_OUTPUTS;
    to.args = args;
    to.n_args = process->arg_count;
    to.envs = envs;
    to.n_envs = 2 * process->env_pairs;
    to.input = handover_fd(out, process->input_io.fd);
    to.inputs = inputs;
    record.kind_case = HANDOVER__RECORD__KIND_PROCESS;
    record.process = &to;
    handover_put(out, &record);
}

void process_save(struct handover_out *out)
{
    number_all();
    for (const struct process *p = processes; p != NULL; p = p->next)
        save_one(p, out);
}

/* ---- Loading ---- */

struct process *process_by_number(uint32_t number, struct err *err)
{
    for (struct process *p = processes; p != NULL; p = p->next) {
        if (p->number == number && number > 0)
            return p;
    }
    err_set(err, ERR_INVALID, "the state has no process number %u", number);
    return NULL;
}

struct input *process_input_at(const Handover__Delivery *place, struct err *err)
{
    struct process *process = process_by_number(place->process, err);
    struct input *input = process != NULL ? process->input : NULL;

    for (uint32_t i = 1; input != NULL && i < place->place; i++)
        input = input->next;
    if (process != NULL && (input == NULL || place->place == 0)) {
        err_set(err, ERR_INVALID, "the state has no input %u", place->place);
        return NULL;
    }
    return input;
}

static int load_strings(const ProtobufCBinaryData *from, size_t count, char ***out, struct err *err)
{
    char **strings = mem_calloc(count + 1, sizeof(char *));

    *out = strings; /* freed with the process */
    for (size_t i = 0; i < count; i++) {
        if (handover_take_str(&from[i], &strings[i], err) < 0)
            return -1;
    }
    return 0;
}

static int load_texts(struct process *process, const Handover__Process *in, struct err *err)
{
    process->args = process->envs = NULL;
    if (in->n_args > STRINGS_MAX || in->n_envs > STRINGS_MAX || in->n_envs % 2 != 0)
        return err_set(err, ERR_INVALID, "a process of the state makes no sense");
    process->arg_count = in->n_args;
    process->env_pairs = in->n_envs / 2;
    if ((in->has_tag && handover_take_str(&in->tag, &process->tag, err) < 0) ||
        (in->has_cwd && handover_take_str(&in->cwd, &process->cwd, err) < 0) ||
        handover_take_str(&in->cmd, &process->cmd, err) < 0)
        return -1;
    if (load_strings(in->args, in->n_args, &process->args, err) < 0)
        return -1;
    return load_strings(in->envs, in->n_envs, &process->envs, err);
}

static int load_output(struct process *process, size_t i, const Handover__Output *in,
                       struct err *err)
{
    struct stream *stream = &process->streams[i];
    int fd;

    if (in->kind >= OUTPUT_KINDS || in->kept.len > in->end)
        return err_set(err, ERR_INVALID, "an output of the state makes no sense");
    stream->process = process;
    stream->kind = (enum process_output)in->kind;
    if (ring_restore(process, i, in->end, in->kept.data, in->kept.len) < 0)
        return err_set(err, ERR_INTERNAL, "no memory for the output of a process");
    if (handover_take_fd(in->fd, &fd, err) < 0)
        return -1;
    if (fd >= 0 && process->done)
        return err_set(err, ERR_INVALID, "an ended process of the state has an output");
    return fd >= 0 ? output_watch(process, i, fd, stream->kind, err) : 0;
}

static int load_inputs(struct process *process, const Handover__Process *in,
                       process_input_new_fn input_new, struct err *err)
{
    int fd;

    if (handover_take_fd(in->input, &fd, err) < 0)
        return -1;
    input_init(process, fd);
    if (in->n_inputs > 0 && fd < 0)
        return err_set(err, ERR_INVALID, "an input of the state makes no sense");
    for (size_t i = 0; i < in->n_inputs; i++) {
        struct input *input = input_new(in->inputs[i].data, in->inputs[i].len);

        *process->input_last = input;
        process->input_last = &input->next;
        process->input_bytes += input->len;
    }
    return 0;
}

static int load_plain(struct process *process, const Handover__Process *in, struct err *err)
{
    if (in->pid == 0 || in->pid > INT32_MAX || in->number == 0 || in->n_outputs > PROCESS_OUTPUTS ||
        strlen(in->status) >= sizeof(process->end.status) || in->replay_bytes > SIZE_MAX / 4)
        return err_set(err, ERR_INVALID, "a process of the state makes no sense");
    process->number = in->number;
    process->pid = (pid_t)in->pid;
    process->pty = in->pty;
    process->close_input = in->close_input;
    process->exited = in->exited;
    process->stop_early = in->stop_early;
    process->done = in->done;
    process->forgotten = in->forgotten;
    process->end.exit_code = in->exit_code;
    process->end.exited = in->exited_itself;
    memcpy(process->end.status, in->status, strlen(in->status) + 1);
    process->replay_bytes = (size_t)in->replay_bytes;
    process->input_numbered = in->input_numbered;
    return 0;
}

static int load_hold(struct process *process, const Handover__Process *in, struct err *err)
{
    if (in->hold_ms == 0)
        return 0;
    if (in->hold_ms < 0 || in->n_hold_at != PROCESS_OUTPUTS)
        return err_set(err, ERR_INVALID, "a hold of the state makes no sense");
    for (size_t i = 0; i < PROCESS_OUTPUTS; i++) {
        const struct ring *ring = &process->streams[i].ring;

        if (in->hold_at[i] < ring_start(ring) || in->hold_at[i] > ring->end)
            return err_set(err, ERR_INVALID, "a hold of the state is where nothing is kept");
    }
    process_hold(process, in->hold_ms, in->hold_at);
    return 0;
}

/* Behind all others: they come in the order they are in. */
static struct process *new_last(void)
{
    struct process *process = mem_zalloc(sizeof(*process)), **link = &processes;

    while (*link != NULL)
        link = &(*link)->next;
    process->link = link;
    *link = process;
    process->master = -1;
    process->streams[0].io.fd = process->streams[1].io.fd = -1;
    input_init(process, -1);
    return process;
}

int process_load(const Handover__Process *in, process_input_new_fn input_new, struct err *err)
{
    struct process *process = new_last();
    int rc = load_plain(process, in, err);

    if (rc == 0)
        rc = load_texts(process, in, err);
    for (size_t i = 0; rc == 0 && i < in->n_outputs; i++)
        rc = load_output(process, i, in->outputs[i], err);
    if (rc == 0)
        rc = load_inputs(process, in, input_new, err);
    if (rc == 0)
        rc = load_hold(process, in, err);
    if (rc < 0) {
        process_drop(process);
        return -1;
    }
    process->master = process->pty ? process->streams[0].io.fd : -1;
    process_arm(process, in->deadline_mono_ms, in->forget_mono_ms);
    return 0;
}

int process_watch_at(struct process *process, struct watcher *watcher, const uint64_t *at,
                     size_t count, bool full, struct err *err)
{
    uint64_t from[PROCESS_OUTPUTS];

    for (size_t i = 0; i < PROCESS_OUTPUTS; i++) {
        const struct ring *ring = &process->streams[i].ring;

        from[i] = i < count ? at[i] : ring->end;
        if (from[i] < ring_start(ring) || from[i] > ring->end)
            return err_set(err, ERR_INVALID, "a reader of the state is where nothing is kept");
    }
    process_watch(process, watcher, from);
    watcher->full = full;
    return 0;
}

void process_go_on(void)
{
    struct process *process, *next;

    process_reap();
    for (process = processes; process != NULL; process = next) {
        next = process->next;
        if (process->done)
            continue;
        input_go_on(process);
        output_update(process);
        process_check_end(process);
    }
}
