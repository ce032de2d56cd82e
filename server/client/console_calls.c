#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/client/console_inner.h"

/*
 * How much is written before it is said. The sandbox may send less beyond what it knows (its rings
 * can be smaller): then all is still, and from then on half of what came is enough.
 */
#define ACKNOWLEDGE_BYTES (256 << 10)
#define ACKNOWLEDGE_LEAST_BYTES (4 << 10)
#define STILL_MS 10
#define ANSWER_MAX (1 << 20)
#define CONTROL_S 30

static struct curl_slist *authorization(const char *user, struct curl_slist *headers)
{
    _cleanup_free_ char *pair = mem_asprintf("%s:", user), *text = NULL, *value = NULL;

    text = mem_zalloc(BASE64_SIZE(strlen(pair)));
    base64_encode(BASE64_STD, pair, strlen(pair), text);
    value = mem_asprintf("Basic %s", text);
    client_header(&headers, "Authorization", value);
    return headers;
}

struct curl_slist *console_headers(const struct console *console, const char *type)
{
    const struct client_sandbox *sandbox = console->spec->sandbox;
    struct curl_slist *headers = NULL;

    client_header(&headers, "Content-Type", type);
    client_header(&headers, "Connect-Protocol-Version", "1");
    client_header(&headers, "E2b-Sandbox-Id", sandbox->id);
    client_header(&headers, "E2b-Sandbox-Port", "49983");
    client_header(&headers, "Expect", ""); /* no waiting for 100 */
    if (sandbox->token != NULL)
        client_header(&headers, "X-Access-Token", sandbox->token);
    if (console->spec->user != NULL)
        headers = authorization(console->spec->user, headers);
    return headers;
}

static size_t on_answer(char *data, size_t size, size_t count, void *arg)
{
    struct console_call *call = arg;

    (void)size; /* 1 */
    return buf_add(&call->answer, data, count) < 0 ? 0 : count;
}

/* Begin METHOD with MESSAGE, taken, and one more header (NAME may be NULL). */
static void begin(struct console *console, struct console_call *call, const char *method,
                  json_t *message, const char *name, const char *value,
                  void (*done)(struct console *console, enum call_result result))
{
    if (call->curl == NULL)
        call->curl = client_handle(console->spec->client);
    free(call->url);
    call->url = mem_asprintf("%s/process.Process/%s", console->spec->sandbox->url, method);
    free(call->body);
    call->body = json_text(message);
    json_decref(message);
    curl_slist_free_all(call->headers);
    call->headers = console_headers(console, "application/json");
    if (name != NULL)
        client_header(&call->headers, name, value);
    buf_clear(&call->answer);
    buf_init(&call->answer, ANSWER_MAX);
    curl_easy_setopt(call->curl, CURLOPT_URL, call->url);
    curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(call->curl, CURLOPT_POSTFIELDS, call->body);
    curl_easy_setopt(call->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
    curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, call);
    if (call == &console->control)
        curl_easy_setopt(call->curl, CURLOPT_TIMEOUT, (long)CONTROL_S);
    call->done = done;
    call->busy = true;
    curl_multi_add_handle(console->multi, call->curl);
}

/* How a call ended; what the sandbox said is in console->call_error. */
static enum call_result result_of(struct console *console, const struct console_call *call,
                                  CURLcode rc)
{
    struct err ignored = {0};
    _cleanup_json_ json_t *json = NULL;
    const char *message;
    long status = 0;

    curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_OK && status == 200)
        return CALL_DONE;
    if (rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
        rc == CURLE_SSL_CONNECT_ERROR)
        return CALL_NOT_SENT;
    if (rc != CURLE_OK)
        return CALL_UNKNOWN;
    json = json_parse(buf_str(&call->answer), call->answer.len, &ignored);
    message = json_string_value(json_object_get(json, "message"));
    snprintf(console->call_error, sizeof(console->call_error), "%s",
             message != NULL ? message : "refused");
    /* A number is the proxy's: envd never saw it. */
    return json_is_string(json_object_get(json, "code")) || status < 500 ? CALL_REFUSED
                                                                         : CALL_NOT_SENT;
}

void calls_finished(struct console *console, struct console_call *call, CURLcode rc)
{
    call->busy = false;
    call->done(console, result_of(console, call, rc));
}

/* ---- Input ---- */

static void forget_typed(struct console *console)
{
    free(console->typed);
    console->typed = NULL;
    console->typed_from += console->typed_len;
    console->typed_len = 0;
}

static void input_done(struct console *console, enum call_result result)
{
    if (result == CALL_NOT_SENT)
        return; /* it goes out again */
    if (result == CALL_UNKNOWN && console->spec->command != NULL)
        return; /* and so does this: the sandbox knows what it has */
    forget_typed(console);
    if (result == CALL_REFUSED) { /* the process has ended, or closed its input */
        console->stdin_over = true;
        console->close_wanted = false;
    }
    if (result == CALL_UNKNOWN && !console->pty)
        console_fail(console, ERR_BUSY,
                     "the connection broke while input was on its way, which may or may not have "
                     "arrived; the process is left alone");
}

static void close_done(struct console *console, enum call_result result)
{
    if (result == CALL_NOT_SENT || result == CALL_UNKNOWN)
        console->close_wanted = true; /* twice does no harm */
}

