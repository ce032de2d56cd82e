#include "envd/exchange.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"

#define READ_BYTES ((32 << 10) - 1) /* with a NUL, a power of two */
#define LINGER_MS 5000
#define ACCEPT_RETRY_MS 100
#define ACCEPT_BATCH 64
#define KEEP_BUFFER_BYTES (16 << 10) /* a larger one is freed when it is empty */

static void conn_advance(struct conn *conn);
static void on_io(struct loop_io *io, uint32_t events);

struct exchange *exchange_ref(struct exchange *ex)
{
    ex->refs++;
    return ex;
}

void exchange_unref(struct exchange *ex)
{
    if (--ex->refs > 0)
        return;
    for (size_t i = 0; i < ex->answer_header_count; i++) {
        free(ex->answer_headers[i].name);
        free(ex->answer_headers[i].value);
    }
    request_head_clear(&ex->head);
    settings_unref(ex->settings);
    free(ex->user);
    free(ex->bad_user);
    buf_clear(&ex->body);
    free(ex);
}

static void reap(struct loop_msg *msg)
{
    struct conn *conn = container_of(msg, struct conn, reap);

    buf_clear(&conn->in);
    buf_clear(&conn->out);
    free(conn);
}

/* The client is gone, or is sent away. CONN stays readable until the loop sleeps. */
static void conn_close(struct conn *conn)
{
    struct exchange *ex = conn->ex;

    if (conn->state == CONN_CLOSED)
        return;
    conn->state = CONN_CLOSED;
    loop_remove(conn->server->loop, &conn->io);
    loop_timer_stop(conn->server->loop, &conn->timer);
    fd_close(&conn->io.fd);
    conn->server->connections--;
    conn->ex = NULL;
    if (ex != NULL) {
        ex->conn = NULL;
        if (ex->on_gone != NULL)
            ex->on_gone(ex);
        exchange_unref(ex);
    }
    /* A queued flush comes before this in the same queue. */
    loop_soon(conn->server->loop, &conn->reap, reap);
}

static void on_timeout(struct loop_timer *timer)
{
    conn_close(container_of(timer, struct conn, timer));
}

static void arm(struct conn *conn, int64_t ms)
{
    loop_timer_set(conn->server->loop, &conn->timer, ms, on_timeout);
}

size_t conn_backlog(const struct conn *conn)
{
    return conn->out.len - conn->out_at;
}

/* Watch for what can move this connection on. */
static void watch(struct conn *conn)
{
    bool stalled = conn->ex != NULL && conn->ex->body_paused;
    bool full = conn->in.len >= CONN_IN_MAX || (stalled && conn->in.len > 0);
    uint32_t events = EPOLLRDHUP;

    if (!full && !conn->eof)
        events |= EPOLLIN;
    if (conn->eof)
        events = 0;
    if (conn_backlog(conn) > 0)
        events |= EPOLLOUT;
    loop_set(conn->server->loop, &conn->io, events);
}

static void linger(struct conn *conn)
{
    shutdown(conn->io.fd, SHUT_WR);
    conn->state = CONN_LINGER;
    conn->drained = 0;
    buf_clear(&conn->in);
    arm(conn, LINGER_MS);
}

