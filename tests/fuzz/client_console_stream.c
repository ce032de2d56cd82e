/* What the console makes of a process's stream: the same however the bytes are cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/client/console_inner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    uint64_t received[CONSOLE_OUTPUTS];
    size_t pending[CONSOLE_OUTPUTS];
    int exit_code;
    bool over, ended, closed, started;
};

static void run(const uint8_t *data, size_t size, size_t step, struct outcome *out)
{
    static char word[] = "true";
    char *command[] = {word, NULL};
    struct console_spec spec = {.command = command};
    struct console console = {.spec = &spec};

    memset(out, 0, sizeof(*out)); /* padding too: outcomes are compared as bytes */
    buf_init(&console.events.in, ENVELOPE_MAX);
    for (int i = 0; i < CONSOLE_OUTPUTS; i++)
        buf_init(&console.outputs[i].buf, CONSOLE_BUFFER_MAX);
    for (size_t at = 0; at < size && !console.over; at += step) {
        size_t part = size - at < step ? size - at : step;

        if (buf_add(&console.events.in, (const char *)data + at, part) < 0)
            abort(); /* it keeps less than one envelope */
        stream_read(&console);
    }
    for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
        out->received[i] = console.outputs[i].received;
        out->pending[i] = console.outputs[i].buf.len;
        buf_clear(&console.outputs[i].buf);
    }
    out->exit_code = console.exit_code;
    out->over = console.over;
    out->ended = console.ended;
    out->closed = console.events.closed;
    out->started = console.started;
    buf_clear(&console.events.in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, cut;

    if (size == 0)
        return 0;
    run(data, size, size, &whole);
    run(data, size, 1, &cut);
    if (memcmp(&whole, &cut, sizeof(whole)) != 0)
        abort();
    return 0;
}
