#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/client/console_inner.h"

#define PING_S "30" /* keep-alive events, so that silence means a dead connection */
#define SILENCE_S 100
#define DELAY_FIRST_MS 50
#define DELAY_MAX_MS 1000
#define GONE_MS 5000 /* how long a server that comes back may not know the sandbox */

/* ---- What is asked ---- */

static json_t *start_message(const struct console *console)
{
    const struct console_spec *spec = console->spec;
    json_t *message = json_object(), *process = json_object(), *args = json_array();

    for (char *const *arg = spec->command + 1; *arg != NULL; arg++)
        json_array_append_new(args, json_string(*arg));
    json_put_str(process, "cmd", spec->command[0]);
    json_put(process, "args", args);
    json_put(process, "envs", json_deep_copy(spec->envs));
    if (spec->cwd != NULL)
        json_put_str(process, "cwd", spec->cwd);
    json_put(message, "process", process);
    json_put_str(message, "tag", console->tag);
    json_put_bool(message, "stdin", true);
    return message;
}

static void add_size(struct console *console, json_t *message)
{
    json_t *pty = json_object(), *size = json_object();
    unsigned short cols = 80, rows = 24;

    local_size(console, &cols, &rows);
    json_put_i64(size, "cols", cols);
    json_put_i64(size, "rows", rows);
    json_put(pty, "size", size);
    json_put(message, "pty", pty);
}

/* One envelope around the message. */
static void set_body(struct console *console, json_t *message)
{
    struct console_events *events = &console->events;
    _cleanup_free_ char *text = json_text(message);
    size_t len = strlen(text);

    json_decref(message);
    free(events->body);
    events->body_len = len + ENVELOPE_HEAD;
    events->body = mem_zalloc(events->body_len);
    for (int i = 0; i < 4; i++)
        events->body[1 + i] = (char)(len >> (24 - 8 * i));
    memcpy(events->body + ENVELOPE_HEAD, text, len);
}

static void add_replay(struct console *console, struct curl_slist **headers)
{
    char value[96];

    if (!console->started && console->spec->command == NULL) {
        if (console->spec->replay)
            client_header(headers, "Sandpit-Replay-From", "earliest");
        return;
    }
    if (console->pty)
        snprintf(value, sizeof(value), "pty=%" PRIu64, console->outputs[0].received);
    else
        snprintf(value, sizeof(value), "stdout=%" PRIu64 ", stderr=%" PRIu64,
                 console->outputs[0].received, console->outputs[1].received);
    client_header(headers, "Sandpit-Replay-From", value);
}

/* ---- What comes ---- */

static size_t on_answer(char *data, size_t size, size_t count, void *arg)
{
    struct console *console = arg;
    struct console_events *events = &console->events;
    long status = 0;

    (void)size; /* 1 */
    for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
        if (local_pending(&console->outputs[i]) > CONSOLE_BUFFER_FULL) {
            events->paused = true;
            return CURL_WRITEFUNC_PAUSE;
        }
    }
    if (buf_add(&events->in, data, count) < 0)
        return 0;
    curl_easy_getinfo(events->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200)
        stream_read(console);
    return count;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    static const char name[] = "sandpit-offsets:";
    struct console *console = arg;
    size_t at = sizeof(name) - 1;

    (void)size;
    if (count > at && mem_is_nocase(data, at, name))
        snprintf(console->events.offsets, sizeof(console->events.offsets), "%.*s",
                 (int)(count - at), data + at);
    return count;
}

/* ---- The stream's life ---- */

static void set_request(struct console *console, const char *method)
{
    struct console_events *events = &console->events;
    char hold[16];

    free(events->url);
    events->url = mem_asprintf("%s/process.Process/%s", console->spec->sandbox->url, method);
    curl_slist_free_all(events->headers);
    events->headers = console_headers(console, "application/connect+json");
    snprintf(hold, sizeof(hold), "%d", CONSOLE_LOST_S);
    client_header(&events->headers, "Sandpit-Hold", hold);
    client_header(&events->headers, "Keepalive-Ping-Interval", PING_S);
    if (events->again || console->spec->command == NULL)
        add_replay(console, &events->headers);
}

static void set_handle(struct console *console)
{
    struct console_events *events = &console->events;
    CURL *curl = events->curl;

    curl_easy_setopt(curl, CURLOPT_URL, events->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, events->headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, events->body);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)events->body_len);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, events->why);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, console);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, console);
}