/* Send what is ready. Returns 0, or -1 when the connection is over. */
static int send_out(struct conn *conn)
{
    while (conn_backlog(conn) > 0) {
        ssize_t n =
            send(conn->io.fd, conn->out.data + conn->out_at, conn_backlog(conn), MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            return -1;
        conn->out_at += (size_t)n;
    }
    if (conn->out.cap > KEEP_BUFFER_BYTES && conn->ex == NULL)
        buf_clear(&conn->out);
    else
        buf_reset(&conn->out);
    conn->out_at = 0;
    return 0;
}

/* Send, tell a held sender, and finish a connection whose last answer is out. */
static void conn_flush(struct conn *conn)
{
    if (conn->state == CONN_CLOSED || conn->state == CONN_WORKER)
        return;
    if (conn->out.overflow || send_out(conn) < 0) {
        conn_close(conn);
        return;
    }
    if (conn->held && conn_backlog(conn) <= CONN_OUT_LOW) {
        conn->held = false;
        if (conn->ex != NULL && conn->ex->on_writable != NULL)
            conn->ex->on_writable(conn->ex);
    }
    if (conn->state == CONN_HEAD && conn->close_after && conn_backlog(conn) == 0) {
        if (conn->eof)
            conn_close(conn);
        else
            linger(conn);
    }
    if (conn->state != CONN_CLOSED)
        watch(conn);
}

static void flush_queued(struct loop_msg *msg)
{
    struct conn *conn = container_of(msg, struct conn, flush);

    conn->flush_queued = false;
    conn_flush(conn);
    if (conn->state == CONN_HEAD || conn->state == CONN_DRAIN)
        conn_advance(conn); /* the next request may have been read already */
}

void conn_flush_soon(struct conn *conn)
{
    if (conn->flush_queued || conn->state == CONN_CLOSED)
        return;
    conn->flush_queued = true;
    loop_soon(conn->server->loop, &conn->flush, flush_queued);
}

void conn_answered(struct conn *conn)
{
    struct exchange *ex = conn->ex;
    bool complete = http_body_done(&ex->framing);

    /* A client that waits for "100 Continue" may or may not send the body now. */
    if (!ex->head.keep_alive || (!complete && !ex->continued))
        conn->close_after = true;
    conn->ex = NULL;
    ex->conn = NULL;
    conn->held = false;
    conn->drained = 0;
    conn->state = complete || conn->close_after ? CONN_HEAD : CONN_DRAIN;
    if (conn->state == CONN_DRAIN) {
        conn->ex = ex; /* its framing says where the body ends */
        ex->on_gone = NULL;
        ex->on_writable = NULL;
        ex->on_body = NULL;
        ex->body_paused = false;
    }
    arm(conn, conn->state == CONN_DRAIN ? LINGER_MS * 6 : HTTP_KEEPALIVE_MS);
    if (conn->state != CONN_DRAIN)
        exchange_unref(ex);
    conn_flush_soon(conn);
}

static void refuse_head(struct conn *conn, const struct err *why)
{
    struct exchange *ex = conn->ex;
    int status = why->code == ERR_LIMIT ? 431 : why->code == ERR_UNSUPPORTED ? 505 : 400;

    ex->head.keep_alive = false;
    ex->continued = true;
    http_body_init(&ex->framing, false, 0);
    http_reply_error(ex, status, "%s", why->msg);
}

/* Returns true when there is more to do. */
static bool step_head(struct conn *conn)
{
    struct err err = {0};
    struct exchange *ex;
    struct request_head head;
    ssize_t used;

    if (conn->close_after)
        return false;
    used = conn->in.len > 0 ? request_head_parse(conn->in.data, conn->in.len, &head, &err) : 0;
    if (used == 0)
        return false;
    ex = mem_zalloc(sizeof(*ex));
    ex->refs = 1;
    ex->conn = conn;
    ex->server = conn->server;
    ex->settings = settings_get();
    buf_init(&ex->body, 0);
    conn->ex = ex;
    conn->state = CONN_HANDLER;
    loop_timer_stop(conn->server->loop, &conn->timer);
    if (used < 0) {
        refuse_head(conn, &err);
        return true;
    }
    buf_consume(&conn->in, (size_t)used);
    ex->head = head;
    ex->continued = !head.expect_continue;
    http_body_init(&ex->framing, head.chunked, head.content_length);
    exchange_dispatch(ex);
    return true;
}

/* One slice of the body to its handler. Returns false when the body is not wanted (answered). */
static void body_slice(struct conn *conn, const char *data, size_t len)
{
    struct exchange *ex = conn->ex;

    if (ex->on_body != NULL) {
        ex->on_body(ex, data, len);
        return;
    }
    if (buf_add(&ex->body, data, len) < 0)
        exchange_too_large(ex);
}

static bool step_body(struct conn *conn)
{
    struct exchange *ex = conn->ex;
    const char *data = NULL;
    size_t used = 0, len = 0;
    enum http_body_step step;

    if (ex->body_paused)
        return false;
    step = http_body_next(&ex->framing, buf_str(&conn->in), conn->in.len, &used, &data, &len);
    if (step == HTTP_BODY_DATA)
        body_slice(conn, data, len); /* DATA points into conn->in */
    buf_consume(&conn->in, used);
    if (step == HTTP_BODY_BAD) {
        ex->head.keep_alive = false;
        if (ex->begun)
            conn_close(conn);
        else
            http_reply_error(ex, 400, "malformed request body");
        return true;
    }
    if (step == HTTP_BODY_END) {
        loop_timer_stop(conn->server->loop, &conn->timer);
        conn->state = CONN_HANDLER;
        exchange_body_done(ex);
    }
    return step != HTTP_BODY_MORE;
}

static bool step_drain(struct conn *conn)
{
    const char *data;
    size_t used = 0, len = 0;
    enum http_body_step step;

    step = http_body_next(&conn->ex->framing, buf_str(&conn->in), conn->in.len, &used, &data, &len);
    buf_consume(&conn->in, used);
    conn->drained += used;
    if (step == HTTP_BODY_MORE && conn->drained <= CONN_DRAIN_MAX)
        return false;
    if (step == HTTP_BODY_DATA && conn->drained <= CONN_DRAIN_MAX)
        return true;
    exchange_unref(conn->ex);
    conn->ex = NULL;
    conn->state = CONN_HEAD;
    conn->close_after = step != HTTP_BODY_END;
    arm(conn, HTTP_KEEPALIVE_MS);
    conn_flush_soon(conn);
    return step == HTTP_BODY_END;
}

static bool step_linger(struct conn *conn)
{
    conn->drained += conn->in.len;
    buf_reset(&conn->in);
    if (conn->drained > CONN_DRAIN_MAX)
        conn_close(conn);
    return false;
}

static bool step(struct conn *conn)
{
    switch (conn->state) {
    case CONN_HEAD:
        return step_head(conn);
    case CONN_BODY:
        return step_body(conn);
    case CONN_DRAIN:
        return step_drain(conn);
    case CONN_LINGER:
        return step_linger(conn);
    default:
        return false;
    }
}

/* Go on with what has been read, as far as it reaches. */
static void conn_advance(struct conn *conn)
{
    conn->advancing = true;
    while (step(conn))
        ;
    conn->advancing = false;
    if (conn->state == CONN_CLOSED || conn->state == CONN_WORKER)
        return;
    if (conn->in.len == 0 && conn->in.cap > KEEP_BUFFER_BYTES)
        buf_clear(&conn->in);
    if (conn->eof && conn->state != CONN_HEAD) {
        conn_close(conn); /* nobody waits for the rest */
        return;
    }
    if (conn->eof && conn_backlog(conn) == 0 && !conn->flush_queued) {
        conn_close(conn);
        return;
    }
    if (conn->eof)
        conn->close_after = true;
    watch(conn);
}

void http_body_resume(struct exchange *ex)
{
    ex->body_paused = false;
    if (ex->conn != NULL && !ex->conn->advancing)
        conn_advance(ex->conn);
}

/* Returns false when the connection is over. */
static bool read_some(struct conn *conn)
{
    size_t room = CONN_IN_MAX - conn->in.len;
    char *to;
    ssize_t n;

    if (room > READ_BYTES)
        room = READ_BYTES;
    to = buf_reserve(&conn->in, room);
    n = recv(conn->io.fd, to, room, 0);
    if (n > 0)
        buf_commit(&conn->in, (size_t)n);
    if (n == 0)
        conn->eof = true;
    return n >= 0 || errno == EINTR || errno == EAGAIN;
}

static void on_io(struct loop_io *io, uint32_t events)
{
    struct conn *conn = container_of(io, struct conn, io);

    if (events & EPOLLERR) {
        conn_close(conn);
        return;
    }
    if (events & EPOLLOUT) {
        conn_flush(conn);
        if (conn->state == CONN_CLOSED)
            return;
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) == 0)
        return;
    if (conn->in.len >= CONN_IN_MAX || (io->events & EPOLLIN) == 0) {
        /* Nothing can be read now, but the client has gone. */
        if (events & (EPOLLRDHUP | EPOLLHUP))
            conn_close(conn);
        return;
    }
    if (!read_some(conn)) {
        conn_close(conn);
        return;
    }
    if (conn->state == CONN_BODY)
        arm(conn, HTTP_IDLE_TIMEOUT_MS);
    conn_advance(conn);
}

