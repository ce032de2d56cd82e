#include "server/engine/local/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/engine/local/stock.h"

#define BUCKETS 256 /* a power of two */
#define SWEEP_MS 1000

/* Something asked and not yet answered. */
struct call {
    uint64_t serial;
    struct call *next; /* in its bucket */
    /* FDS (-1 where there is none) are the callee's. */
    void (*answered)(struct client *client, struct call *call, const struct launcher_reply *reply,
                     int fds[PACKET_FDS_MAX], const struct err *err);
    client_item_fn item;
    void *item_ctx;
};

/* A request that the socket had no room for. */
struct outgoing {
    struct launcher_request request;
    int fd; /* borrowed from a caller who waits */
    struct outgoing *next;
};

struct client {
    struct engine *engine;
    pthread_t thread;
    int sock;
    int wake; /* eventfd: there is something to send, or to stop for */
    struct stock stock;
    bool stocked; /* reader thread: the stock wants to be looked at from time to time */
    int64_t swept_mono_ms;
    pthread_mutex_t lock;
    /* under the lock */
    struct call *buckets[BUCKETS];
    struct outgoing *queue, **queue_tail;
    uint64_t serial;
    bool stop;
    bool dead; /* the launcher is gone */
};

static int refuse_dead(struct err *err)
{
    return err_set(err, ERR_INTERNAL,
                   "the launcher process has ended: restart sandpit (its sandboxes stay)");
}

/* Lock held. Take the call of SERIAL out of the table. */
static struct call *take(struct client *client, uint64_t serial)
{
    for (struct call **at = &client->buckets[serial % BUCKETS]; *at != NULL; at = &(*at)->next) {
        struct call *call = *at;
        if (call->serial != serial)
            continue;
        *at = call->next;
        return call;
    }
    return NULL;
}

static struct call *take_any(struct client *client)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        if (client->buckets[i] != NULL)
            return take(client, client->buckets[i]->serial);
    }
    return NULL;
}

static void wake(struct client *client)
{
    uint64_t one = 1;

    if (write(client->wake, &one, sizeof(one)) < 0)
        return; /* the counter is full: the reader will wake anyway */
}

/* Register CALL and send REQUEST with FD. Returns 0 or -1: CALL is not registered then. */
static int submit(struct client *client, struct call *call, struct launcher_request *request,
                  int fd, struct err *err)
{
    int rc = 0;

    request->magic = LAUNCHER_MAGIC;
    pthread_mutex_lock(&client->lock);
    if (client->dead || client->stop) {
        pthread_mutex_unlock(&client->lock);
        return refuse_dead(err);
    }
    call->serial = request->serial = ++client->serial;
    call->next = client->buckets[call->serial % BUCKETS];
    client->buckets[call->serial % BUCKETS] = call;
    if (client->queue == NULL)
        rc = packet_send(client->sock, request, sizeof(*request), &fd, fd >= 0 ? 1 : 0,
                         MSG_DONTWAIT);
    if (client->queue != NULL || (rc < 0 && (errno == EAGAIN || errno == ENOBUFS))) {
        struct outgoing *out = mem_zalloc(sizeof(*out));
        out->request = *request;
        out->fd = fd;
        *client->queue_tail = out;
        client->queue_tail = &out->next;
        wake(client);
    }
    /* Any other failure means a closed socket: the reader sees that too and fails the call. */
    pthread_mutex_unlock(&client->lock);
    return 0;
}

/* Lock held. Send what waits, as far as the socket takes it. */
static void flush_queue(struct client *client)
{
    while (client->queue != NULL) {
        struct outgoing *out = client->queue;
        if (packet_send(client->sock, &out->request, sizeof(out->request), &out->fd,
                        out->fd >= 0 ? 1 : 0, MSG_DONTWAIT) < 0 &&
            (errno == EAGAIN || errno == ENOBUFS))
            return;
        client->queue = out->next;
        if (client->queue == NULL)
            client->queue_tail = &client->queue;
        free(out);
    }
}

static void drop_queue(struct client *client)
{
    while (client->queue != NULL) {
        struct outgoing *out = client->queue;
        client->queue = out->next;
        free(out);
    }
    client->queue_tail = &client->queue;
}

