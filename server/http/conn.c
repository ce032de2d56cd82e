/*
 * server/http/conn.c - a guard around h2o's HTTP/1 connection.
 *
 * h2o 2.2.5 parses leniently, closes silently on what it cannot parse, times by the wall clock and
 * has one timeout for idle, head and body. So while it waits for a head, its read callback on the
 * socket is replaced by ours: bytes are scanned strictly first, refused with an answer, or passed
 * on by calling h2o's own callback. That one, called with an error, is also how a connection is
 * closed: h2o then frees all it has. docs/internals/http.md tells the whole story.
 *
 * A request that follows another in the same packet (pipelining) is parsed by h2o before the guard
 * is back; the scan in server.c, before any handler, is what it cannot pass.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "server/base/mem.h"
#include "server/http/http_private.h"

#define LINGER_MS 2000 /* for a refused client to read its answer */
#define RETRY_MS 1000  /* a timeout during a write looks again */
#define REFUSAL_HEAD_MAX 4096
/* The kernel's buffer, which h2o empties in one go: it bounds what a client makes us hold. */
#define UPLOAD_RECEIVE_BYTES (1024 * 1024)

enum conn_state {
    CONN_IDLE,    /* between requests, nothing read; guarded */
    CONN_HEAD,    /* part of a head; guarded */
    CONN_BODY,    /* h2o reads a body */
    CONN_UPLOAD,  /* upload.c reads a body, or has it and its handler works */
    CONN_BUSY,    /* a handler works */
    CONN_ANSWER,  /* its answer is written */
    CONN_REFUSED, /* our own answer is written, then the rest of the input is thrown away */
    CONN_CLOSING, /* h2o has let go; on_close comes */
};

struct conn {
    h2o_linklist_t link;
    struct http_server *server;
    h2o_socket_t *sock;
    h2o_socket_cb h2o_read; /* h2o's read callback, replaced while guarded */
    enum conn_state state;
    struct timer timer;
    struct loop_msg resume_msg;
    bool shared; /* the port is not this server's alone */
    bool resume_posted;
    bool closed; /* freed as soon as resume_msg has run */
    struct buf refusal;
    struct upload *upload; /* CONN_UPLOAD */
};

static void on_guarded_read(h2o_socket_t *sock, const char *h2o_err);
static void on_timeout(struct timer *timer);
static void on_input(struct conn *conn);

static void conn_free(struct conn *conn)
{
    buf_clear(&conn->refusal);
    free(conn);
}

static void on_sock_close(void *data)
{
    struct conn *conn = data;

    timer_cancel(&conn->timer);
    h2o_linklist_unlink(&conn->link);
    conn->closed = true;
    if (conn->upload != NULL)
        upload_conn_gone(steal_ptr(&conn->upload));
    if (!conn->resume_posted)
        conn_free(conn);
}

/* h2o frees its connection, then the socket; CONN may be freed on return. */
static void conn_close(struct conn *conn)
{
    conn->state = CONN_CLOSING;
    timer_cancel(&conn->timer);
    conn->h2o_read(conn->sock, h2o_socket_error_closed);
}

static void arm(struct conn *conn, uint64_t after_ms)
{
    timer_arm(conn->server->loop, &conn->timer, (int64_t)after_ms, on_timeout);
}

static void guard(struct conn *conn, enum conn_state state)
{
    conn->state = state;
    conn->sock->_cb.read = on_guarded_read;
}

static void on_discard(h2o_socket_t *sock, const char *h2o_err)
{
    struct conn *conn = sock->on_close.data;

    h2o_buffer_consume(&sock->input, sock->input->size);
    if (h2o_err != NULL)
        conn_close(conn);
}

/*
 * The answer is out. Closing now, with input unread, would make the kernel send a reset that can
 * overtake it; so say that we are done and read on for a moment.
 */
static void on_refusal_written(h2o_socket_t *sock, const char *h2o_err)
{
    struct conn *conn = sock->on_close.data;

    if (h2o_err != NULL) {
        conn_close(conn);
        return;
    }
    if (sock->ssl == NULL)
        shutdown(h2o_socket_get_fd(sock), SHUT_WR);
    h2o_socket_read_start(sock, on_discard);
}

