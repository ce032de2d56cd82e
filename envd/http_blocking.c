#include "envd/exchange.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/mem.h"

#define READ_BYTES ((32 << 10) - 1)
#define SEND_FILE_BYTES (1 << 20) /* at once */
#define GATHER_BYTES (64 << 10)   /* smaller writes are gathered with the head */

/* The connection is of no use any more. Returns -1. */
static int broken(struct exchange *ex, struct err *err, enum err_code code, const char *what)
{
    ex->broken = true;
    return err_set(err, code, "%s", what);
}

static int broken_sys(struct exchange *ex, struct err *err, int errnum, const char *what)
{
    ex->broken = true;
    err_set(err, ERR_INTERNAL, "the client is gone");
    return err_detail(err, "%s: %s", what, strerror(errnum));
}

/* Wait until the socket can be read (POLLIN) or written (POLLOUT). */
static int wait_for(struct exchange *ex, short events, struct err *err)
{
    struct pollfd pfd = {.fd = ex->conn->io.fd, .events = events};
    int n;

    do {
        n = poll(&pfd, 1, HTTP_IDLE_TIMEOUT_MS);
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        return broken(ex, err, ERR_TIMEOUT, "the client was idle for too long");
    if (n < 0)
        return broken_sys(ex, err, errno, "poll");
    return 0;
}

/* Send what conn->out holds. FLAGS: MSG_MORE when more follows at once. */
static int flush(struct exchange *ex, int flags, struct err *err)
{
    struct conn *conn = ex->conn;

    if (conn->out.overflow)
        return broken(ex, err, ERR_INTERNAL, "the answer is too large");
    while (conn_backlog(conn) > 0) {
        ssize_t n = send(conn->io.fd, conn->out.data + conn->out_at, conn_backlog(conn),
                         MSG_NOSIGNAL | flags);

        if (n > 0)
            conn->out_at += (size_t)n;
        else if (n < 0 && errno == EAGAIN) {
            if (wait_for(ex, POLLOUT, err) < 0)
                return -1;
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
    if (ex->broken || ex->begun)
        return broken(ex, err, ERR_INTERNAL, "the answer has already begun");
    answer_head(ex, status, content_type, length);
    return 0; /* the head goes out with the first bytes of the body */
}

int http_write(struct exchange *ex, const void *data, size_t len, struct err *err)
{
    struct conn *conn = ex->conn;

    if (ex->broken)
        return err_set(err, ERR_INTERNAL, "the client is gone");
    if (ex->left >= 0 && (uint64_t)ex->left < len)
        return broken(ex, err, ERR_INTERNAL, "the answer is longer than announced");
    if (ex->left >= 0)
        ex->left -= (int64_t)len;
    if (len == 0)
        return 0;
    if (ex->chunked)
        buf_printf(&conn->out, "%zx\r\n", len);
    buf_add(&conn->out, data, len);
    if (ex->chunked)
        buf_add(&conn->out, "\r\n", 2);
    return conn_backlog(conn) >= GATHER_BYTES ? flush(ex, 0, err) : 0;
}

int http_send_file(struct exchange *ex, int fd, int64_t offset, int64_t len, struct err *err)
{
    off_t at = offset;

    if (ex->broken || ex->chunked || ex->left < len)
        return broken(ex, err, ERR_INTERNAL, "the file does not fit the answer");
    if (flush(ex, len > 0 ? MSG_MORE : 0, err) < 0)
        return -1;
    ex->left -= len;
    while (len > 0) {
        size_t want = len < SEND_FILE_BYTES ? (size_t)len : SEND_FILE_BYTES;
        ssize_t n = sendfile(ex->conn->io.fd, fd, &at, want);

        if (n > 0)
            len -= n;
        else if (n == 0)
            return broken(ex, err, ERR_INTERNAL, "the file got shorter while it was sent");
        else if (errno == EAGAIN) {
            if (wait_for(ex, POLLOUT, err) < 0)
                return -1;
        } else if (errno != EINTR)
            return broken_sys(ex, err, errno, "sendfile");
    }
    return 0;
}

int http_end(struct exchange *ex, struct err *err)
{
    if (ex->broken)
        return err_set(err, ERR_INTERNAL, "the client is gone");
    if (ex->left > 0)
        return broken(ex, err, ERR_INTERNAL, "the answer is shorter than announced");
    if (ex->chunked)
        buf_add_str(&ex->conn->out, "0\r\n\r\n");
    ex->ended = true;
    return flush(ex, 0, err);
}

/* More bytes of the body into conn->in. */
static int fill(struct exchange *ex, struct err *err)
{
    struct conn *conn = ex->conn;

    if (!ex->continued) {
        buf_add_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
        ex->continued = true;
        if (flush(ex, 0, err) < 0)
            return -1;
    }
    for (;;) {
        ssize_t n = recv(conn->io.fd, buf_reserve(&conn->in, READ_BYTES), READ_BYTES, 0);

        if (n > 0) {
            buf_commit(&conn->in, (size_t)n);
            return 0;
        }
        if (n == 0)
            return broken_sys(ex, err, ECONNRESET, "the body is cut short");
        if (errno == EAGAIN) {
            if (wait_for(ex, POLLIN, err) < 0)
                return -1;
        } else if (errno != EINTR) {
            return broken_sys(ex, err, errno, "recv");
        }
    }
}

/* A counted body straight into the caller's memory. */
static ssize_t read_direct(struct exchange *ex, void *data, size_t len, struct err *err)
{
    if (len > ex->framing.left)
        len = (size_t)ex->framing.left;
    for (;;) {
        ssize_t n = recv(ex->conn->io.fd, data, len, 0);

        if (n > 0) {
            ex->framing.left -= (uint64_t)n;
            if (ex->framing.left == 0)
                ex->framing.state = BODY_DONE;
            return n;
        }
        if (n == 0)
            return broken_sys(ex, err, ECONNRESET, "the body is cut short");
        if (errno == EAGAIN) {
            if (wait_for(ex, POLLIN, err) < 0)
                return -1;
        } else if (errno != EINTR) {
            return broken_sys(ex, err, errno, "recv");
        }
    }
}

/* The next slice, at most LEN bytes: bounding what http_body_next sees keeps the rest in place. */
static ssize_t next_slice(struct exchange *ex, void *data, size_t len, struct err *err)
{
    struct buf *in = &ex->conn->in;

    for (;;) {
        size_t used = 0, slice_len = 0, look = in->len < len ? in->len : len;
        const char *slice;
        enum http_body_step step =
            http_body_next(&ex->framing, buf_str(in), look, &used, &slice, &slice_len);

        if (step == HTTP_BODY_DATA)
            memcpy(data, slice, slice_len);
        buf_consume(in, used);
        if (step == HTTP_BODY_DATA)
            return (ssize_t)slice_len;
        if (step == HTTP_BODY_END)
            return 0;
        if (step == HTTP_BODY_BAD) {
            ex->head.keep_alive = false;
            return err_set(err, ERR_INVALID, "malformed request body");
        }
        if (in->len == 0 && fill(ex, err) < 0)
            return -1;
    }
}

ssize_t http_body_read(struct exchange *ex, void *data, size_t len, struct err *err)
{
    if (ex->broken)
        return err_set(err, ERR_INTERNAL, "the client is gone");
    if (len == 0 || http_body_done(&ex->framing))
        return 0;
    if (ex->framing.state == BODY_LENGTH && ex->conn->in.len == 0 && ex->continued)
        return read_direct(ex, data, len, err);
    return next_slice(ex, data, len, err);
}

/* What the handler left: its error as the answer, or a broken answer. */
static void conclude(struct exchange *ex, int rc, struct err *err)
{
    struct err ignored = {0};
    int status = error_http_status(err->code);

    if (rc < 0 && ex->broken)
        return;
    if (rc == 0 && ex->ended)
        return;
    if (rc == 0 && !ex->begun)
        err_set(err, ERR_INTERNAL, "no answer");
    if (status >= 500)
        log_err(LOG_WARN, "request failed", NULL, err);
    if (ex->begun && !ex->ended)
        ex->broken = true; /* half an answer must not look complete */
    else if (!ex->begun)
        http_send_error(ex, error_http_status(err->code), &ignored, "%s", err->msg);
}

void exchange_run_blocking(struct job *job)
{
    struct blocking *blocking = container_of(job, struct blocking, job);
    struct exchange *ex = blocking->ex;

    blocking->rc = ex->route->blocking(ex, &blocking->err);
    conclude(ex, blocking->rc, &blocking->err);
}