static void close_all(int fds[PACKET_FDS_MAX])
{
    for (int i = 0; i < PACKET_FDS_MAX; i++)
        fd_close(&fds[i]);
}

/* One packet from the launcher; FDS are what came with it. */
static void handle(struct client *client, const struct launcher_reply *reply,
                   int fds[PACKET_FDS_MAX])
{
    struct call *call = NULL;
    struct err err = {0};

    if (reply->event == LAUNCHER_EXIT) {
        stock_drop(&client->stock, reply->id);
        if (client->engine->on_exit != NULL)
            client->engine->on_exit(client->engine->on_exit_ctx, reply->id);
        close_all(fds);
        return;
    }
    pthread_mutex_lock(&client->lock);
    if (reply->event == LAUNCHER_ITEM) {
        for (call = client->buckets[reply->serial % BUCKETS];
             call != NULL && call->serial != reply->serial; call = call->next)
            continue;
    } else {
        call = take(client, reply->serial);
    }
    pthread_mutex_unlock(&client->lock);
    /* An ITEM's call stays valid: its caller waits for the DONE that only this thread handles. */
    if (call != NULL && reply->event == LAUNCHER_ITEM && call->item != NULL) {
        call->item(call->item_ctx, reply);
    } else if (call != NULL && reply->event == LAUNCHER_DONE) {
        int rc = reply_result(reply, &err);
        call->answered(client, call, reply, fds, rc < 0 ? &err : NULL);
        return;
    }
    close_all(fds);
}

/* Returns 0, or -1 when the launcher is gone. */
static int receive_all(struct client *client)
{
    for (;;) {
        struct launcher_reply reply;
        int fds[PACKET_FDS_MAX], count = 0;
        ssize_t n = packet_receive(client->sock, &reply, sizeof(reply), fds, PACKET_FDS_MAX, &count,
                                   MSG_DONTWAIT);

        while (count < PACKET_FDS_MAX)
            fds[count++] = -1;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno == EMSGSIZE)
            n = sizeof(reply); /* its descriptors did not fit into this process: dials notice */
        if (n <= 0)
            return -1;
        if (n != (ssize_t)sizeof(reply) || reply.magic != LAUNCHER_MAGIC) {
            close_all(fds);
            return -1;
        }
        reply.id[sizeof(reply.id) - 1] = '\0';
        handle(client, &reply, fds);
    }
}

/* Nothing will be answered any more. */
static void fail_all(struct client *client)
{
    struct launcher_reply none = {0};
    int fds[PACKET_FDS_MAX];
    struct err err = {0};
    struct call *call;

    memset(fds, -1, sizeof(fds));
    refuse_dead(&err);
    pthread_mutex_lock(&client->lock);
    client->dead = true;
    drop_queue(client);
    while ((call = take_any(client)) != NULL) {
        pthread_mutex_unlock(&client->lock);
        call->answered(client, call, &none, fds, &err);
        pthread_mutex_lock(&client->lock);
    }
    pthread_mutex_unlock(&client->lock);
}

/* Milliseconds until the stock is to be looked at, -1 for never. */
static int sweep(struct client *client)
{
    int64_t now = time_mono_ms();

    if (client->stocked && now - client->swept_mono_ms >= SWEEP_MS) {
        client->stocked = stock_sweep(&client->stock, now);
        client->swept_mono_ms = now;
    }
    return client->stocked ? SWEEP_MS : -1;
}