/* ---- Blocking handlers ---- */

static void worker_done(struct job *job)
{
    struct exchange *ex = container_of(job, struct exchange, job);
    struct conn *conn = ex->conn;
    struct err err;

    if (ex->broken || loop_add(conn->server->loop, &conn->io, conn->io.fd, EPOLLIN | EPOLLRDHUP,
                               on_io, &err) < 0) {
        conn_close(conn);
        return;
    }
    conn->state = CONN_HANDLER;
    conn_answered(conn);
}

/* Give the connection of EX to a worker. */
static int start_worker(struct exchange *ex, struct err *err)
{
    struct conn *conn = ex->conn;

    loop_remove(conn->server->loop, &conn->io);
    conn->state = CONN_WORKER;
    if (pool_submit(conn->server->files, &ex->job, exchange_run_blocking, worker_done, err) == 0)
        return 0;
    conn->state = CONN_HANDLER;
    if (loop_add(conn->server->loop, &conn->io, conn->io.fd, EPOLLIN | EPOLLRDHUP, on_io, err) < 0)
        conn_close(conn);
    return -1;
}

void conn_start_blocking(struct exchange *ex)
{
    struct err err = {0};

    if (start_worker(ex, &err) < 0 && ex->conn != NULL)
        http_reply_err(ex, &err);
}

