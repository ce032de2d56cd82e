/*
 * envd/http.h - a strict HTTP/1.1 server: one request and its answer is a `struct exchange`.
 *
 * Two kinds of handlers (route.h has the table):
 *
 *   loop      runs on the loop thread once the whole, bounded body is there. Never blocks. Answers
 *             with http_reply* before it returns, or later on the loop.
 *   blocking  runs on a worker thread right after the head was read. The connection belongs to
 *             that thread while it runs: it reads the body and writes the answer. A call that has
 *             to wait for the peer returns HTTP_AGAIN; the handler passes that on, the connection
 *             waits on the loop without a thread, and the handler is called again when the peer
 *             has moved. What it wants to remember is its state (http_keep). A peer that does not
 *             move for HTTP_IDLE_TIMEOUT_MS is cut off. What the handler leaves unread of the body
 *             is drained, or the connection closed. When it returns -1 without having begun an
 *             answer, *err is sent.
 *
 * Before any handler: the head is checked (REQUEST_HEAD_MAX_BYTES; refused with 400 and close:
 * Content-Length with Transfer-Encoding, repeated Host or Content-Length, obs-fold, a missing
 * Host), CORS answered, access token or JWT checked, and the Basic or JWT user looked up.
 * Source: RFC 9112; envd-api sections 1, 6, 7.
 */
#ifndef ENVD_HTTP_H
#define ENVD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "envd/config.h"
#include "envd/request_head.h"
#include "envd/user.h"
#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/json.h"

#define HTTP_KEEPALIVE_MS (640 * 1000)
#define HTTP_IDLE_TIMEOUT_MS (300 * 1000) /* a peer that neither sends nor takes anything */

struct exchange;

/* ---- The request. The thread that owns the exchange; borrowed until its end. ---- */

const char *http_method(const struct exchange *ex);
const char *http_path(const struct exchange *ex);  /* as sent, without the query */
const char *http_query(const struct exchange *ex); /* as sent, without '?'; "" when there is none */
/* First header of that lower-case name, outer white space cut; NULL when absent. */
const char *http_header(const struct exchange *ex, const char *name);
/* Walk all headers: start with *AT = 0; false at the end. NAME is in lower case. */
bool http_header_next(const struct exchange *ex, size_t *at, const char **name, const char **value);
/* Content-Length; -1 when chunked; 0 when there is no body. */
int64_t http_body_length(const struct exchange *ex);
/*
 * First query parameter of that (decoded) name, percent-decoded, '+' as space. 1 and *OUT filled
 * (reset first), 0 when absent, -1 with ERR_INVALID (bad escape, NUL, too long for *OUT).
 */
int http_query_param(const struct exchange *ex, const char *name, struct buf *out, struct err *err);
/* The settings this request is served with. */
const struct settings *http_settings(const struct exchange *ex);
/* The request carried a JWT that verified. */
bool http_jwt_valid(const struct exchange *ex);

/* ---- The answer's head: before it begins. ---- */

/* Set (replace) an answer header. NAME is sent as given. -1 for a VALUE with CR, LF or NUL. */
int http_set_header(struct exchange *ex, const char *name, const char *value);
/* The same beside those of that name that are there already. */
int http_add_header(struct exchange *ex, const char *name, const char *value);
/* Close the connection after this answer. */
void http_close_after(struct exchange *ex);
/* The answer's head is out, or on its way. */
bool http_begun(const struct exchange *ex);

/* ---- Loop handlers ---- */

/* The whole body. */
const char *http_body(const struct exchange *ex, size_t *len);
/* Exactly one of these ends the answer; EX may be gone on return. Data is copied. */
void http_reply(struct exchange *ex, int status, const char *content_type, const void *data,
                size_t len);
void http_reply_empty(struct exchange *ex, int status);
void http_reply_json(struct exchange *ex, int status, json_t *json); /* takes the reference */
/* {"code":STATUS,"message":"…"} and a newline, as envd-api section 7 wants errors. */
void http_reply_error(struct exchange *ex, int status, const char *fmt, ...) _printf_(3, 4);
/* The same from an err: its status by error_table.h. Logged once when it is ours (5xx). */
void http_reply_err(struct exchange *ex, const struct err *err);

/* ---- Blocking handlers (worker thread) ---- */

#define HTTP_AGAIN (-2) /* neither done nor failed: return it */

/* Something of ours is used up for the moment: returns HTTP_AGAIN. State: as after http_keep. */
int http_later(struct exchange *ex);

/* What the handler kept at an earlier call of this request; NULL at the first. */
void *http_kept(const struct exchange *ex);
/* Keep STATE to the end of the request, however it ends; DROP then runs on a worker. */
void http_keep(struct exchange *ex, void *state, void (*drop)(void *state));

/*
 * The next bytes of the decoded body (chunked or by length), borrowed until the next call or the
 * handler's return. > 0 bytes at *DATA, 0 at the end of the body, HTTP_AGAIN, -1 with *ERR:
 * ERR_INVALID (bad framing), ERR_INTERNAL with detail (peer gone). Sends "100 Continue" by itself
 * when the client waits for it.
 */
ssize_t http_body_take(struct exchange *ex, const char **data, struct err *err);
/* How many bytes http_body_splice could move: none are in memory, and the length is known. */
uint64_t http_body_spliceable(const struct exchange *ex);
/* The same into the empty pipe PIPE_FD, at most MAX bytes. */
ssize_t http_body_splice(struct exchange *ex, int pipe_fd, size_t max, struct err *err);

/*
 * Status line and headers. LENGTH >= 0: Content-Length, exactly that many bytes must follow.
 * LENGTH -1: chunked. CONTENT_TYPE NULL: none. This and http_write only add to what is to be sent.
 */
int http_begin(struct exchange *ex, int status, const char *content_type, int64_t length,
               struct err *err);
int http_write(struct exchange *ex, const void *data, size_t len, struct err *err);
/* Send what was written. 0, HTTP_AGAIN, -1. A handler that writes much calls it in between. */
int http_flush(struct exchange *ex, struct err *err);
/*
 * *LEN bytes of the file FD from *OFFSET by sendfile(2); both move on. 0, HTTP_AGAIN (call again
 * with the same variables), -1 also when the file got shorter.
 */
int http_send_file(struct exchange *ex, int fd, int64_t *offset, int64_t *len, struct err *err);
/* End of the body. After -1 from any of these the connection is closed, nothing more is sent. */
int http_end(struct exchange *ex, struct err *err);
/* Head, body and end in one call. */
int http_send(struct exchange *ex, int status, const char *content_type, const void *data,
              size_t len, struct err *err);
int http_send_json(struct exchange *ex, int status, json_t *json, struct err *err); /* takes it */
/* {"code":STATUS,"message":"…"}: for an answer whose status is not its err code's one. */
int http_send_error(struct exchange *ex, int status, struct err *err, const char *fmt, ...)
    _printf_(4, 5);

#endif
