#include "server/proxy/respond.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/base/mem.h"
#include "server/base/str.h"

static const struct {
    int status;
    const char *title;
    const char *message; /* of the JSON body */
    const char *hint;    /* of the page */
} cases[RESPOND_CASE_COUNT] = {
    [RESPOND_NOT_FOUND] = {502, "Sandbox Not Found", "The sandbox was not found",
                           "It was never there, or it has ended."},
    [RESPOND_PORT_CLOSED] = {502, "Closed Port Error",
                             "The sandbox is running but port is not open",
                             "Start a server in the sandbox that listens on this port."},
    [RESPOND_TOKEN_MISSING] = {403, "Missing Traffic Access Token",
                               "Sandbox is secured with traffic access token. Token header "
                               "'e2b-traffic-access-token' is missing",
                               "Send the token in the header e2b-traffic-access-token."},
    [RESPOND_TOKEN_WRONG] = {403, "Invalid Traffic Access Token",
                             "Sandbox is secured with traffic access token. Provided token in "
                             "header 'e2b-traffic-access-token' is invalid",
                             "The token in the header e2b-traffic-access-token does not match."},
    [RESPOND_INTERNAL_PATH] = {404, "Endpoint Not Available",
                               "This endpoint is reserved for the E2B control plane and is not "
                               "reachable through the sandbox URL",
                               "Only the platform itself may call this endpoint."},
    [RESPOND_RESUME_REFUSED] = {403, "Unable to Resume Sandbox",
                                "This sandbox can't be resumed with the credentials provided. "
                                "Check your access token and try again.",
                                "Send the token that the sandbox was created with."},
    [RESPOND_TRANSITION] = {409, "Sandbox Still Transitioning",
                            "The sandbox is still transitioning. Try again in a moment.",
                            "It is being paused or resumed."},
    [RESPOND_LIMIT] = {429, "Sandbox Limit Reached", "Sandbox limit reached",
                       "As many sandboxes run as may; end or pause one."},
};

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {502, "Bad Gateway"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < array_size(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Internal Server Error";
}

static bool value_contains(const struct http_header *field, const char *word)
{
    size_t len = strlen(word);

    for (size_t at = 0; field != NULL && at + len <= field->value_len; at++)
        if (strncasecmp(field->value + at, word, len) == 0)
            return true;
    return false;
}

static bool is_browser(const struct http_header *agent)
{
    static const char *const names[] = {"mozilla", "chrome", "safari", "firefox",
                                        "edge",    "opera",  "msie"};

    for (size_t i = 0; i < array_size(names); i++)
        if (value_contains(agent, names[i]))
            return true;
    return false;
}

static bool is_script(const struct http_head *head)
{
    static const char *const modes[] = {"cors", "no-cors", "same-origin", "websocket"};
    const struct http_header *mode = http_head_find(head, "sec-fetch-mode");

    for (size_t i = 0; mode != NULL && i < array_size(modes); i++)
        if (mem_is_nocase(mode->value, mode->value_len, modes[i]))
            return true;
    if (mode != NULL && mem_is_nocase(mode->value, mode->value_len, "navigate"))
        return false;
    return http_head_find(head, "x-requested-with") != NULL;
}

bool respond_wants_html(const struct http_head *head)
{
    const struct http_header *accept = http_head_find(head, "accept");

    if (!is_browser(http_head_find(head, "user-agent")) || is_script(head))
        return false;
    return !value_contains(accept, "application/json") || value_contains(accept, "text/html");
}

static void add_escaped(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            buf_add_str(out, "&amp;");
            break;
        case '<':
            buf_add_str(out, "&lt;");
            break;
        case '>':
            buf_add_str(out, "&gt;");
            break;
        case '"':
            buf_add_str(out, "&quot;");
            break;
        default:
            buf_add_char(out, *text);
        }
    }
}

static void add_row(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "<dt>%s</dt><dd>", name);
    add_escaped(out, value);
    buf_add_str(out, "</dd>\n");
}

static void add_page(struct buf *out, const struct respond_to *to, enum respond_case what)
{
    char port[24];

    buf_printf(out,
               "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width\">\n<title>%s</title>\n"
               "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;"
               "padding:0 1em;color:#222;background:#fff}h1{font-size:1.4em}dt{color:#666}"
               "dd{margin:0 0 .6em;font-family:ui-monospace,monospace;overflow-wrap:anywhere}"
               "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}}</style>\n"
               "</head>\n<body>\n<h1>%s</h1>\n<p>%s.</p>\n<p>%s</p>\n<dl>\n",
               cases[what].title, cases[what].title, cases[what].message, cases[what].hint);
    if (what == RESPOND_INTERNAL_PATH)
        add_row(out, "Path", to->path);
    else
        add_row(out, "Sandbox", to->id);
    if (what == RESPOND_PORT_CLOSED) {
        snprintf(port, sizeof(port), "%" PRIu64, to->port);
        add_row(out, "Port", port);
        add_row(out, "Host", to->host);
    }
    buf_add_str(out, "</dl>\n</body>\n</html>\n");
}

/* Nothing here needs escaping: ids are [a-z0-9]+, the path is one of ours. */
static void add_json(struct buf *out, const struct respond_to *to, enum respond_case what)
{
    const char *message = cases[what].message;
    int status = cases[what].status;

    if (what == RESPOND_INTERNAL_PATH)
        buf_printf(out, "{\"message\":\"%s\",\"path\":\"%s\",\"code\":%d}", message, to->path,
                   status);
    else if (what == RESPOND_PORT_CLOSED)
        buf_printf(out,
                   "{\"sandboxId\":\"%s\",\"message\":\"%s\",\"port\":%" PRIu64 ",\"code\":%d}",
                   to->id, message, to->port, status);
    else
        buf_printf(out, "{\"sandboxId\":\"%s\",\"message\":\"%s\",\"code\":%d}", to->id, message,
                   status);
}

static void add_answer(struct buf *out, const struct respond_to *to, int status, const char *type,
                       const struct buf *body)
{
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nContent-Type: %s; charset=utf-8\r\n%sContent-Length: %zu\r\n%s"
               "\r\n",
               status, reason_of(status), type,
               str_eq(type, "text/plain") ? "X-Content-Type-Options: nosniff\r\n" : "", body->len,
               to->close ? "Connection: close\r\n" : "");
    if (!to->head_request)
        buf_add(out, body->data, body->len);
}

void respond_case(struct buf *out, const struct respond_to *to, enum respond_case what)
{
    _cleanup_buf_ struct buf body;

    buf_init(&body, RESPOND_MAX_BYTES);
    if (to->html)
        add_page(&body, to, what);
    else
        add_json(&body, to, what);
    add_answer(out, to, cases[what].status, to->html ? "text/html" : "application/json", &body);
}

void respond_text(struct buf *out, const struct respond_to *to, int status, const char *text)
{
    _cleanup_buf_ struct buf body;

    buf_init(&body, RESPOND_MAX_BYTES);
    buf_add_str(&body, text);
    buf_add_char(&body, '\n');
    add_answer(out, to, status, "text/plain", &body);
}