void conn_start_body(struct exchange *ex, size_t max)
{
    struct conn *conn = ex->conn;

    buf_init(&ex->body, max);
    conn->state = CONN_BODY;
    arm(conn, HTTP_IDLE_TIMEOUT_MS);
    if (ex->on_body == NULL && !ex->head.chunked && (uint64_t)ex->head.content_length > max) {
        exchange_too_large(ex);
        return;
    }
    if (!ex->continued) {
        buf_add_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
        ex->continued = true;
        conn_flush_soon(conn);
    }
}

/* ---- Accepting ---- */

static void conn_new(struct http_server *server, int fd)
{
    struct conn *conn = mem_zalloc(sizeof(*conn));
    struct err err = {0};
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    conn->server = server;
    buf_init(&conn->in, CONN_IN_MAX);
    buf_init(&conn->out, CONN_OUT_MAX);
    if (loop_add(server->loop, &conn->io, fd, EPOLLIN | EPOLLRDHUP, on_io, &err) < 0) {
        close(fd);
        free(conn);
        return;
    }
    server->connections++;
    arm(conn, HTTP_KEEPALIVE_MS);
}

static void accept_again(struct loop_timer *timer)
{
    struct http_server *server = container_of(timer, struct http_server, accept_again);

    loop_set(server->loop, &server->listener, EPOLLIN);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
    struct http_server *server = container_of(io, struct http_server, listener);

    (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            conn_new(server, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_warn("no descriptor for a connection");
            loop_set(server->loop, io, 0);
            loop_timer_set(server->loop, &server->accept_again, ACCEPT_RETRY_MS, accept_again);
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

struct http_server *http_server_new(struct loop *loop, int fd, struct err *err)
{
    struct http_server *server = mem_zalloc(sizeof(*server));

    server->loop = loop;
    server->files = pool_new(loop, "envd-files", 64, 1024);
    server->disk = pool_new(loop, "envd-disk", 8, 4096);
    if (loop_add(loop, &server->listener, fd, EPOLLIN, on_accept, err) < 0)
        return NULL;
    return server;
}