void events_begin(struct console *console)
{
    struct console_events *events = &console->events;
    bool start = console->spec->command != NULL && !events->again;
    json_t *message = start ? start_message(console) : json_object();

    if (!start)
        json_put(message, "process", console_selector(console));
    if (start && console->pty)
        add_size(console, message);
    set_body(console, message);
    set_request(console, start ? "Start" : "Connect");
    buf_clear(&events->in);
    buf_init(&events->in, ENVELOPE_MAX + CURL_MAX_WRITE_SIZE);
    events->offsets[0] = events->why[0] = events->error_code[0] = '\0';
    events->closed = events->paused = false;
    if (events->curl == NULL)
        events->curl = client_handle(console->spec->client);
    set_handle(console);
    events->running = true;
    curl_multi_add_handle(console->multi, events->curl);
}

/* Try again later, or give up: WHY. */
static void lost(struct console *console, const char *why)
{
    struct console_events *events = &console->events;
    int64_t now = time_mono_ms();

    if (events->lost_ms == 0)
        events->lost_ms = now;
    if (now - events->lost_ms > CONSOLE_LOST_S * 1000) {
        console_fail(console, ERR_BUSY, "the connection to the sandbox is lost: %.300s", why);
        return;
    }
    events->delay_ms = events->delay_ms == 0 ? DELAY_FIRST_MS : 2 * events->delay_ms;
    if (events->delay_ms > DELAY_MAX_MS)
        events->delay_ms = DELAY_MAX_MS;
    events->next_try_ms = now + events->delay_ms;
}

/* An answer with an HTTP status of its own. */
static void refused(struct console *console, long status)
{
    struct console_events *events = &console->events;
    struct err ignored = {0};
    _cleanup_json_ json_t *json = json_parse(buf_str(&events->in), events->in.len, &ignored);
    const char *message = json_string_value(json_object_get(json, "message"));
    bool transient = status == 429 || (status >= 502 && status <= 504);
    bool gone = message != NULL && strstr(message, "was not found") != NULL;
    int64_t since = events->lost_ms != 0 ? time_mono_ms() - events->lost_ms : 0;

    if (message == NULL)
        message = "";
    if (transient && events->again && !(gone && since > GONE_MS))
        lost(console, message);
    else
        console_fail(console, status == 401 ? ERR_UNAUTHENTICATED : ERR_NOT_FOUND,
                     "%.300s (status %ld)", message[0] != '\0' ? message : "refused", status);
}

/* The end envelope of a stream that had an error, or no end of the process. */
static void closed(struct console *console)
{
    struct console_events *events = &console->events;

    if (str_eq(events->error_code, "unavailable") || str_eq(events->error_code, "canceled") ||
        events->error_code[0] == '\0')
        lost(console, events->error);
    else if (str_eq(events->error_code, "not_found") &&
             (console->started || console->spec->command != NULL))
        console_fail(console, ERR_NOT_FOUND,
                     console->started ? "its end was missed: the sandbox has forgotten "
                                        "the process"
                                      : "the connection broke before it was started");
    else
        console_fail(console, ERR_NOT_FOUND, "%.400s", events->error);
}

void events_finished(struct console *console, CURLcode rc)
{
    struct console_events *events = &console->events;
    long status = 0;

    curl_easy_getinfo(events->curl, CURLINFO_RESPONSE_CODE, &status);
    events->running = events->live = false;
    if (console->over)
        return;
    if (rc == CURLE_GOT_NOTHING || rc == CURLE_RECV_ERROR || rc == CURLE_SEND_ERROR)
        events->again = true; /* it may have begun: asking for it tells */
    if (!events->again && rc != CURLE_OK && status == 0) {
        client_failed(rc, events->url, events->why, &console->err);
        console->exit_code = EXIT_CONSOLE;
        console->over = true;
        return;
    }
    if (status == 200)
        events->again = true; /* the process is there */
    if (events->closed)
        closed(console);
    else if (rc == CURLE_OK && status != 200)
        refused(console, status);
    else
        lost(console, events->why[0] != '\0' ? events->why : curl_easy_strerror(rc));
}

void events_resume(struct console *console)
{
    struct console_events *events = &console->events;

    if (!events->paused || !events->running)
        return;
    for (int i = 0; i < CONSOLE_OUTPUTS; i++) {
        if (local_pending(&console->outputs[i]) > CONSOLE_BUFFER_FULL / 2)
            return;
    }
    events->paused = false;
    curl_easy_pause(events->curl, CURLPAUSE_CONT);
}

void events_clear(struct console *console)
{
    struct console_events *events = &console->events;

    if (events->curl != NULL) {
        curl_multi_remove_handle(console->multi, events->curl);
        curl_easy_cleanup(events->curl);
    }
    curl_slist_free_all(events->headers);
    buf_clear(&events->in);
    free(events->url);
    free(events->body);
}