/* Wait for the socket or the eventfd. Returns false when it is time to end. */
static bool turn(struct client *client)
{
    struct pollfd polls[2] = {{.fd = client->sock, .events = POLLIN},
                              {.fd = client->wake, .events = POLLIN}};
    uint64_t count;
    bool stop;

    pthread_mutex_lock(&client->lock);
    flush_queue(client);
    if (client->queue != NULL)
        polls[0].events = POLLIN | POLLOUT;
    stop = client->stop;
    pthread_mutex_unlock(&client->lock);
    if (stop)
        return false;
    if (poll(polls, 2, sweep(client)) < 0)
        return errno == EINTR;
    if ((polls[1].revents & POLLIN) != 0 && read(client->wake, &count, sizeof(count)) < 0 &&
        errno != EAGAIN)
        return false;
    if ((polls[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0)
        return true;
    if (receive_all(client) == 0)
        return true;
    log_error("the launcher process has ended");
    return false;
}

static void *reader_run(void *arg)
{
    struct client *client = arg;

    pthread_setname_np(pthread_self(), "launcher-reader");
    while (turn(client))
        continue;
    fail_all(client);
    return NULL;
}

int client_new(int sock, struct engine *engine, struct client **out, struct err *err)
{
    struct client *client = mem_zalloc(sizeof(*client));
    int errnum;

    client->engine = engine;
    client->sock = sock;
    client->queue_tail = &client->queue;
    client->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&client->lock, NULL);
    stock_init(&client->stock);
    errnum = client->wake < 0 ? errno : pthread_create(&client->thread, NULL, reader_run, client);
    if (errnum != 0) {
        fd_close(&client->wake);
        stock_clear(&client->stock);
        pthread_mutex_destroy(&client->lock);
        free(client);
        return err_sys(err, errnum, "cannot start the launcher's reader");
    }
    *out = client;
    return 0;
}

void client_free(struct client *client)
{
    pthread_mutex_lock(&client->lock);
    client->stop = true;
    pthread_mutex_unlock(&client->lock);
    wake(client);
    pthread_join(client->thread, NULL);
    stock_clear(&client->stock);
    fd_close(&client->sock);
    fd_close(&client->wake);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

/* A caller that waits. */
struct blocking {
    struct call call;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int *fds; /* PACKET_FDS_MAX of the caller's; NULL: not wanted */
    struct launcher_reply reply;
    struct err err;
};

static void blocking_answered(struct client *client, struct call *call,
                              const struct launcher_reply *reply, int fds[PACKET_FDS_MAX],
                              const struct err *err)
{
    struct blocking *blocking = container_of(call, struct blocking, call);

    (void)client;
    for (int i = 0; i < PACKET_FDS_MAX && blocking->fds != NULL; i++)
        blocking->fds[i] = steal_fd(&fds[i]);
    close_all(fds);
    pthread_mutex_lock(&blocking->lock);
    blocking->reply = *reply;
    if (err != NULL)
        blocking->err = *err;
    blocking->done = true;
    pthread_cond_signal(&blocking->cond);
    pthread_mutex_unlock(&blocking->lock); /* the last touch: the caller may be gone after it */
}

/* Send REQUEST and wait for the answer, which is in BLOCKING then. */
static int ask_and_wait(struct client *client, struct blocking *blocking,
                        struct launcher_request *request, int fd, struct err *err)
{
    if (submit(client, &blocking->call, request, fd, err) < 0)
        return -1;
    pthread_mutex_lock(&blocking->lock);
    while (!blocking->done)
        pthread_cond_wait(&blocking->cond, &blocking->lock);
    pthread_mutex_unlock(&blocking->lock);
    pthread_cond_destroy(&blocking->cond);
    pthread_mutex_destroy(&blocking->lock);
    if (blocking->err.code == ERR_NONE)
        return 0;
    *err = blocking->err;
    return -1;
}

int client_call(struct client *client, struct launcher_request *request, int fd,
                client_item_fn item, void *ctx, struct launcher_reply *reply, struct err *err)
{
    struct blocking blocking = {
        .call = {.answered = blocking_answered, .item = item, .item_ctx = ctx},
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };

    if (ask_and_wait(client, &blocking, request, fd, err) < 0)
        return -1;
    if (reply != NULL)
        *reply = blocking.reply;
    return 0;
}

int client_call_fds(struct client *client, struct launcher_request *request,
                    int fds[PACKET_FDS_MAX], struct err *err)
{
    struct blocking blocking = {
        .call = {.answered = blocking_answered},
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
        .fds = fds,
    };

    for (int i = 0; i < PACKET_FDS_MAX; i++)
        fds[i] = -1;
    return ask_and_wait(client, &blocking, request, -1, err);
}

/* A dial: asked on a loop, answered on it. */
struct dial {
    struct call call;
    struct loop_msg msg;
    struct loop *loop;
    engine_dial_fn cb;
    void *ctx;
    char id[SANDBOX_ID_SIZE];
    uint16_t port;
    bool ipv6;
    int fd;
    struct err err;
};

static void dial_deliver(struct loop_msg *msg)
{
    struct dial *dial = container_of(msg, struct dial, msg);

    dial->cb(dial->ctx, dial->fd, dial->fd < 0 ? &dial->err : NULL);
    free(dial);
}

/* Tell who asked, on its loop; without one, here. */
static void dial_end(struct dial *dial)
{
    if (dial->loop != NULL)
        loop_post(dial->loop, &dial->msg);
    else
        dial_deliver(&dial->msg);
}

/* Begin to connect to the sandbox's loopback. Over it, a refusal comes at once. */
static int connect_inside(int fd, uint16_t port, bool ipv6, struct err *err)
{
    struct sockaddr_in v4 = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6,
        .sin6_port = htons(port),
        .sin6_addr = IN6ADDR_LOOPBACK_INIT,
    };
    int rc = ipv6 ? connect(fd, (struct sockaddr *)&v6, sizeof(v6))
                  : connect(fd, (struct sockaddr *)&v4, sizeof(v4));

    if (rc == 0 || errno == EINPROGRESS)
        return 0;
    if (errno == ECONNREFUSED)
        return err_set(err, ERR_CONFLICT, "nothing listens on port %u", port);
    return err_sys(err, errno, "cannot connect to port %u", port);
}

/* What the first of FDS is for; the others wait for the next dials. */
static void dial_answered(struct client *client, struct call *call,
                          const struct launcher_reply *reply, int fds[PACKET_FDS_MAX],
                          const struct err *err)
{
    struct dial *dial = container_of(call, struct dial, call);
    size_t more = 0;

    (void)reply;
    client->stocked = true;
    while (more + 1 < PACKET_FDS_MAX && fds[more + 1] >= 0)
        more++;
    if (more > 0)
        stock_put(&client->stock, dial->id, fds + 1, more);
    if (err != NULL)
        dial->err = *err;
    else if (fds[0] < 0)
        err_set(&dial->err, ERR_INTERNAL, "the launcher sent no socket");
    else if (connect_inside(fds[0], dial->port, dial->ipv6, &dial->err) == 0)
        dial->fd = steal_fd(&fds[0]);
    if (fds[0] < 0 && dial->fd < 0)
        stock_drop(&client->stock, dial->id); /* gone, or no room here: ask for one next time */
    fd_close(&fds[0]);
    dial_end(dial);
}

void client_dial(struct client *client, struct loop *loop, const char *id, uint16_t port, bool ipv6,
                 engine_dial_fn cb, void *ctx)
{
    struct launcher_request request = {.op = LAUNCHER_DIAL, .ipv6 = ipv6, .sockets = 1};
    struct dial *dial = mem_zalloc(sizeof(*dial));
    size_t len = strnlen(id, SANDBOX_ID_SIZE);

    dial->call.answered = dial_answered;
    dial->msg.run = dial_deliver;
    dial->loop = loop;
    dial->cb = cb;
    dial->ctx = ctx;
    dial->port = port;
    dial->ipv6 = ipv6;
    dial->fd = -1;
    if (len >= sizeof(request.id)) {
        err_set(&dial->err, ERR_NOT_FOUND, "sandbox is not running");
        dial_end(dial);
        return;
    }
    memcpy(request.id, id, len);
    memcpy(dial->id, id, len);
    if (!ipv6)
        request.sockets = (uint8_t)stock_want(&client->stock, id, time_mono_ms());
    if (submit(client, &dial->call, &request, -1, &dial->err) < 0)
        dial_end(dial);
}

int client_dial_now(struct client *client, const char *id, uint16_t port)
{
    _cleanup_close_ int fd = stock_take(&client->stock, id, time_mono_ms());
    struct err ignored = {0};

    if (fd < 0 || connect_inside(fd, port, false, &ignored) < 0)
        return -1;
    return steal_fd(&fd);
}

void client_forget(struct client *client, const char *id)
{
    stock_drop(&client->stock, id);
}
