/*
 * server/http/h2o_errors.c - the answers that h2o 2.2.5 gives by itself, in the API's shape.
 *
 * It refuses a chunked body that is too large or broken, and an unknown Expect, with text of its
 * own before any handler runs. A filter on the response puts write_error's body in its place.
 */
#include "server/http/http_private.h"

struct errors_filter {
    h2o_filter_t super;
    struct http_server *server;
};

struct replacement {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void send_replacement(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t bufcnt,
                             h2o_send_state_t state)
{
    struct replacement *replacement = (struct replacement *)self;

    (void)bufs;
    (void)bufcnt;
    if (h2o_send_state_is_in_progress(state))
        return; /* never so: h2o sends its errors in one piece */
    h2o_ostream_send_next(self, req, &replacement->body, 1, state);
}

static void describe(const struct http_server *server, int status, struct err *err)
{
    if (status == 413)
        err_set(err, ERR_INVALID, "the request body is larger than %zu bytes",
                server->config->body_max_bytes);
    else if (status == 417)
        err_set(err, ERR_INVALID, "the only Expect that is met is 100-continue");
    else if (status == 400)
        err_set(err, ERR_INVALID, "the request body is not in a valid chunked encoding");
    else
        err_set(err, ERR_INTERNAL, "the request could not be processed");
}

static void set_header(h2o_req_t *req, const char *name, const char *value)
{
    h2o_iovec_t name_copy = h2o_strdup(&req->pool, name, SIZE_MAX);
    h2o_iovec_t value_copy = h2o_strdup(&req->pool, value, SIZE_MAX);

    h2o_set_header_by_str(&req->pool, &req->res.headers, name_copy.base, name_copy.len, 1,
                          value_copy.base, value_copy.len, 1);
}

static void add_headers(h2o_req_t *req, const struct capture *capture)
{
    set_header(req, "content-type", capture->content_type);
    set_header(req, "x-request-id", capture->id);
    for (const struct reply_header *header = capture->headers; header != NULL;
         header = header->next)
        set_header(req, header->name, header->value);
}

static void replace(struct http_server *server, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct replacement *replacement;
    struct capture capture;
    struct err err = {0};

    describe(server, req->res.status, &err);
    capture_err(server, &capture, req->res.status, &err);
    replacement = (struct replacement *)h2o_add_ostream(req, sizeof(*replacement), slot);
    replacement->super.do_send = send_replacement;
    replacement->body = h2o_strdup(&req->pool, buf_str(&capture.body), capture.body.len);
    req->res.reason = status_reason(req->res.status);
    req->res.content_length = capture.body.len;
    add_headers(req, &capture);
    capture_account(server, &capture, &err);
    capture_clear(&capture);
}

static void on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct http_server *server = ((struct errors_filter *)self)->server;

    if (server->sending == NULL) {
        replace(server, req, slot);
        slot = &(*slot)->next;
    }
    h2o_setup_next_ostream(req, slot);
}

void h2o_errors_register(struct http_server *server, h2o_pathconf_t *pathconf)
{
    struct errors_filter *filter =
        (struct errors_filter *)h2o_create_filter(pathconf, sizeof(*filter));

    filter->super.on_setup_ostream = on_setup_ostream;
    filter->server = server;
}
