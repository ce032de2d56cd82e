/*
 * server/http/upload.c - large bodies, read from the socket piece by piece; see http.h.
 *
 * h2o 2.2.5 keeps a whole body in memory. So on one route the head goes to our handler without h2o
 * ever seeing it, and the body is taken from the socket as fast as workers write it: what one read
 * of the socket gives and one piece of PIECE_MAX_BYTES are in memory.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/chunked.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/http/http_private.h"

#define PIECE_MAX_BYTES (512 * 1024)

struct upload {
    unsigned refs;
    struct http_server *server;
    struct conn *conn; /* NULL once it is gone or answered */
    h2o_mem_pool_t pool;
    struct reply *reply;
    struct capture capture;
    enum http_framing framing;
    uint64_t left; /* HTTP_BODY_LENGTH */
    struct chunked chunked;
    uint64_t received;
    bool continue_wanted;
    bool begun;   /* the head is out of the socket's input */
    bool ended;   /* the body is read to its end */
    bool waiting; /* `done` is to be called */
    bool working; /* a worker has the piece */
    upload_write_fn write;
    upload_done_fn done;
    void *ctx;
    char *piece;
    size_t piece_len;
    struct work work;
    int rc;
    struct err err;
};

static void start(struct upload *upload);

bool upload_wanted(const struct http_server *server, const struct http_head *head)
{
    const struct http_config *config = server->config;
    const char *mark;
    struct route_match match;
    struct buf allow;
    bool wanted;

    if (config->upload_path == NULL || !mem_is(head->method, head->method_len, "PUT") ||
        head->target[0] != '/')
        return false;
    mark = memchr(head->target, '?', head->target_len);
    buf_init(&allow, ERROR_BODY_MAX_BYTES);
    wanted = router_match(config->routes, config->route_count, "PUT", strlen("PUT"), head->target,
                          mark != NULL ? (size_t)(mark - head->target) : head->target_len, &match,
                          &allow) == ROUTE_FOUND &&
             str_eq(match.route->path, config->upload_path);
    buf_clear(&allow);
    return wanted;
}

struct upload *upload_new(struct http_server *server, struct conn *conn)
{
    struct upload *upload = mem_zalloc(sizeof(*upload));

    upload->refs = 2; /* the connection's and the reply's */
    upload->server = server;
    upload->conn = conn;
    upload->capture.status = 500;
    upload->capture.content_type = "text/plain";
    buf_init(&upload->capture.body, ERROR_BODY_MAX_BYTES);
    h2o_mem_init_pool(&upload->pool);
    upload->reply = reply_new(server, NULL, &upload->capture);
    upload->reply->upload = upload;
    return upload;
}

void upload_unref(struct upload *upload)
{
    if (--upload->refs > 0)
        return;
    capture_clear(&upload->capture);
    h2o_mem_clear_pool(&upload->pool);
    free(upload->piece);
    free(upload);
}

static void note_framing(struct upload *upload, const struct http_head *head)
{
    upload->framing = head->framing;
    upload->left = head->framing == HTTP_BODY_LENGTH ? head->content_length : 0;
    upload->ended = head->framing != HTTP_BODY_CHUNKED && upload->left == 0;
    upload->continue_wanted =
        head->expect != NULL &&
        mem_is_nocase(head->expect->value, head->expect->value_len, "100-continue");
}

/* The answer came before any of the body was read: what of it is there already is passed over. */
static void skip_body(struct upload *upload, h2o_buffer_t **input)
{
    if (upload->framing != HTTP_BODY_LENGTH || upload->left > (*input)->size)
        return;
    h2o_buffer_consume(input, (size_t)upload->left);
    upload->left = 0;
    upload->ended = true;
}

/* Answered and with a connection: send it. UPLOAD may be freed on return. */
static void send_answer(struct upload *upload)
{
    struct conn *conn = upload->conn;

    if (conn == NULL || !upload->begun || !upload->reply->done)
        return;
    if (!upload->ended && !upload->continue_wanted)
        skip_body(upload, &conn_sock(conn)->input);
    upload->conn = NULL;
    conn_upload_answer(conn, &upload->capture, upload->ended && !upload->reply->close);
    upload_unref(upload);
}

void upload_answered(struct upload *upload)
{
    send_answer(upload);
}

void upload_begin(struct upload *upload)
{
    struct request req = {
        .upload = upload,
        .conn = upload->conn,
        .pool = &upload->pool,
        .server = upload->server,
        .reply = upload->reply,
    };
    h2o_buffer_t **input = &conn_sock(upload->conn)->input;

    upload->refs++;
    upload->reply->refs++;
    request_run(&req); /* the head is scanned again: REQ's points into itself */
    if (req.head.size > 0) {
        note_framing(upload, &req.head);
        h2o_buffer_consume(input, req.head.size);
    } else {
        upload->reply->close = true;
    }
    upload->begun = true;
    if (upload->reply->done)
        send_answer(upload);
    else if (upload->waiting)
        start(upload);
    reply_release(upload->reply);
    upload_unref(upload);
}

