#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/mem.h"
#include "server/proxy/respond.h"

#define JSON_HEAD "Content-Type: application/json; charset=utf-8\r\nContent-Length: "

static const struct respond_to someone = {
    .id = "iabc", .port = 3000, .host = "3000-iabc.box.test", .path = "/init"};

static void programs_get_the_bytes_that_sdks_match_on(void **state)
{
    static const struct {
        enum respond_case what;
        const char *bytes;
    } cases[] = {
        {RESPOND_NOT_FOUND,
         "HTTP/1.1 502 Bad Gateway\r\n" JSON_HEAD "69\r\n\r\n"
         "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox was not found\",\"code\":502}"},
        {RESPOND_PORT_CLOSED,
         "HTTP/1.1 502 Bad Gateway\r\n" JSON_HEAD "99\r\n\r\n"
         "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox is running but port is not open\","
         "\"port\":3000,\"code\":502}"},
        {RESPOND_TOKEN_MISSING, "HTTP/1.1 403 Forbidden\r\n" JSON_HEAD "140\r\n\r\n"
                                "{\"sandboxId\":\"iabc\",\"message\":\"Sandbox is secured with "
                                "traffic access token. Token "
                                "header 'e2b-traffic-access-token' is missing\",\"code\":403}"},
        {RESPOND_TOKEN_WRONG,
         "HTTP/1.1 403 Forbidden\r\n" JSON_HEAD "152\r\n\r\n"
         "{\"sandboxId\":\"iabc\",\"message\":\"Sandbox is secured with traffic access token. "
         "Provided token in header 'e2b-traffic-access-token' is invalid\",\"code\":403}"},
        {RESPOND_INTERNAL_PATH,
         "HTTP/1.1 404 Not Found\r\n" JSON_HEAD "136\r\n\r\n"
         "{\"message\":\"This endpoint is reserved for the E2B control plane and is not reachable "
         "through the sandbox URL\",\"path\":\"/init\",\"code\":404}"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_buf_ struct buf out;

        buf_init(&out, RESPOND_MAX_BYTES);
        respond_case(&out, &someone, cases[i].what);
        assert_string_equal(buf_str(&out), cases[i].bytes);
    }
}

static void text_has_its_newline_and_nosniff(void **state)
{
    _cleanup_buf_ struct buf out;
    struct respond_to to = {.close = true};

    (void)state;
    buf_init(&out, RESPOND_MAX_BYTES);
    respond_text(&out, &to, 400, "Invalid host");
    assert_string_equal(buf_str(&out),
                        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
                        "X-Content-Type-Options: nosniff\r\nContent-Length: 13\r\n"
                        "Connection: close\r\n\r\nInvalid host\n");
}

static void answer_to_head_has_the_length_and_no_body(void **state)
{
    _cleanup_buf_ struct buf out;
    struct respond_to to = someone;

    (void)state;
    to.head_request = true;
    buf_init(&out, RESPOND_MAX_BYTES);
    respond_case(&out, &to, RESPOND_NOT_FOUND);
    assert_non_null(strstr(buf_str(&out), "Content-Length: 69\r\n\r\n"));
    assert_null(strstr(buf_str(&out), "sandboxId"));
}

static void page_escapes_the_host(void **state)
{
    _cleanup_buf_ struct buf out;
    struct respond_to to = someone;

    (void)state;
    to.html = true;
    strcpy(to.host, "3000-iabc.<b>&\"x");
    buf_init(&out, RESPOND_MAX_BYTES);
    respond_case(&out, &to, RESPOND_PORT_CLOSED);
    assert_non_null(strstr(buf_str(&out), "Content-Type: text/html; charset=utf-8\r\n"));
    assert_non_null(strstr(buf_str(&out), "<title>Closed Port Error</title>"));
    assert_non_null(strstr(buf_str(&out), "3000-iabc.&lt;b&gt;&amp;&quot;x"));
    assert_null(strstr(buf_str(&out), "<b>"));
}

static void page_or_json_by_who_asks(void **state)
{
    static const struct {
        const char *fields;
        bool html;
    } cases[] = {
        {"", false},
        {"User-Agent: curl/8\r\nAccept: text/html\r\n", false},
        {"User-Agent: e2b-js-sdk/2.51.0\r\n", false},
        {"User-Agent: Mozilla/5.0 (X11)\r\n", true},
        {"User-Agent: something SAFARI\r\n", true},
        {"User-Agent: Mozilla/5.0\r\nAccept: application/json\r\n", false},
        {"User-Agent: Mozilla/5.0\r\nAccept: text/html, application/json\r\n", true},
        {"User-Agent: Mozilla/5.0\r\nSec-Fetch-Mode: cors\r\n", false},
        {"User-Agent: Mozilla/5.0\r\nSec-Fetch-Mode: no-cors\r\n", false},
        {"User-Agent: Mozilla/5.0\r\nSec-Fetch-Mode: same-origin\r\n", false},
        {"User-Agent: Mozilla/5.0\r\nSec-Fetch-Mode: websocket\r\n", false},
        {"User-Agent: Mozilla/5.0\r\nSec-Fetch-Mode: navigate\r\n", true},
        {"User-Agent: Mozilla/5.0\r\nX-Requested-With: XMLHttpRequest\r\n", false},
        {"User-Agent: Mozilla/5.0\r\nSec-Fetch-Mode: navigate\r\nX-Requested-With: x\r\n", true},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *text =
            mem_asprintf("GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", cases[i].fields);
        struct http_head head;
        struct err err = {0};

        assert_int_equal(http_head_scan(text, strlen(text), &head, &err), 0);
        if (respond_wants_html(&head) != cases[i].html)
            fail_msg("wrong for: %s", cases[i].fields);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_get_the_bytes_that_sdks_match_on),
        cmocka_unit_test(text_has_its_newline_and_nosniff),
        cmocka_unit_test(answer_to_head_has_the_length_and_no_body),
        cmocka_unit_test(page_escapes_the_host),
        cmocka_unit_test(page_or_json_by_who_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
