/*
 * envd/conn.h - how the files of the HTTP server share a connection. For http_*.c only.
 *
 *   http_listen.c   accepting
 *   http_conn.c     the life of a connection: descriptor, timer, close; what it waits for
 *   http_receive.c  what the bytes that came mean: head, body, drain, linger
 *   http_send.c     bytes on their way out, and the end of an answer
 *   http_buffers.c  memory for both directions, lent while there is something to move
 *   http_budget.c   bounds for what unfinished requests hold
 *   http_worker.c   a connection given to a worker thread and taken back
 *   http_handover.c connections for the envd that replaces this one, and from the one before
 *
 * Loop thread. Every event ends in conn_advance (bytes came) or conn_flush (bytes may go).
 */
#ifndef ENVD_CONN_H
#define ENVD_CONN_H

#include "envd/exchange.h"

#define CONN_LINGER_MS 5000
#define CONN_HEAD_MS (60 * 1000) /* from its first byte to its last */
#define CONN_DRAIN_MS (6 * CONN_LINGER_MS)

/* ---- http_listen.c ---- */

/* A connection on FD, which is closed on failure. No timer is set. */
struct conn *conn_new(struct http_server *server, int fd, struct err *err);

/* ---- http_conn.c ---- */

/* The client is gone, or is sent away. CONN stays readable until the loop sleeps. */
void conn_close(struct conn *conn);
/* Close it in MS milliseconds; replaces an earlier setting. */
void conn_arm(struct conn *conn, int64_t ms);
/* Watch for what can move this connection on. */
void conn_watch(struct conn *conn);
/* Go on with what has been read, as far as it reaches. */
void conn_advance(struct conn *conn);
/* The loop's callback. */
void conn_on_io(struct loop_io *io, uint32_t events);

/* ---- http_receive.c ---- */

/* One step of what conn->in holds. True when there is more to do. */
bool conn_step(struct conn *conn);

/* ---- http_budget.c ---- */

/* What CONN keeps unread has changed: over the bound, the oldest unfinished heads are closed. */
void budget_read_ahead(struct conn *conn);
/* It keeps nothing any more. */
void budget_forget(struct conn *conn);

/* ---- http_buffers.c ---- */

void conn_buffers_init(struct http_server *server);
/* Memory before reading into conn->in; conn_out_borrow is its like. */
void conn_in_borrow(struct conn *conn);
/* What is not needed now goes back: an idle connection has no buffers. */
void conn_in_settle(struct conn *conn);
/* The same when all of conn->out has been sent. */
void conn_out_settle(struct conn *conn);

/* ---- http_send.c ---- */

/* It is closed: nothing of it waits any more. */
void conn_uncount(struct conn *conn);
/* Send, tell a held sender, and finish a connection whose last answer is out. */
void conn_flush(struct conn *conn);

#endif
