#include "server/envd_upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/auth/auth.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define DIAL_MS 5000
#define ANSWER_MS 60000 /* envd waits up to 30 s for file transfers */
#define ANSWER_MAX_BYTES (16 << 10)

struct envd_upgrade {
    struct lifecycle *lifecycle;
    struct loop *loop;
    const struct envd_program *program;
    pthread_t thread;
    struct map tries; /* struct tried by sandbox id */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop;
    bool dialled; /* the answer to `dial` is there */
    int fd;
    struct err dial_err;
    char dial_id[SANDBOX_ID_SIZE];
    struct loop_msg dial_msg;
};

struct tried {
    char id[SANDBOX_ID_SIZE];
    unsigned count;
};

/* ---- The program ---- */

int envd_program_read(const char *path, struct envd_program *out, struct err *err)
{
    struct envd_program program = {0};
    uint8_t digest[SHA256_BYTES];

    if (file_read(AT_FDCWD, path, ENVD_PROGRAM_MAX_BYTES, &program.data, &program.len, err) < 0)
        return -1;
    hash_sha256(program.data, program.len, digest);
    hex_encode(digest, sizeof(digest), program.build);
    *out = program;
    return 0;
}

void envd_program_clear(struct envd_program *program)
{
    free(program->data);
    *program = (struct envd_program){0};
}

/* ---- A connection to a sandbox's envd ---- */

static void on_dialled(void *ctx, int fd, const struct err *err)
{
    struct envd_upgrade *upgrade = ctx;

    pthread_mutex_lock(&upgrade->lock);
    upgrade->dialled = true;
    upgrade->fd = fd;
    if (fd < 0)
        upgrade->dial_err = *err;
    pthread_cond_signal(&upgrade->wake);
    pthread_mutex_unlock(&upgrade->lock);
}

static void on_dial(struct loop_msg *msg)
{
    struct envd_upgrade *upgrade = container_of(msg, struct envd_upgrade, dial_msg);
    struct engine *engine = lifecycle_engine(upgrade->lifecycle);

    engine->ops->dial(engine, upgrade->loop, upgrade->dial_id, ENVD_PORT, false, on_dialled,
                      upgrade);
}

/* The engine always answers, so the thread may wait for it. */
static int dial(struct envd_upgrade *upgrade, const char *id, struct err *err)
{
    int fd;

    memcpy(upgrade->dial_id, id, strlen(id) + 1);
    upgrade->dialled = false;
    upgrade->dial_msg.run = on_dial;
    loop_post(upgrade->loop, &upgrade->dial_msg);
    pthread_mutex_lock(&upgrade->lock);
    while (!upgrade->dialled)
        pthread_cond_wait(&upgrade->wake, &upgrade->lock);
    fd = upgrade->fd;
    if (fd < 0)
        *err = upgrade->dial_err;
    pthread_mutex_unlock(&upgrade->lock);
    return fd;
}

static bool stopping(struct envd_upgrade *upgrade)
{
    bool stop;

    pthread_mutex_lock(&upgrade->lock);
    stop = upgrade->stop;
    pthread_mutex_unlock(&upgrade->lock);
    return stop;
}

/* Until FD is ready, the time is over or the server stops. */
static int wait_for(struct envd_upgrade *upgrade, int fd, short events, int64_t end_mono_ms,
                    struct err *err)
{
    struct pollfd pfd = {.fd = fd, .events = events};

    while (!stopping(upgrade)) {
        if (time_mono_ms() >= end_mono_ms)
            return err_set(err, ERR_TIMEOUT, "envd does not answer");
        if (poll(&pfd, 1, 200) > 0)
            return 0;
    }
    return err_set(err, ERR_BUSY, "the server stops");
}

static int send_all(struct envd_upgrade *upgrade, int fd, const char *data, size_t len,
                    struct err *err)
{
    int64_t end = time_mono_ms() + DIAL_MS;

