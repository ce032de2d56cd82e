#include "envd/conn.h"
#include "envd/rpc_call.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define READ_AHEAD_BYTES (512 << 10) /* of heads that are not complete, and bodies that wait */
#define OWED_BYTES (256 << 10)       /* that came before it was known that they must wait */
#define LOOK_MS 500                  /* while somebody waits */
#define HOLDER_IDLE_MS 2000          /* who holds memory and sends nothing while others wait */
#define WAITER_IDLE_MS (10 * 1000)   /* who waits for memory */

/* What all may hold for one of BYTES to be granted: small ones seldom wait for large ones. */
static size_t limit_for(size_t bytes)
{
    size_t extra = bytes <= (4 << 10) ? 768 << 10 : bytes <= (16 << 10) ? 512 << 10 : 0;

    return HTTP_BODIES_BYTES + extra;
}

/* 503 or resource_exhausted; the connection closes after it. */
static void refuse(struct conn *conn)
{
    struct exchange *ex = exchange_ref(conn->ex);

    ex->head.keep_alive = false;
    if (ex->route != NULL && ex->route->rpc != NULL)
        rpc_body_starved(ex);
    else
        http_reply_error(ex, 503, HTTP_STARVED_TEXT);
    exchange_unref(ex);
}

static bool is_waiting(const struct conn *conn)
{
    return conn->state == CONN_BODY && conn->ex->wanted > 0;
}

static void stop_waiting(struct exchange *ex)
{
    ex->server->owed -= ex->owed;
    ex->owed = 0;
    ex->wanted = 0;
}

static bool grant(struct exchange *ex, size_t bytes)
{
    struct http_server *server = ex->server;

    if (server->bodies > ex->reserved && server->bodies - ex->reserved + bytes > limit_for(bytes))
        return false;
    server->bodies += bytes - ex->reserved;
    ex->reserved = bytes;
    stop_waiting(ex);
    return true;
}

/* Those who wait get what is free now. */
static void admit(struct loop_msg *msg)
{
    struct http_server *server = container_of(msg, struct http_server, admit);
    struct conn *conn, *next;

    server->admit_queued = false;
    for (conn = server->conns; conn != NULL; conn = next) {
        next = conn->next;
        if (!is_waiting(conn) || !grant(conn->ex, conn->ex->wanted))
            continue;
        conn_arm(conn, server->idle_timeout_ms);
        conn_advance(conn);
    }
}

/* How long the client of a body has sent nothing: its timer is set again by every byte. */
static int64_t idle_ms(const struct conn *conn)
{
    return time_mono_ms() - (conn->timer.due_mono_ms - conn->server->idle_timeout_ms);
}

/* Somebody waits: who holds memory and makes no progress must give it up. */
static void look(struct loop_timer *timer)
{
    struct http_server *server = container_of(timer, struct http_server, hunger);
    struct conn *conn, *next;
    bool waiting = false;
    int64_t limit_ms;

    for (conn = server->conns; conn != NULL; conn = next) {
        next = conn->next;
        if (conn->state != CONN_BODY || conn->ex->body_paused)
            continue; /* our own handler holds that client back */
        limit_ms = conn->ex->reserved > 0 ? HOLDER_IDLE_MS : WAITER_IDLE_MS;
        if (conn->ex->reserved + conn->ex->wanted > 0 && idle_ms(conn) >= limit_ms)
            refuse(conn);
        else
            waiting |= is_waiting(conn);
    }
    if (waiting)
        loop_timer_set(server->loop, timer, LOOK_MS, look);
}

void budget_take(struct exchange *ex, size_t bytes, bool held)
{
    struct http_server *server = ex->server;

    if (ex->route->rpc == NULL && ex->body.max > HTTP_BODIES_BYTES)
        return; /* the platform's own: the program of an upgrade */
    if (bytes > HTTP_BODIES_BYTES)
        bytes = HTTP_BODIES_BYTES;
    if (bytes <= ex->reserved || grant(ex, bytes))
        return;
    stop_waiting(ex);
    ex->wanted = bytes;
    ex->owed = held ? bytes - ex->reserved : 0;
    server->owed += ex->owed;
    if (server->hunger.slot == 0)
        loop_timer_set(server->loop, &server->hunger, LOOK_MS, look);
    if (ex->owed > 0 && server->owed > OWED_BYTES)
        refuse(ex->conn);
}

void budget_release(struct exchange *ex)
{
    struct http_server *server = ex->server;

    stop_waiting(ex);
    if (ex->reserved == 0)
        return;
    server->bodies -= ex->reserved;
    ex->reserved = 0;
    if (server->hunger.slot > 0 && !server->admit_queued) {
        server->admit_queued = true;
        loop_soon(server->loop, &server->admit, admit);
    }
}

/* ---- Read ahead ---- */

/* The request whose head is the longest in coming, or NULL. */
static struct conn *oldest_head(struct http_server *server)
{
    struct conn *found = NULL;

    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->in_head && (found == NULL || conn->timer.due_mono_ms < found->timer.due_mono_ms))
            found = conn;
    }
    return found;
}

void budget_read_ahead(struct conn *conn)
{
    struct http_server *server = conn->server;
    struct conn *victim;

    server->read_ahead += conn->in.cap - conn->kept;
    conn->kept = conn->in.cap;
    if (conn->kept == 0)
        return;
    while (server->read_ahead > READ_AHEAD_BYTES && (victim = oldest_head(server)) != NULL)
        conn_close(victim);
    if (server->read_ahead <= READ_AHEAD_BYTES || conn->state == CONN_CLOSED)
        return;
    if (is_waiting(conn))
        refuse(conn);
    else if (conn->state == CONN_HANDLER)
        conn_close(conn); /* requests behind one that is not answered yet */
}

void budget_forget(struct conn *conn)
{
    conn->server->read_ahead -= conn->kept;
    conn->kept = 0;
}
