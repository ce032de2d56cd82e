#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "envd/transfer.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define SEND_FILE_BYTES (1 << 20) /* at once */

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT, "one is used for the other");

void *http_kept(const struct exchange *ex)
{
    return ex->transfer->state;
}

void http_keep(struct exchange *ex, void *state, void (*drop)(void *state))
{
    ex->transfer->state = state;
    ex->transfer->drop = drop;
}

int http_later(struct exchange *ex)
{
    ex->transfer->wait_events = 0;
    return HTTP_AGAIN;
}

/* The connection is of no use any more. Returns -1. */
static int broken(struct exchange *ex, struct err *err, const char *what)
{
    ex->transfer->broken = true;
    return err_set(err, ERR_INTERNAL, "%s", what);
}

static int broken_sys(struct exchange *ex, struct err *err, int errnum, const char *what)
{
    broken(ex, err, "the client is gone");
    return err_detail(err, "%s: %s", what, strerror(errnum));
}

static int is_gone(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "the client is gone");
}

/* The socket cannot go on. 0: now it can; HTTP_AGAIN: let the loop wait for it. */
static int wait_for(struct exchange *ex, uint32_t events)
{
    struct pollfd pfd = {.fd = ex->conn->io.fd, .events = (short)events};

    ex->transfer->wait_events = events;
    if (pool_waiting(ex->server->files) > 0)
        return HTTP_AGAIN;
    return poll(&pfd, 1, TRANSFER_GRACE_MS) > 0 ? 0 : HTTP_AGAIN;
}

/* Others wait for a thread and this transfer has had one for long: HTTP_AGAIN, else 0. */
static int share(struct exchange *ex, uint32_t events)
{
    struct transfer *transfer = ex->transfer;
    int64_t now = time_mono_ms();

    if (now < transfer->slice_ends_ms)
        return 0;
    transfer->slice_ends_ms = now + TRANSFER_SLICE_MS;
    transfer->wait_events = events;
    return pool_waiting(ex->server->files) > 0 ? HTTP_AGAIN : 0;
}

/* ---- The answer ---- */

/* Send what conn->out holds. FLAGS: MSG_MORE when more follows at once. */
static int flush(struct exchange *ex, int flags, struct err *err)
{
    struct conn *conn = ex->conn;

    if (conn->out.overflow)
        return broken(ex, err, "the answer is too large");
    while (conn_backlog(conn) > 0) {
        ssize_t n = send(conn->io.fd, conn->out.data + conn->out_at, conn_backlog(conn),
                         MSG_NOSIGNAL | flags);

        if (n > 0)
            conn->out_at += (size_t)n;
        else if (n < 0 && errno == EAGAIN) {
            if (wait_for(ex, EPOLLOUT) == HTTP_AGAIN)
                return HTTP_AGAIN;
        } else if (n < 0 && errno != EINTR)
            return broken_sys(ex, err, errno, "send");
    }
    buf_reset(&conn->out);
    conn->out_at = 0;
    return 0;
}

int http_begin(struct exchange *ex, int status, const char *content_type, int64_t length,
               struct err *err)
{
    if (ex->transfer->broken || ex->begun)
        return broken(ex, err, "the answer has already begun");
    answer_head(ex, status, content_type, length);
    return 0; /* the head goes out with the first bytes of the body */
}

int http_write(struct exchange *ex, const void *data, size_t len, struct err *err)
{
    struct conn *conn = ex->conn;

    if (ex->transfer->broken)
        return is_gone(err);
    if (ex->left >= 0 && (uint64_t)ex->left < len)
        return broken(ex, err, "the answer is longer than announced");
    if (ex->left >= 0)
        ex->left -= (int64_t)len;
    if (len == 0)
        return 0;
    if (ex->chunked)
        buf_printf(&conn->out, "%zx\r\n", len);
    buf_add(&conn->out, data, len);
    if (ex->chunked)
        buf_add(&conn->out, "\r\n", 2);
    return 0;
}