    while (len > 0) {
        ssize_t n;

        if (wait_for(upgrade, fd, POLLOUT, end, err) < 0)
            return -1;
        n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_sys(err, errno, "cannot send the new envd");
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            end = time_mono_ms() + DIAL_MS;
        }
    }
    return 0;
}

/* All that comes: the request asks for the connection to be closed. */
static int receive_all(struct envd_upgrade *upgrade, int fd, struct buf *out, struct err *err)
{
    int64_t end = time_mono_ms() + ANSWER_MS;

    for (;;) {
        char data[4096];
        ssize_t n;

        if (wait_for(upgrade, fd, POLLIN, end, err) < 0)
            return -1;
        n = recv(fd, data, sizeof(data), 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_sys(err, errno, "cannot read envd's answer");
        if (n > 0 && buf_add(out, data, (size_t)n) < 0)
            return err_set(err, ERR_INTERNAL, "envd's answer is too long");
    }
}

/* ---- One sandbox ---- */

/* The value of a header of a whole ANSWER, as a string in OUT; false when it is not there. */
static bool header_of(const char *answer, const char *name, char *out, size_t size)
{
    const char *line = answer;
    size_t len = strlen(name);

    while ((line = strstr(line, "\r\n")) != NULL && strncmp(line, "\r\n\r\n", 4) != 0) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            line += len + 1;
            line += strspn(line, " ");
            return str_copy(out, size, line, strcspn(line, "\r\n")) == 0;
        }
    }
    return false;
}

/* What envd says to a refused request, for the log. */
static int refused(const char *answer, struct err *err)
{
    const char *body = strstr(answer, "\r\n\r\n");

    err_set(err, ERR_CONFLICT, "envd stays as it is");
    snprintf(err->detail, sizeof(err->detail), "%.40s: %.300s", answer,
             body != NULL ? body + 4 : "");
    return -1;
}

static int ask(struct envd_upgrade *upgrade, const struct sandbox *sandbox, const char *jwt,
               char version[ENVD_VERSION_SIZE], struct err *err)
{
    _cleanup_close_ int fd = dial(upgrade, sandbox->id, err);
    _cleanup_free_ char *head =
        mem_asprintf("POST /upgrade HTTP/1.1\r\nHost: envd\r\nAuthorization: Bearer %s\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                     jwt, upgrade->program->len);
    _cleanup_buf_ struct buf answer;
    int rc = fd < 0 ? -1 : 0;

    buf_init(&answer, ANSWER_MAX_BYTES);
    if (rc == 0)
        rc = send_all(upgrade, fd, head, strlen(head), err);
    secret_wipe(head, strlen(head));
    if (rc < 0 || send_all(upgrade, fd, upgrade->program->data, upgrade->program->len, err) < 0 ||
        receive_all(upgrade, fd, &answer, err) < 0)
        return -1;
    if (!str_starts(buf_str(&answer), "HTTP/1.1 204 "))
        return refused(buf_str(&answer), err);
    if (!header_of(buf_str(&answer), "X-Envd-Version", version, ENVD_VERSION_SIZE))
        return err_set(err, ERR_INTERNAL, "the new envd does not say its version");
    return 0;
}

static int upgrade_one(struct envd_upgrade *upgrade, const struct sandbox *sandbox, struct err *err)
{
    struct lifecycle_route route;
    char version[ENVD_VERSION_SIZE] = "";
    int64_t begun = time_mono_ms();
    char *jwt = NULL;
    int rc;

    if (lifecycle_route(upgrade->lifecycle, sandbox->id, &route, err) < 0)
        return -1;
    rc = auth_jwt_platform(route.jwt_key, sandbox->id, time_unix_ms() / 1000, &jwt, err);
    secret_wipe(&route, sizeof(route));
    if (rc < 0)
        return -1;
    rc = ask(upgrade, sandbox, jwt, version, err);
    secret_wipe(jwt, strlen(jwt));
    free(jwt);
    if (rc < 0 || lifecycle_envd_changed(upgrade->lifecycle, sandbox->id, version,
                                         upgrade->program->build, err) < 0)
        return -1;
    log_info("envd upgraded in place", "sandbox_id", sandbox->id, "from", sandbox->envd_version,
             "to", version, "ms", log_num(time_mono_ms() - begun));
    return 0;
}

/* ---- All of them ---- */

static struct tried *tried_of(struct envd_upgrade *upgrade, const char *id)
{
    struct tried *tried = map_get(&upgrade->tries, id);

    if (tried != NULL)
        return tried;
    tried = mem_zalloc(sizeof(*tried));
    memcpy(tried->id, id, strlen(id) + 1);
    map_put(&upgrade->tries, tried->id, tried);
    return tried;
}

/* Sleep. False: the server stops. */
static bool rest(struct envd_upgrade *upgrade, int64_t ms)
{
    struct timespec until;
    int rc = 0;
    bool stop;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&upgrade->lock);
    while (!upgrade->stop && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&upgrade->wake, &upgrade->lock, &until);
    stop = upgrade->stop;
    pthread_mutex_unlock(&upgrade->lock);
    return !stop;
}