/* CAPTURE as bytes in h2o's place; KEEP: the connection goes on after it. */
static void build_refusal(struct conn *conn, const struct capture *capture, bool keep)
{
    buf_clear(&conn->refusal);
    buf_init(&conn->refusal, REFUSAL_HEAD_MAX + ERROR_BODY_MAX_BYTES);
    buf_printf(&conn->refusal,
               "HTTP/1.1 %d %s\r\nConnection: %s\r\nContent-Length: %zu\r\nServer: sandpit\r\n"
               "content-type: %s\r\nx-request-id: %s\r\n",
               capture->status, status_reason(capture->status), keep ? "keep-alive" : "close",
               capture->body.len, capture->content_type, capture->id);
    for (const struct reply_header *header = capture->headers; header != NULL;
         header = header->next)
        buf_printf(&conn->refusal, "%s: %s\r\n", header->name, header->value);
    buf_add_str(&conn->refusal, "\r\n");
    buf_add(&conn->refusal, buf_str(&capture->body), capture->body.len);
}

/* Answer in h2o's place and end the connection. H2o must be reading, not writing. */
static void refuse(struct conn *conn, int status, const struct err *err)
{
    struct capture capture;
    h2o_iovec_t out;

    capture_err(conn->server, &capture, status, err);
    capture_account(conn->server, &capture, err);
    build_refusal(conn, &capture, false);
    capture_clear(&capture);
    conn->state = CONN_REFUSED;
    h2o_socket_read_stop(conn->sock);
    arm(conn, LINGER_MS);
    out = h2o_iovec_init(conn->refusal.data, conn->refusal.len);
    h2o_socket_write(conn->sock, &out, 1, on_refusal_written);
}

/* A client may use a connection for every name of its certificate (RFC 9110 section 15.5.20). */
int conn_check_addressee(const struct conn *conn, const struct http_head *head, struct err *err)
{
    const struct http_config *config = conn->server->config;

    if (!conn->shared || config->serves == NULL || config->serves(config->ctx, head))
        return 0;
    return err_set(err, ERR_INVALID, "this connection is for the API; open another for that host");
}

static int check_sizes(const struct conn *conn, const struct http_head *head, int *status,
                       struct err *err)
{
    const struct http_config *config = conn->server->config;
    uint64_t max =
        upload_wanted(conn->server, head) ? config->upload_max_bytes : config->body_max_bytes;

    if (head->size > HEAD_MAX_BYTES) {
        *status = 431;
        return err_set(err, ERR_INVALID, "the request head is larger than %d bytes",
                       HEAD_MAX_BYTES);
    }
    if (head->framing == HTTP_BODY_LENGTH && head->content_length > max) {
        *status = 413;
        return err_set(err, ERR_INVALID, "the request body is larger than %llu bytes",
                       (unsigned long long)max);
    }
    return 0;
}

/* Before anything is said about a body that is not ours. */
static int check_scanned(const struct conn *conn, const struct http_head *head, int *status,
                         struct err *err)
{
    if (conn_check_addressee(conn, head, err) == 0)
        return check_sizes(conn, head, status, err);
    *status = 421;
    return -1;
}

/*
 * Scan what is there. 0: a complete head that h2o may have, unless *UPLOAD; 1: more is needed; -1:
 * refused.
 */
static int check_head(struct conn *conn, bool *upload)
{
    const h2o_buffer_t *input = conn->sock->input;
    struct http_head head;
    struct err err = {0};
    int status = 400;
    int rc = http_head_scan(input->bytes, input->size, &head, &err);

    if (rc == 1) {
        if (input->size <= HEAD_MAX_BYTES)
            return 1;
        head.size = input->size;
        head.framing = HTTP_BODY_NONE;
        rc = check_sizes(conn, &head, &status, &err);
    } else if (rc == 0) {
        rc = check_scanned(conn, &head, &status, &err);
    } else if (err.code == ERR_LIMIT) {
        status = 431;
    }
    *upload = rc == 0 && upload_wanted(conn->server, &head);
    if (rc < 0)
        refuse(conn, status, &err);
    return rc;
}