int http_flush(struct exchange *ex, struct err *err)
{
    if (ex->transfer->broken)
        return is_gone(err);
    return flush(ex, 0, err);
}

int http_send_file(struct exchange *ex, int fd, int64_t *offset, int64_t *len, struct err *err)
{
    int rc;

    if (ex->transfer->broken || ex->chunked || ex->left < *len)
        return broken(ex, err, "the file does not fit the answer");
    rc = flush(ex, *len > 0 ? MSG_MORE : 0, err);
    while (rc == 0 && *len > 0) {
        size_t want = *len < SEND_FILE_BYTES ? (size_t)*len : SEND_FILE_BYTES;
        ssize_t n = sendfile(ex->conn->io.fd, fd, offset, want);

        if (n > 0) {
            *len -= n;
            ex->left -= n;
            rc = *len > 0 ? share(ex, EPOLLOUT) : 0;
        } else if (n == 0)
            return broken(ex, err, "the file got shorter while it was sent");
        else if (errno == EAGAIN)
            rc = wait_for(ex, EPOLLOUT);
        else if (errno != EINTR)
            return broken_sys(ex, err, errno, "sendfile");
    }
    return rc;
}

int http_end(struct exchange *ex, struct err *err)
{
    if (ex->transfer->broken)
        return is_gone(err);
    if (ex->left > 0)
        return broken(ex, err, "the answer is shorter than announced");
    if (ex->chunked)
        buf_add_str(&ex->conn->out, "0\r\n\r\n");
    ex->ended = true;
    return 0;
}

/* ---- The body ---- */

