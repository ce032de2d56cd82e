#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/proxy/head.h"
#include "server/proxy/token.h"

static void check_request(const char *in, const struct head_change *change, const char *expected)
{
    _cleanup_buf_ struct buf out;
    struct http_head head;
    struct head_target target;
    struct err err = {0};

    buf_init(&out, HEAD_OUT_MAX_BYTES);
    assert_int_equal(http_head_scan(in, strlen(in), &head, &err), 0);
    assert_int_equal(head_target(&head, &target, &err), 0);
    assert_int_equal(head_write_request(&head, &target, change, &out, &err), 0);
    assert_string_equal(buf_str(&out), expected);
}

static void request_to_a_user_port_is_rewritten(void **state)
{
    (void)state;
    check_request("PUT /a%2F//b?x=%zz HTTP/1.1\r\n"
                  "Accept: */*\r\n"
                  "host: 3000-iabc.box.test:3443\r\n"
                  "Connection: close, X-Hop, Content-Length\r\n"
                  "X-Hop: 1\r\n"
                  "x-hop: 2\r\n"
                  "X-Hopper: kept\r\n"
                  "Forwarded: for=x\r\n"
                  "X-FORWARDED-FOR: x\r\n"
                  "X-Forwarded-Host: evil\r\n"
                  "X-Forwarded-Proto: https\r\n"
                  "Keep-Alive: 5\r\n"
                  "Proxy-Connection: x\r\n"
                  "TE: trailers, deflate\r\n"
                  "Trailer: X-Sum\r\n"
                  "Authorization: Basic dTpw\r\n"
                  "X-Empty:\r\n"
                  "Content-Length: 3\r\n\r\n",
                  &(struct head_change){.close = true},
                  "PUT /a%2F//b?x=%zz HTTP/1.1\r\n"
                  "Host: 3000-iabc.box.test:3443\r\n"
                  "Accept: */*\r\n"
                  "X-Hopper: kept\r\n"
                  "Trailer: X-Sum\r\n"
                  "Authorization: Basic dTpw\r\n"
                  "X-Empty: \r\n"
                  "Content-Length: 3\r\n"
                  "X-Forwarded-Host: 3000-iabc.box.test:3443\r\n"
                  "TE: trailers\r\n"
                  "Connection: close\r\n\r\n");
}

