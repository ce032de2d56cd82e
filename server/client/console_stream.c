#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/client/console_inner.h"

#define ENVELOPE_END 0x02

static void on_data(struct console *console, const json_t *data)
{
    static const struct {
        const char *name;
        int output;
    } kinds[] = {{"stdout", 0}, {"pty", 0}, {"stderr", 1}};

    for (size_t i = 0; i < array_size(kinds); i++) {
        const json_t *value = json_object_get(data, kinds[i].name);
        struct console_output *output = &console->outputs[kinds[i].output];
        size_t len = json_string_length(value);
        char *room;

        if (value == NULL)
            continue;
        room = buf_reserve(&output->buf, len + 4);
        if (room == NULL ||
            base64_decode(json_string_value(value), len, (uint8_t *)room, &len) < 0) {
            console_fail(console, ERR_INTERNAL, "the sandbox sent output that is not base64");
            return;
        }
        output->received += len;
        console->came_ms = time_mono_ms();
        if (output->closed)
            output->written += len;
        else
            buf_commit(&output->buf, len);
    }
}

/* The number of a signal in the agent's words, "signal: killed (core dumped)"; 0: not known. */
static int signal_of(const char *status)
{
    static const struct {
        const char *words;
        int number;
    } signals[] = {
        {"hangup", 1},
        {"interrupt", 2},
        {"quit", 3},
        {"illegal instruction", 4},
        {"trace/breakpoint", 5},
        {"aborted", 6},
        {"bus error", 7},
        {"floating point exception", 8},
        {"killed", 9},
        {"user defined signal 1", 10},
        {"segmentation fault", 11},
        {"user defined signal 2", 12},
        {"broken pipe", 13},
        {"alarm clock", 14},
        {"terminated", 15},
        {"bad system call", 31},
        {"CPU time limit exceeded", 24},
        {"file size limit exceeded", 25},
    };
    uint64_t number;
    struct err ignored;

    if (!str_starts(status, "signal"))
        return 0;
    status += strlen("signal");
    status += strspn(status, ": ");
    for (size_t i = 0; i < array_size(signals); i++) {
        if (str_starts(status, signals[i].words))
            return signals[i].number;
    }
    if (str_starts(status, "signal "))
        status += strlen("signal ");
    return str_to_u64(status, strspn(status, "0123456789"), 1, 64, "signal", &number, &ignored) < 0
               ? 0
               : (int)number;
}

static void on_end(struct console *console, const json_t *end)
{
    const char *status = json_string_value(json_object_get(end, "status"));

    console->ended = true;
    console->exit_code = (int)json_integer_value(json_object_get(end, "exitCode"));
    if (!json_is_true(json_object_get(end, "exited")))
        console->exit_code = EXIT_SIGNAL_BASE + (status != NULL ? signal_of(status) : 0);
    console->over = true;
}

/* "stdout=12" or "pty=12" of Sandpit-Offsets. */
static bool offset_of(const char *text, const char *name, uint64_t *out)
{
    const char *at = strstr(text, name);
    struct err ignored;

    if (at == NULL)
        return false;
    at += strlen(name);
    return str_to_u64(at, strspn(at, "0123456789"), 0, INT64_MAX, "offset", out, &ignored) == 0;
}

/* Where the outputs of this stream begin. -1: not where we are. */
static int check_offsets(struct console *console)
{
    const char *text = console->events.offsets;
    uint64_t at[CONSOLE_OUTPUTS] = {0, 0};
    bool pty = offset_of(text, "pty=", &at[0]);
    bool known = pty || (offset_of(text, "stdout=", &at[0]) && offset_of(text, "stderr=", &at[1]));

    if (!console->started && console->spec->command == NULL && known) {
        console->pty = pty;
        for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
            struct console_output *output = &console->outputs[i];
            output->received = output->written = output->acknowledged = at[i];
        }
        return 0;
    }
    if (!console->events.again)
        return 0;
    if (!known || at[0] != console->outputs[0].received || at[1] != console->outputs[1].received)
        return console_fail(console, ERR_INTERNAL,
                            "output is missing: this sandbox's agent cannot replay it");
    return 0;
}

static void on_start(struct console *console, const json_t *start)
{
    if (check_offsets(console) < 0)
        return;
    console->pid = (uint32_t)json_integer_value(json_object_get(start, "pid"));
    console->events.live = true;
    console->events.lost_ms = 0;
    console->events.delay_ms = 0;
    if (!console->started) {
        console->started = true;
        local_started(console);
    }
}

static void on_message(struct console *console, uint8_t flags, const char *data, size_t len)
{
    struct console_events *events = &console->events;
    struct err err = {0};
    _cleanup_json_ json_t *json = json_parse_object(data, len, &err);
    const json_t *event = json_object_get(json, "event"), *error, *part;

    if (json == NULL) {
        console_fail(console, ERR_INTERNAL, "the sandbox sent what is not an event");
        return;
    }
    if (flags & ENVELOPE_END) {
        const char *text;

        error = json_object_get(json, "error");
        events->closed = true;
        text = json_string_value(json_object_get(error, "code"));
        snprintf(events->error_code, sizeof(events->error_code), "%s", text != NULL ? text : "");
        text = json_string_value(json_object_get(error, "message"));
        snprintf(events->error, sizeof(events->error), "%s", text != NULL ? text : "");
        return;
    }
    if ((part = json_object_get(event, "start")) != NULL)
        on_start(console, part);
    if ((part = json_object_get(event, "data")) != NULL)
        on_data(console, part);
    if ((part = json_object_get(event, "end")) != NULL)
        on_end(console, part);
}

/* The length of the envelope at the beginning, 0 while it is not whole. */
static size_t whole_envelope(struct console *console)
{
    const struct buf *in = &console->events.in;
    const uint8_t *head = (const uint8_t *)in->data;
    size_t len;

    if (in->len < ENVELOPE_HEAD)
        return 0;
    len = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
    if (len > ENVELOPE_MAX - ENVELOPE_HEAD) {
        console_fail(console, ERR_INTERNAL, "the sandbox sent what is not an event");
        return 0;
    }
    return in->len >= ENVELOPE_HEAD + len ? ENVELOPE_HEAD + len : 0;
}

void stream_read(struct console *console)
{
    struct buf *in = &console->events.in;
    size_t len;

    while (!console->over && (len = whole_envelope(console)) > 0) {
        on_message(console, (uint8_t)in->data[0], in->data + ENVELOPE_HEAD, len - ENVELOPE_HEAD);
        buf_consume(in, len);
    }
}