/* Tell a client that waits for it to send the body. */
static int say_continue(struct exchange *ex, struct err *err)
{
    if (!ex->continued)
        buf_add_str(&ex->conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
    ex->continued = true;
    return conn_backlog(ex->conn) > 0 ? flush(ex, 0, err) : 0;
}

/* After recv or splice returned N <= 0. 0: try again. */
static int receive_failed(struct exchange *ex, ssize_t n, struct err *err)
{
    if (n == 0)
        return broken_sys(ex, err, ECONNRESET, "the body is cut short");
    if (errno == EAGAIN)
        return wait_for(ex, EPOLLIN);
    return errno == EINTR ? 0 : broken_sys(ex, err, errno, "the body cannot be read");
}

/* More of the body into the scratch buffer, which is used up. */
static int fill(struct exchange *ex, struct err *err)
{
    struct transfer *transfer = ex->transfer;
    int rc = say_continue(ex, err);

    if (rc == 0)
        rc = share(ex, EPOLLIN);
    if (rc < 0)
        return rc;
    scratch_get(&transfer->scratch);
    transfer->at = transfer->len = 0;
    while (rc == 0 && transfer->len == 0) {
        size_t want = transfer->scratch.size;
        ssize_t n;

        if (ex->framing.state == BODY_LENGTH && ex->framing.left < want)
            want = (size_t)ex->framing.left;
        n = recv(ex->conn->io.fd, transfer->scratch.data, want, 0);
        if (n > 0)
            transfer->len = (size_t)n;
        else
            rc = receive_failed(ex, n, err);
    }
    return rc;
}

/* What there is to decode: first what was read with the head, then the scratch buffer. */
static enum http_body_step decode(struct exchange *ex, const char **data, size_t *len)
{
    struct transfer *transfer = ex->transfer;
    struct buf *in = &ex->conn->in;
    enum http_body_step step;
    size_t used;

    if (in->len > 0) {
        step = http_body_next(&ex->framing, in->data + transfer->in_used,
                              in->len - transfer->in_used, &used, data, len);
        transfer->in_used += used;
        if (step != HTTP_BODY_MORE)
            return step;
        buf_clear(in);
        transfer->in_used = 0;
    }
    step = http_body_next(&ex->framing, transfer->scratch.data + transfer->at,
                          transfer->len - transfer->at, &used, data, len);
    transfer->at += used;
    return step;
}

ssize_t http_body_take(struct exchange *ex, const char **data, struct err *err)
{
    size_t len = 0;
    int rc;

    if (ex->transfer->broken)
        return is_gone(err);
    for (;;) {
        switch (decode(ex, data, &len)) {
        case HTTP_BODY_DATA:
            return (ssize_t)len;
        case HTTP_BODY_END:
            return 0;
        case HTTP_BODY_BAD:
            ex->head.keep_alive = false;
            return err_set(err, ERR_INVALID, "malformed request body");
        case HTTP_BODY_MORE:
            break;
        }
        rc = fill(ex, err);
        if (rc < 0)
            return rc;
    }
}

uint64_t http_body_spliceable(const struct exchange *ex)
{
    const struct transfer *transfer = ex->transfer;

    if (ex->framing.state != BODY_LENGTH || ex->conn->in.len > transfer->in_used ||
        transfer->at < transfer->len || !ex->continued)
        return 0;
    return ex->framing.left;
}

ssize_t http_body_splice(struct exchange *ex, int pipe_fd, size_t max, struct err *err)
{
    size_t want = ex->framing.left < max ? (size_t)ex->framing.left : max;
    int rc = share(ex, EPOLLIN);

    while (rc == 0) {
        ssize_t n =
            splice(ex->conn->io.fd, NULL, pipe_fd, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

        if (n > 0) {
            ex->framing.left -= (uint64_t)n;
            if (ex->framing.left == 0)
                ex->framing.state = BODY_DONE;
            return n;
        }
        rc = receive_failed(ex, n, err);
    }
    return rc;
}

/* ---- A worker's turn ---- */

/* Give all buffers back; what is beyond this request's body belongs to the next one. */
static void put_back(struct transfer *transfer)
{
    struct buf *in = &transfer->ex->conn->in;

    buf_consume(in, transfer->in_used);
    transfer->in_used = 0;
    if (transfer->at < transfer->len)
        buf_add(in, transfer->scratch.data + transfer->at, transfer->len - transfer->at);
    if (in->len == 0)
        buf_clear(in);
    if (conn_backlog(transfer->ex->conn) == 0)
        buf_clear(&transfer->ex->conn->out);
    transfer->at = transfer->len = 0;
    scratch_put(&transfer->scratch);
}

/* What the handler left: its error as the answer, or a broken answer. */
static void conclude(struct transfer *transfer)
{
    struct exchange *ex = transfer->ex;
    struct err err = {0};
    int status = error_http_status(transfer->err.code);

    if (transfer->broken || (transfer->rc == 0 && ex->ended))
        return;
    if (transfer->rc == 0 && !ex->begun)
        status = error_http_status(ERR_INTERNAL);
    if (status >= 500)
        log_err(LOG_WARN, "request failed", NULL, &transfer->err);
    if (ex->begun)
        transfer->broken = true; /* half an answer must not look complete */
    else
        http_send_error(ex, status, &err, "%s",
                        transfer->rc == 0 ? "no answer" : transfer->err.msg);
}

void transfer_run(struct job *job)
{
    struct transfer *transfer = container_of(job, struct transfer, job);
    struct exchange *ex = transfer->ex;
    struct err err = {0};

    transfer->begun = true;
    if (!transfer->broken) {
        transfer->slice_ends_ms = time_mono_ms() + TRANSFER_SLICE_MS;
        transfer->rc = ex->route->blocking(ex, &transfer->err);
        put_back(transfer);
        if (transfer->rc == HTTP_AGAIN && !transfer->broken)
            return;
        conclude(transfer);
    }
    if (transfer->drop != NULL)
        transfer->drop(transfer->state);
    if (!transfer->broken)
        flush(ex, 0, &err); /* the loop sends what does not fit the socket now */
}