static void request_to_envd_carries_our_token_only(void **state)
{
    (void)state;
    check_request("POST /p HTTP/1.1\r\nHost: h\r\nAuthorization: Basic dTpw\r\n"
                  "authorization: Bearer forged\r\nX-Access-Token: t\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n",
                  &(struct head_change){.jwt = "a.b.c"},
                  "POST /p HTTP/1.1\r\nHost: h\r\nX-Access-Token: t\r\nX-Forwarded-Host: h\r\n"
                  "Authorization: Bearer a.b.c\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void upgrade_is_asked_for_again(void **state)
{
    (void)state;
    check_request("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n"
                  "Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
                  &(struct head_change){.close = true},
                  "GET /ws HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: k\r\nX-Forwarded-Host: h\r\n"
                  "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    check_request("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
                  &(struct head_change){0},
                  "GET /ws HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: h\r\n\r\n");
}

static void target_may_name_the_host(void **state)
{
    static const struct {
        const char *target, *host, *path; /* host NULL: refused */
    } cases[] = {
        {"/a", "field", "/a"},
        {"*", "field", "*"},
        {"http://a.b:1/c?d", "a.b:1", "/c?d"},
        {"HTTPS://a.b", "a.b", "/"},
        {"http://u@a.b/", NULL, NULL},
        {"http:///x", NULL, NULL},
        {"http://a.b?x", NULL, NULL},
        {"ftp://a.b/", NULL, NULL},
        {"a.b:443", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        _cleanup_free_ char *text =
            mem_asprintf("GET %s HTTP/1.1\r\nHost: field\r\n\r\n", cases[i].target);
        struct http_head head;
        struct head_target target;
        struct err err = {0};

        assert_int_equal(http_head_scan(text, strlen(text), &head, &err), 0);
        if (cases[i].host == NULL) {
            assert_int_equal(head_target(&head, &target, &err), -1);
            assert_string_equal(err.msg, "Invalid host");
            continue;
        }
        assert_int_equal(head_target(&head, &target, &err), 0);
        assert_true(mem_is(target.host.data, target.host.len, cases[i].host));
        assert_true(mem_is(target.path.data, target.path.len, cases[i].path));
    }
}

static void internal_paths_are_seen_through_disguise(void **state)
{
    static const struct {
        const char *path, *name;
    } cases[] = {
        {"/init", "/init"},
        {"/init?x=/y", "/init"},
        {"//init", "/init"},
        {"/init/", "/init"},
        {"/init//", "/init"},
        {"/./init/.", "/init"},
        {"/files/../init", "/init"},
        {"/../../init", "/init"},
        {"/a/b/../../fsthaw", "/fsthaw"},
        {"/%69nit", "/init"},
        {"/%2finit", "/init"},
        {"/x%2F..%2Finit", "/init"},
        {"/%2e%2E/upgrade", "/upgrade"},
        {"/init%00.txt", "/init"},
        {"/init#x", "/init"},
        {"/freeze", "/freeze"},
        {"/unfreeze", "/unfreeze"},
        {"/collapse", "/collapse"},
        {"/fsfreeze", "/fsfreeze"},
        {"/", NULL},
        {"*", NULL},
        {"/..", NULL},
        {"/initx", NULL},
        {"/init/x", NULL},
        {"/x/init", NULL},
        {"/Init", NULL},
        {"/%2569nit", NULL},
        {"/ini%74%", NULL},
        {"/%6", NULL},
        {"/files?path=/init", NULL},
        {"/process.Process/Start", NULL},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct slice path = {cases[i].path, strlen(cases[i].path)};
        const char *name = head_internal_path(path);

        if (!str_eq(name, cases[i].name))
            fail_msg("%s: %s", cases[i].path, name != NULL ? name : "none");
    }
}

static int pass(const char *in, const struct response_want *want, struct buf *out,
                struct response_head *response)
{
    struct err err = {0};

    buf_reset(out);
    return head_pass_response(in, strlen(in), want, out, response, &err);
}

static void response_heads_are_rewritten(void **state)
{
    static const struct {
        const char *in;
        struct response_want want;
        const char *out;
        enum body_kind framing;
        uint64_t length;
        bool keep_alive;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nconnection: X-A\r\nX-A: 1\r\nX-B: 2\r\n\r\nhello",
         {0},
         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-B: 2\r\n\r\n",
         BODY_LENGTH,
         5,
         true},
        {"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
         {0},
         "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n",
         BODY_CHUNKED,
         9,
         true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
         {.http_1_0 = true, .close = true},
         "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
         BODY_CHUNKED,
         0,
         true},
        {"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n",
         {0},
         "HTTP/1.1 404 Not Found\r\nServer: x\r\nConnection: close\r\n\r\n",
         BODY_TO_EOF,
         0,
         false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
         {.head_request = true},
         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
         BODY_NONE,
         5,
         false},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
         {0},
         "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
         BODY_NONE,
         5,
         true},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
         {.close = true},
         "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
         BODY_NONE,
         0,
         true},
        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
         {.close = true},
         "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
         BODY_NONE,
         0,
         true},
        {"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n",
         {0},
         "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n",
         BODY_NONE,
         0,
         true},
    };
    _cleanup_buf_ struct buf out;

    (void)state;
    buf_init(&out, HEAD_OUT_MAX_BYTES);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct response_head response;

        assert_int_equal(pass(cases[i].in, &cases[i].want, &out, &response), 0);
        assert_string_equal(buf_str(&out), cases[i].out);
        assert_int_equal(response.framing, cases[i].framing);
        assert_int_equal(response.content_length, cases[i].length);
        assert_int_equal(response.keep_alive, cases[i].keep_alive);
        assert_int_equal(response.size, strstr(cases[i].in, "\r\n\r\n") + 4 - cases[i].in);
    }
}