/* --- uploads --------------------------------------------------------------------------------- */

static void begin_upload(struct conn *conn)
{
    int room = UPLOAD_RECEIVE_BYTES;

    conn->state = CONN_UPLOAD;
    conn_upload_pause(conn);
    /* only fails on sockets that are not TCP */
    (void)!setsockopt(h2o_socket_get_fd(conn->sock), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    conn->upload = upload_new(conn->server, conn);
    upload_begin(conn->upload);
}

h2o_socket_t *conn_sock(const struct conn *conn)
{
    return conn->sock;
}

static void on_upload_read(h2o_socket_t *sock, const char *h2o_err)
{
    struct conn *conn = sock->on_close.data;

    if (h2o_err != NULL)
        conn_close(conn);
    else
        upload_readable(conn->upload);
}

void conn_upload_read(struct conn *conn)
{
    arm(conn, conn->server->config->request_timeout_ms);
    h2o_socket_read_start(conn->sock, on_upload_read);
}

void conn_upload_pause(struct conn *conn)
{
    timer_cancel(&conn->timer);
    h2o_socket_read_stop(conn->sock);
}

static void on_continued(h2o_socket_t *sock, const char *h2o_err)
{
    struct conn *conn = sock->on_close.data;

    if (h2o_err != NULL)
        conn_close(conn);
    else if (conn->upload != NULL)
        upload_readable(conn->upload);
}

void conn_upload_continue(struct conn *conn)
{
    h2o_iovec_t out = h2o_iovec_init(H2O_STRLIT("HTTP/1.1 100 Continue\r\n\r\n"));

    h2o_socket_write(conn->sock, &out, 1, on_continued);
}

/* The next request may be there already. */
static void on_upload_answered(h2o_socket_t *sock, const char *h2o_err)
{
    struct conn *conn = sock->on_close.data;

    if (h2o_err != NULL || conn->server->draining) {
        conn_close(conn);
        return;
    }
    arm(conn, conn->server->config->idle_timeout_ms);
    h2o_socket_read_start(sock, on_guarded_read);
    conn->state = CONN_IDLE;
    if (sock->input->size > 0)
        on_input(conn);
}

void conn_upload_answer(struct conn *conn, struct capture *capture, bool keep)
{
    h2o_iovec_t out;

    conn->upload = NULL;
    conn_upload_pause(conn);
    keep = keep && !conn->server->draining;
    build_refusal(conn, capture, keep);
    conn->state = keep ? CONN_ANSWER : CONN_REFUSED;
    arm(conn, keep ? conn->server->config->idle_timeout_ms : LINGER_MS);
    out = h2o_iovec_init(conn->refusal.data, conn->refusal.len);
    h2o_socket_write(conn->sock, &out, 1, keep ? on_upload_answered : on_refusal_written);
}

/* Input came while h2o waits for a head. CONN may be freed on return. */
static void on_input(struct conn *conn)
{
    bool upload;
    int rc;

    if (conn->state == CONN_IDLE)
        arm(conn, conn->server->config->request_timeout_ms);
    rc = check_head(conn, &upload);
    if (rc < 0)
        return;
    if (rc == 1) {
        guard(conn, CONN_HEAD);
        return;
    }
    if (upload) {
        begin_upload(conn);
        return;
    }
    conn->state = CONN_BODY;
    conn->sock->_cb.read = conn->h2o_read;
    conn->h2o_read(conn->sock, NULL);
}

static void on_guarded_read(h2o_socket_t *sock, const char *h2o_err)
{
    struct conn *conn = sock->on_close.data;

    if (h2o_err != NULL)
        conn_close(conn);
    else if (sock->input->size > 0)
        on_input(conn);
}

static void on_timeout(struct timer *timer)
{
    struct conn *conn = container_of(timer, struct conn, timer);
    struct err err = {0};

    if (h2o_socket_is_writing(conn->sock) && conn->state == CONN_BODY) {
        arm(conn, RETRY_MS); /* "100 Continue" or an error of h2o's own is on its way */
    } else if (conn->state == CONN_UPLOAD) {
        upload_late(conn->upload);
    } else if (conn->state == CONN_HEAD || conn->state == CONN_BODY) {
        err_set(&err, ERR_TIMEOUT, "the request did not arrive in time");
        refuse(conn, 408, &err);
    } else {
        conn_close(conn);
    }
}

/* h2o waits for the next head, unless that came with the request before it. */
static void wait_for_head(struct conn *conn)
{
    const h2o_buffer_t *input = conn->sock->input;

    if (input->size == 0 && conn->server->draining) {
        conn_close(conn);
    } else if (input->size == 0) {
        arm(conn, conn->server->config->idle_timeout_ms);
        guard(conn, CONN_IDLE);
    } else {
        bool upload; /* no: h2o has its head, and reads its body, to the smaller limit */
        int rc;

        arm(conn, conn->server->config->request_timeout_ms);
        rc = check_head(conn, &upload);
        if (rc == 1)
            guard(conn, CONN_HEAD);
        else if (rc == 0)
            conn->state = CONN_BODY; /* h2o has parsed this head already */
    }
}

static void on_resume_msg(struct loop_msg *msg)
{
    struct conn *conn = container_of(msg, struct conn, resume_msg);

    conn->resume_posted = false;
    if (conn->closed)
        conn_free(conn);
    else if (conn->sock->_cb.read == conn->h2o_read)
        wait_for_head(conn);
    /* else h2o already answers the next request, or writes an error of its own and closes */
}

/*
 * Give SOCK to h2o with its input put aside, so that h2o starts to read but parses nothing before
 * the guard has looked.
 */
static void start_h2o(struct http_server *server, struct conn *conn)
{
    h2o_socket_t *sock = conn->sock;
    h2o_buffer_t *input = sock->input;
    struct timeval now;

    gettimeofday(&now, NULL);
    h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
    h2o_http1_accept(&server->accept_ctx, sock, now);
    h2o_buffer_dispose(&sock->input);
    sock->input = input;
    conn->h2o_read = sock->_cb.read;
}

void conn_new(struct http_server *server, h2o_socket_t *sock, bool shared)
{
    struct conn *conn = mem_zalloc(sizeof(*conn));

    conn->server = server;
    conn->sock = sock;
    conn->shared = shared;
    conn->resume_msg.run = on_resume_msg;
    sock->on_close.cb = on_sock_close;
    sock->on_close.data = conn;
    h2o_linklist_insert(&server->conns, &conn->link);
    start_h2o(server, conn);
    guard(conn, CONN_IDLE);
    arm(conn, server->config->idle_timeout_ms);
    if (sock->input->size > 0)
        on_input(conn);
}

struct conn *conn_of(h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
}

void conn_request_began(struct conn *conn)
{
    timer_cancel(&conn->timer);
    conn->state = CONN_BUSY;
}

void conn_answering(struct conn *conn)
{
    conn->state = CONN_ANSWER;
    arm(conn, conn->server->config->idle_timeout_ms);
}

void conn_request_ended(struct conn *conn)
{
    timer_cancel(&conn->timer);
    /* h2o is about to read again, or to close; whichever, it has done it when the post runs. */
    if (conn->resume_posted || conn->server->freeing || conn->state == CONN_CLOSING)
        return;
    conn->resume_posted = true;
    loop_post(conn->server->loop, &conn->resume_msg);
}

void conn_close_all(struct http_server *server, bool all)
{
    h2o_linklist_t *node = server->conns.next;

    while (node != &server->conns) {
        struct conn *conn = H2O_STRUCT_FROM_MEMBER(struct conn, link, node);

        node = node->next;
        if (all ? conn->state != CONN_CLOSING : conn->state == CONN_IDLE)
            conn_close(conn);
    }
}

size_t conn_count_arriving(const struct http_server *server)
{
    size_t count = 0;

    for (const h2o_linklist_t *node = server->conns.next; node != &server->conns;
         node = node->next) {
        const struct conn *conn = H2O_STRUCT_FROM_MEMBER(struct conn, link, node);

        count += conn->state == CONN_HEAD || conn->state == CONN_BODY;
    }
    return count;
}
