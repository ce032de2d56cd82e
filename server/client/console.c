#include "server/client/console.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/client/console_inner.h"

#define POLL_MS 1000

int console_fail(struct console *console, enum err_code code, const char *fmt, ...)
{
    char text[ERR_MSG_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    console->over = true;
    console->exit_code = EXIT_CONSOLE;
    return err_set(&console->err, code, "%s", text);
}

json_t *console_selector(const struct console *console)
{
    json_t *selector = json_object();

    if (console->tag[0] != '\0')
        json_put_str(selector, "tag", console->tag);
    else
        json_put_i64(selector, "pid", console->pid);
    return selector;
}

static void transfers_finished(struct console *console)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(console->multi, &left)) != NULL) {
        CURL *curl = message->easy_handle;
        CURLcode rc = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_multi_remove_handle(console->multi, curl);
        if (curl == console->events.curl)
            events_finished(console, rc);
        else if (curl == console->input.curl)
            calls_finished(console, &console->input, rc);
        else
            calls_finished(console, &console->control, rc);
    }
}

static int wait_ms(const struct console *console)
{
    int64_t left = console->events.next_try_ms - time_mono_ms();
    int soon = calls_wait_ms(console);

    if (console->events.running || left > POLL_MS)
        return soon < POLL_MS ? soon : POLL_MS;
    return left > 0 ? (int)left : 0;
}

static void turn(struct console *console)
{
    struct curl_waitfd fds[4];
    unsigned count;
    int running;

    if (!console->events.running && time_mono_ms() >= console->events.next_try_ms)
        events_begin(console);
    calls_pump(console);
    curl_multi_perform(console->multi, &running);
    transfers_finished(console);
    if (console->over)
        return;
    count = local_poll(console, fds);
    curl_multi_poll(console->multi, fds, count, wait_ms(console), NULL);
    local_handle(console, fds, count);
    events_resume(console);
}

/* A name for the process that nobody else takes. */
static void new_tag(struct console *console)
{
    uint8_t random[12];
    char hex[2 * sizeof(random) + 1];

    hash_random(random, sizeof(random));
    hex_encode(random, sizeof(random), hex);
    snprintf(console->tag, sizeof(console->tag), "sandpit-exec-%s", hex);
}

int console_run(const struct console_spec *spec, struct err *err)
{
    struct console console = {.spec = spec, .pid = spec->pid, .pty = spec->tty, .signal_fd = -1};

    if (spec->command != NULL)
        new_tag(&console);
    console.multi = curl_multi_init();
    if (console.multi == NULL)
        abort(); /* no memory */
    if (local_open(&console, &console.err) < 0) {
        console.exit_code = EXIT_CONSOLE;
        console.over = true;
    }
    while (!console.over)
        turn(&console);
    local_flush(&console);
    local_close(&console);
    events_clear(&console);
    calls_clear(&console);
    curl_multi_cleanup(console.multi);
    *err = console.err;
    return console.exit_code;
}