static void bad_response_heads_are_refused(void **state)
{
    static const char *const cases[] = {
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    _cleanup_buf_ struct buf out;

    (void)state;
    buf_init(&out, HEAD_OUT_MAX_BYTES);
    for (size_t i = 0; i < array_size(cases); i++) {
        struct response_head response;
        struct response_want want = {0};

        if (pass(cases[i], &want, &out, &response) != -1)
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(out.len, 0);
    }
}

static void incomplete_response_heads_wait(void **state)
{
    static const char whole[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    _cleanup_buf_ struct buf out;
    struct response_want want = {0};
    struct response_head response;
    struct err err = {0};

    (void)state;
    buf_init(&out, HEAD_OUT_MAX_BYTES);
    for (size_t len = 1; len < sizeof(whole) - 1; len++) {
        assert_int_equal(head_pass_response(whole, len, &want, &out, &response, &err), 1);
        want.scanned = len;
    }
    assert_int_equal(head_pass_response(whole, sizeof(whole) - 1, &want, &out, &response, &err), 0);
}

static void refused_heads_get_a_fitting_status(void **state)
{
    static const struct {
        const char *data;
        int status;
    } cases[] = {
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"\r\nGET / HTTP/0.9\r\n", 505},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / http/1.1\r\n", 400},
        {"non(sense", 400},
    };
    char many[1000] = "GET / HTTP/1.1\r\n";
    struct http_head head;
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        assert_int_equal(http_head_scan(cases[i].data, strlen(cases[i].data), &head, &err), -1);
        assert_int_equal(head_refused_status(err.code), cases[i].status);
    }
    for (size_t i = 0; i < HTTP_HEADERS_MAX + 1; i++)
        memcpy(many + 16 + i * 5, "A:b\r\n", 5);
    assert_int_equal(http_head_scan(many, strlen(many), &head, &err), -1);
    assert_int_equal(head_refused_status(err.code), 431);
}

static void basic_names_the_user(void **state)
{
    static const struct {
        const char *value, *user; /* NULL: nobody */
    } cases[] = {
        {"Basic dXNlcjo=", "user"},
        {"basic   cm9vdDpwdw==", "root"},
        {"Basic Og==", ""},
        {"Basic dXNlcg==", NULL}, /* no colon */
        {"Basic dXNl!jo=", NULL}, /* not base64 */
        {"Basic", NULL},
        {"Basic ", NULL},
        {"Bearer dXNlcjo=", NULL},
        {"Basic dQBzZXI6", NULL}, /* a NUL */
        {"Basic /zo=", NULL},     /* not UTF-8 */
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        char user[TOKEN_USER_MAX_BYTES] = "untouched";
        int rc = token_basic_user(cases[i].value, strlen(cases[i].value), user);

        assert_int_equal(rc, cases[i].user != NULL ? 0 : -1);
        assert_string_equal(user, cases[i].user != NULL ? cases[i].user : "untouched");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_to_a_user_port_is_rewritten),
        cmocka_unit_test(request_to_envd_carries_our_token_only),
        cmocka_unit_test(upgrade_is_asked_for_again),
        cmocka_unit_test(target_may_name_the_host),
        cmocka_unit_test(internal_paths_are_seen_through_disguise),
        cmocka_unit_test(response_heads_are_rewritten),
        cmocka_unit_test(bad_response_heads_are_refused),
        cmocka_unit_test(incomplete_response_heads_wait),
        cmocka_unit_test(refused_heads_get_a_fitting_status),
        cmocka_unit_test(basic_names_the_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
