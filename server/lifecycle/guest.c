/*
 * server/lifecycle/guest.c - the little that the server itself says to envd.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "server/auth/auth.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"

#define HEALTH_REQUEST "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#define REQUEST_MAX_BYTES (128 * 1024) /* of POST /init */
#define HEALTH_GOOD "HTTP/1.1 2"       /* any success */

/* One dial that a worker waits for. Freed by whoever of the two comes last. */
struct asked {
    pthread_mutex_t lock;
    pthread_cond_t answered_cond;
    int fd;
    bool answered;
    bool left; /* the worker waits no more */
};

static void asked_free(struct asked *asked)
{
    fd_close(&asked->fd);
    pthread_cond_destroy(&asked->answered_cond);
    pthread_mutex_destroy(&asked->lock);
    free(asked);
}

/* On a thread of the engine. */
static void on_dial(void *ctx, int fd, const struct err *err)
{
    struct asked *asked = ctx;
    bool left;

    (void)err;
    pthread_mutex_lock(&asked->lock);
    asked->fd = fd;
    asked->answered = true;
    left = asked->left;
    pthread_cond_signal(&asked->answered_cond);
    pthread_mutex_unlock(&asked->lock);
    if (left)
        asked_free(asked);
}

static struct asked *asked_new(void)
{
    struct asked *asked = mem_zalloc(sizeof(*asked));
    pthread_condattr_t attr;

    asked->fd = -1;
    pthread_mutex_init(&asked->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&asked->answered_cond, &attr);
    pthread_condattr_destroy(&attr);
    return asked;
}

/* A socket to PORT of ID whose connect has begun, or -1 after UNTIL_MONO_MS. */
static int connect_to(struct lifecycle *lifecycle, const char *id, uint16_t port,
                      int64_t until_mono_ms)
{
    const struct timespec until = {.tv_sec = until_mono_ms / 1000,
                                   .tv_nsec = (long)(until_mono_ms % 1000) * 1000000};
    struct engine *engine = lifecycle->config.engine;
    struct asked *asked = asked_new();
    bool answered;
    int fd = -1, rc = 0;

    engine->ops->dial(engine, NULL, id, port, false, on_dial, asked);
    pthread_mutex_lock(&asked->lock);
    while (!asked->answered && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&asked->answered_cond, &asked->lock, &until);
    answered = asked->answered;
    asked->left = true;
    if (answered)
        fd = steal_fd(&asked->fd);
    pthread_mutex_unlock(&asked->lock);
    if (answered)
        asked_free(asked);
    return fd;
}

/* FD is ready for EVENTS before UNTIL_MONO_MS. */
static bool wait_for(int fd, short events, int64_t until_mono_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int64_t left = until_mono_ms - time_mono_ms();

    return left > 0 && poll(&poll_fd, 1, (int)left) == 1;
}

/* One question and its answer. */
static bool ask(int fd, const char *request, size_t len, int64_t until_mono_ms)
{
    char head[sizeof(HEALTH_GOOD) - 1];
    size_t got = 0;

    while (len > 0) {
        ssize_t sent =
            wait_for(fd, POLLOUT, until_mono_ms) ? send(fd, request, len, MSG_NOSIGNAL) : -1;
        if (sent <= 0)
            return false;
        request += sent;
        len -= (size_t)sent;
    }
    while (got < sizeof(head)) {
        ssize_t more;
        if (!wait_for(fd, POLLIN, until_mono_ms))
            return false;
        more = recv(fd, head + got, sizeof(head) - got, 0);
        if (more <= 0)
            return false;
        got += (size_t)more;
    }
    return memcmp(head, HEALTH_GOOD, sizeof(head)) == 0;
}

bool guest_answers(struct lifecycle *lifecycle, const char *id, int64_t timeout_ms)
{
    int64_t until = time_mono_ms() + timeout_ms;
    _cleanup_close_ int fd = -1;

    if (lifecycle->config.engine->ops->dial == NULL)
        return true; /* nobody to ask */
    fd = connect_to(lifecycle, id, ENVD_PORT, until);
    return fd >= 0 && ask(fd, HEALTH_REQUEST, sizeof(HEALTH_REQUEST) - 1, until);
}

/* What POST /init wants: whoever asks is the platform, and the token stays what it is. */
static int write_trust(struct lifecycle *lifecycle, const struct entry *entry, struct buf *out,
                       struct err *err)
{
    _cleanup_json_ json_t *body = json_object();
    _cleanup_(secret_text_free) char *text = NULL, *jwt = NULL;
    char token[SHA256_HEX_SIZE];

    if (auth_jwt_platform(entry->jwt_key, entry->sandbox.id, time_unix_ms() / 1000, &jwt, err) < 0)
        return -1;
    if (entry->sandbox.secure) {
        lifecycle_envd_token(lifecycle, entry->sandbox.id, token);
        json_put_str(body, "accessToken", token);
        secret_wipe(token, sizeof(token));
    }
    json_put_str(body, "caBundle", lifecycle->config.gateway_ca);
    text = json_text(body);
    buf_printf(out,
               "POST /init HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
               "Authorization: Bearer %s\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n%s",
               jwt, strlen(text), text);
    return 0;
}

int guest_trust(struct lifecycle *lifecycle, const struct entry *entry, int64_t timeout_ms,
                struct err *err)
{
    int64_t until = time_mono_ms() + timeout_ms;
    _cleanup_close_ int fd = -1;
    struct buf request;
    bool done = false;

    if (lifecycle->config.gateway_ca == NULL || lifecycle->config.engine->ops->dial == NULL)
        return 0;
    buf_init(&request, REQUEST_MAX_BYTES);
    if (write_trust(lifecycle, entry, &request, err) < 0)
        return -1;
    fd = connect_to(lifecycle, entry->sandbox.id, ENVD_PORT, until);
    done = fd >= 0 && ask(fd, request.data, request.len, until);
    secret_wipe(request.data, request.cap);
    buf_clear(&request);
    if (!done)
        return err_set(err, ERR_TIMEOUT, "the sandbox did not take the gateway's certificate");
    return 0;
}