static void send_typed(struct console *console)
{
    json_t *message = json_object(), *input = json_object();
    _cleanup_free_ char *text = mem_zalloc(BASE64_SIZE(console->typed_len));
    char from[24];

    base64_encode(BASE64_STD, console->typed, console->typed_len, text);
    json_put_str(input, console->pty ? "pty" : "stdin", text);
    json_put(message, "process", console_selector(console));
    json_put(message, "input", input);
    snprintf(from, sizeof(from), "%" PRIu64, console->typed_from);
    /* Of a process that others started we know no offset. */
    begin(console, &console->input, "SendInput", message,
          console->tag[0] != '\0' ? "Sandpit-Input-Offset" : NULL, from, input_done);
}

static void pump_input(struct console *console)
{
    json_t *message;

    if (console->input.busy)
        return;
    if (console->typed != NULL) {
        send_typed(console);
        return;
    }
    if (!console->close_wanted)
        return;
    console->close_wanted = false;
    message = json_object();
    json_put(message, "process", console_selector(console));
    begin(console, &console->input, "CloseStdin", message, NULL, NULL, close_done);
}

/* ---- Control ---- */

static void acknowledge_done(struct console *console, enum call_result result)
{
    if (result != CALL_DONE)
        return; /* the next one says it, too */
    for (int i = 0; i < CONSOLE_OUTPUTS; i++)
        console->outputs[i].acknowledged = console->ack[i];
}

static uint64_t unsaid(const struct console *console)
{
    uint64_t first = console->outputs[0].written - console->outputs[0].acknowledged;
    uint64_t second = console->outputs[1].written - console->outputs[1].acknowledged;

    return first > second ? first : second;
}

/* Whether it is time, and how much is enough the next time. */
static bool acknowledge_due(struct console *console)
{
    uint64_t bytes = unsaid(console);

    if (console->ack_bytes == 0)
        console->ack_bytes = ACKNOWLEDGE_BYTES;
    if (bytes >= console->ack_bytes) {
        if (console->ack_bytes < ACKNOWLEDGE_BYTES)
            console->ack_bytes += console->ack_bytes / 8;
        return true;
    }
    if (bytes < ACKNOWLEDGE_LEAST_BYTES || time_mono_ms() - console->came_ms < STILL_MS)
        return false;
    console->ack_bytes = bytes / 2 > ACKNOWLEDGE_LEAST_BYTES ? bytes / 2 : ACKNOWLEDGE_LEAST_BYTES;
    return true;
}

int calls_wait_ms(const struct console *console)
{
    bool due = console->events.live && !console->control.busy &&
               unsaid(console) >= ACKNOWLEDGE_LEAST_BYTES;

    return due ? STILL_MS : INT_MAX;
}

static bool acknowledge(struct console *console)
{
    const struct console_output *out = console->outputs;
    json_t *message;
    char text[96];

    if (!acknowledge_due(console))
        return false;
    if (console->pty)
        snprintf(text, sizeof(text), "pty=%" PRIu64, out[0].written);
    else
        snprintf(text, sizeof(text), "stdout=%" PRIu64 ", stderr=%" PRIu64, out[0].written,
                 out[1].written);
    for (int i = 0; i < CONSOLE_OUTPUTS; i++)
        console->ack[i] = out[i].written;
    message = json_object();
    json_put(message, "process", console_selector(console));
    begin(console, &console->control, "Update", message, "Sandpit-Acknowledge", text,
          acknowledge_done);
    return true;
}

static void resize_done(struct console *console, enum call_result result)
{
    if (result == CALL_NOT_SENT || result == CALL_UNKNOWN)
        console->resize_wanted = true;
}

static bool resize(struct console *console)
{
    json_t *message, *pty, *size;
    unsigned short cols, rows;

    if (!console->resize_wanted)
        return false;
    console->resize_wanted = false;
    if (!console->pty || !local_size(console, &cols, &rows))
        return false;
    message = json_object();
    pty = json_object();
    size = json_object();
    json_put_i64(size, "cols", cols);
    json_put_i64(size, "rows", rows);
    json_put(pty, "size", size);
    json_put(message, "process", console_selector(console));
    json_put(message, "pty", pty);
    begin(console, &console->control, "Update", message, NULL, NULL, resize_done);
    return true;
}

static void signal_done(struct console *console, enum call_result result)
{
    if ((result == CALL_NOT_SENT || result == CALL_UNKNOWN) && console->signal_wanted == 0)
        console->signal_wanted = console->signal_under_way;
}

static bool send_signal(struct console *console)
{
    json_t *message;

    if (console->signal_wanted == 0)
        return false;
    console->signal_under_way = console->signal_wanted;
    console->signal_wanted = 0;
    message = json_object();
    json_put(message, "process", console_selector(console));
    json_put_str(message, "signal",
                 console->signal_under_way == SIGKILL ? "SIGNAL_SIGKILL" : "SIGNAL_SIGTERM");
    begin(console, &console->control, "SendSignal", message, NULL, NULL, signal_done);
    return true;
}

void calls_pump(struct console *console)
{
    if (!console->events.live || console->over)
        return; /* nobody there; it is kept */
    pump_input(console);
    if (!console->control.busy && !send_signal(console) && !acknowledge(console))
        resize(console);
}

static void call_clear(struct console *console, struct console_call *call)
{
    if (call->curl != NULL) {
        curl_multi_remove_handle(console->multi, call->curl);
        curl_easy_cleanup(call->curl);
    }
    curl_slist_free_all(call->headers);
    buf_clear(&call->answer);
    free(call->url);
    free(call->body);
}

void calls_clear(struct console *console)
{
    call_clear(console, &console->input);
    call_clear(console, &console->control);
    forget_typed(console);
}