static void look_at(struct envd_upgrade *upgrade, const struct sandbox *sandbox)
{
    struct tried *tried;
    struct err err = {0};

    if (sandbox->state != SANDBOX_RUNNING || str_eq(sandbox->envd_build, upgrade->program->build))
        return;
    tried = tried_of(upgrade, sandbox->id);
    if (tried->count >= ENVD_UPGRADE_TRIES)
        return;
    tried->count++;
    if (upgrade_one(upgrade, sandbox, &err) < 0 && err.code != ERR_NOT_FOUND && !stopping(upgrade))
        log_err(LOG_WARN,
                tried->count < ENVD_UPGRADE_TRIES ? "envd not upgraded, will retry"
                                                  : "envd not upgraded",
                sandbox->id, &err);
    rest(upgrade, ENVD_UPGRADE_GAP_MS);
}

static void *run(void *arg)
{
    struct envd_upgrade *upgrade = arg;

    pthread_setname_np(pthread_self(), "envd-upgrade");
    do {
        struct sandbox *list = NULL;
        struct err err = {0};
        size_t count = 0;

        if (lifecycle_list(upgrade->lifecycle, NULL, &list, &count, &err) < 0)
            log_err(LOG_WARN, "cannot list sandboxes", NULL, &err);
        for (size_t i = 0; i < count && !stopping(upgrade); i++)
            look_at(upgrade, &list[i]);
        sandbox_list_free(list, count);
    } while (rest(upgrade, ENVD_UPGRADE_EVERY_MS));
    return NULL;
}

int envd_upgrade_start(struct lifecycle *lifecycle, struct loop *loop,
                       const struct envd_program *program, struct envd_upgrade **out,
                       struct err *err)
{
    struct envd_upgrade *upgrade = mem_zalloc(sizeof(*upgrade));
    pthread_condattr_t attr;
    int rc;

    upgrade->lifecycle = lifecycle;
    upgrade->loop = loop;
    upgrade->program = program;
    map_init(&upgrade->tries);
    pthread_mutex_init(&upgrade->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&upgrade->wake, &attr);
    pthread_condattr_destroy(&attr);
    rc = pthread_create(&upgrade->thread, NULL, run, upgrade);
    if (rc != 0) {
        free(upgrade);
        return err_sys(err, rc, "cannot start a thread");
    }
    *out = upgrade;
    return 0;
}

void envd_upgrade_stop(struct envd_upgrade *upgrade)
{
    size_t at = 0;
    void *tried;

    if (upgrade == NULL)
        return;
    pthread_mutex_lock(&upgrade->lock);
    upgrade->stop = true;
    pthread_cond_signal(&upgrade->wake);
    pthread_mutex_unlock(&upgrade->lock);
    pthread_join(upgrade->thread, NULL);
    while (map_next(&upgrade->tries, &at, &tried))
        free(tried);
    map_clear(&upgrade->tries);
    pthread_cond_destroy(&upgrade->wake);
    pthread_mutex_destroy(&upgrade->lock);
    free(upgrade);
}