/* The handler's turn. UPLOAD may be freed on return. */
static void finish(struct upload *upload, const struct err *err)
{
    if (!upload->waiting)
        return;
    upload->waiting = false;
    if (upload->conn != NULL)
        conn_upload_pause(upload->conn);
    upload->done(upload->ctx, err);
}

static void fail(struct upload *upload, int status, const char *words)
{
    struct err err = {0};

    err_set(&err, status == 408 ? ERR_TIMEOUT : ERR_INVALID, "%s", words);
    upload->reply->forced_status = status;
    upload->reply->close = true;
    finish(upload, &err);
}

static void piece_run(struct work *work)
{
    struct upload *upload = container_of(work, struct upload, work);

    upload->rc = upload->write(upload->ctx, upload->piece, upload->piece_len, &upload->err);
}

static void piece_done(struct work *work)
{
    struct upload *upload = container_of(work, struct upload, work);

    upload->working = false;
    if (upload->rc < 0)
        finish(upload, &upload->err);
    else if (upload->conn == NULL)
        fail(upload, 0, "the client has gone");
    else
        upload_readable(upload);
    reply_release(upload->reply);
}

/* Take what there is of the body from INPUT, as much as fits a piece. 0, or -1: it is malformed. */
static int take_piece(struct upload *upload, h2o_buffer_t **input)
{
    size_t n = (*input)->size < PIECE_MAX_BYTES ? (*input)->size : PIECE_MAX_BYTES;
    bool bad = false;
    size_t kept, taken;

    if (upload->framing == HTTP_BODY_CHUNKED) {
        taken = chunked_feed(&upload->chunked, (*input)->bytes, n, &kept, &bad);
        upload->ended = upload->chunked.state == CHUNKED_DONE;
    } else {
        taken = kept = n < upload->left ? n : (size_t)upload->left;
        upload->left -= taken;
        upload->ended = upload->left == 0;
    }
    if (bad)
        return -1;
    if (upload->piece == NULL)
        upload->piece = mem_zalloc(PIECE_MAX_BYTES);
    memcpy(upload->piece, (*input)->bytes, kept);
    upload->piece_len = kept;
    upload->received += kept;
    h2o_buffer_consume(input, taken);
    return 0;
}

static void submit_piece(struct upload *upload)
{
    struct err err = {0};

    conn_upload_pause(upload->conn);
    upload->working = true;
    upload->reply->refs++; /* and so UPLOAD stays */
    if (work_submit(upload->server->config->workers, &upload->work, piece_run, piece_done, &err) ==
        0)
        return;
    upload->working = false;
    finish(upload, &err);
    reply_release(upload->reply);
}

/* The only place that moves an upload on. UPLOAD may be freed on return. */
void upload_readable(struct upload *upload)
{
    h2o_buffer_t **input;

    if (!upload->waiting || upload->working || upload->conn == NULL)
        return;
    input = &conn_sock(upload->conn)->input;
    while (!upload->ended && (*input)->size > 0) {
        if (take_piece(upload, input) < 0) {
            fail(upload, 400, "the chunks of the request body are malformed");
            return;
        }
        if (upload->received > upload->server->config->upload_max_bytes) {
            fail(upload, 413, "the request body is too large");
            return;
        }
        if (upload->piece_len > 0) {
            submit_piece(upload);
            return;
        }
    }
    if (upload->ended)
        finish(upload, NULL);
    else
        conn_upload_read(upload->conn);
}

static void start(struct upload *upload)
{
    bool wanted = upload->continue_wanted && !upload->ended;

    upload->continue_wanted = false;
    if (wanted)
        conn_upload_continue(upload->conn); /* upload_readable follows when it is written */
    else
        upload_readable(upload);
}

void upload_late(struct upload *upload)
{
    fail(upload, 408, "the request did not arrive in time");
}

void upload_conn_gone(struct upload *upload)
{
    upload->conn = NULL;
    if (!upload->working)
        fail(upload, 0, "the client has gone");
    upload_unref(upload);
}

void upload_receive(struct upload *upload, upload_write_fn write, upload_done_fn done, void *ctx)
{
    upload->write = write;
    upload->done = done;
    upload->ctx = ctx;
    upload->waiting = true;
    if (upload->conn == NULL) {
        fail(upload, 0, "the client has gone");
        return;
    }
    if (upload->begun) /* else the handler has not returned yet, and upload_begin goes on */
        start(upload);
}
