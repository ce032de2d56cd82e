#include "envd/upgrade.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "envd/exchange.h"
#include "envd/handover.h"
#include "envd/http_handover.h"
#include "envd/resume.h"
#include "envd/route.h"
#include "envd/successor.h"
#include "envd/watch_hub.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/base/version.h"

#define TRY_MS 10000     /* for the new program to say what it reads */
#define REHEARSE_MS 5000 /* for it to read the state; nothing else happens meanwhile */
#define QUIESCE_MS 30000 /* for what runs on worker threads to end */
#define TICK_MS 1
#define HOLD_MS 200      /* new file calls wait for so long, twice as long each time … */
#define HOLD_MAX_MS 1600 /* … up to this, … */
#define REST_MS 500      /* … then go on for so long, … */
#define LAST_MS 5000     /* … and at the end of the time they wait until it is over */
#define WORDS_MAX 4096
#define FORMAT_LINE "envd-handover"
#define READY_LINE "envd-handover ready\n"

struct upgrade {
    struct exchange *ex;
    struct http_server *server;
    int program; /* memfd */
    size_t len;  /* of it */
    struct successor_run run;
    struct loop_io output; /* of run */
    struct buf words;      /* what it said */
    struct loop_timer timer;
    int64_t quiesce_mono_ms; /* when that began */
    int64_t held_mono_ms;
    int64_t hold_ms;
    bool held;
};

static struct upgrade *current; /* NULL: none is under way */
static bool is_init;

void upgrade_init(bool init)
{
    is_init = init;
}

void upgrade_print_format(void)
{
    printf(FORMAT_LINE " %d %d %s\n", HANDOVER_FORMAT_MIN, HANDOVER_FORMAT, ENVD_VERSION);
}

void upgrade_print_ready(void)
{
    fputs(READY_LINE, stdout);
    fflush(stdout);
    _exit(0); /* what was rebuilt is not this process's */
}

void upgrade_print_refusal(const struct err *err)
{
    puts(err->msg);
    fflush(stdout);
    _exit(1);
}

static void hold(struct upgrade *upgrade, bool held)
{
    upgrade->held = held;
    upgrade->held_mono_ms = time_mono_ms();
    if (held) {
        pool_hold(upgrade->server->files);
        pool_hold(upgrade->server->disk);
        pool_hold(upgrade->server->bulk);
    } else {
        watch_hub_hold(false);
        pool_release(upgrade->server->files);
        pool_release(upgrade->server->disk);
        pool_release(upgrade->server->bulk);
    }
}

static void stop_run(struct upgrade *upgrade)
{
    loop_remove(upgrade->server->loop, &upgrade->output);
    successor_stop(&upgrade->run);
}

/* Give up; all goes on as before. */
static void _printf_(3, 4) give_up(struct upgrade *upgrade, int status, const char *fmt, ...)
{
    char words[ERR_MSG_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    stop_run(upgrade);
    loop_timer_stop(upgrade->server->loop, &upgrade->timer);
    if (upgrade->held)
        hold(upgrade, false);
    log_warn("envd stays as it is", "why", words);
    http_reply_error(upgrade->ex, status, "%s", words);
    exchange_unref(upgrade->ex);
    fd_close(&upgrade->program);
    buf_clear(&upgrade->words);
    free(upgrade);
    current = NULL;
}

/* The words of a program that says no, as text for a client. */
static const char *words_of(struct upgrade *upgrade)
{
    struct buf *words = &upgrade->words;

    for (size_t i = 0; i < words->len; i++) {
        if ((unsigned char)words->data[i] < ' ' || (unsigned char)words->data[i] > '~')
            words->data[i] = ' ';
    }
    while (words->len > 0 && words->data[words->len - 1] == ' ')
        words->data[--words->len] = '\0';
    return words->len > 0 ? buf_str(words) : "it ends without a word";
}

/* Read what it said. 1: there may be more, 0: that was all. */
static int read_words(struct upgrade *upgrade)
{
    char data[512];
    ssize_t n;

    do {
        n = read(upgrade->run.output, data, sizeof(data));
        if (n > 0)
            buf_add(&upgrade->words, data, (size_t)n); /* what is too long is cut */
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 && errno == EAGAIN ? 1 : 0;
}

/* ---- The last steps: nothing but them happens now ---- */

static int wait_words(struct upgrade *upgrade, struct err *err)
{
    int64_t end = time_mono_ms() + REHEARSE_MS, left;

    while (read_words(upgrade) > 0) {
        struct pollfd pfd = {.fd = upgrade->run.output, .events = POLLIN};

        left = end - time_mono_ms();
        if (left <= 0 || poll(&pfd, 1, (int)left) == 0)
            return err_set(err, ERR_INVALID, "the new envd did not read the state in %d ms",
                           REHEARSE_MS);
    }
    if (str_eq(buf_str(&upgrade->words), READY_LINE))
        return 0;
    return err_set(err, ERR_INVALID, "the new envd cannot take over: %.300s", words_of(upgrade));
}

static int rehearse(struct upgrade *upgrade, int state, const int *fds, size_t count,
                    struct err *err)
{
    char number[16];
    char *const argv[] = {(char[]){"envd"}, (char[]){"--resume-handover"}, number,
                          (char[]){"--rehearse"}, NULL};
    int rc;

    snprintf(number, sizeof(number), "%d", state);
    buf_reset(&upgrade->words);
    if (successor_start(upgrade->program, argv, fds, count, &upgrade->run, err) < 0)
        return -1;
    rc = wait_words(upgrade, err);
    successor_stop(&upgrade->run);
    return rc;
}

/* Returns, -1 with *ERR, only on failure. */
static int become(struct upgrade *upgrade, int state, const int *fds, size_t count, struct err *err)
{
    char number[16];
    char *const argv[] = {(char[]){"envd"}, (char[]){"--resume-handover"}, number, NULL};

    snprintf(number, sizeof(number), "%d", state);
    return successor_become(upgrade->program, argv, fds, count, err);
}

static int hand_over(struct upgrade *upgrade, struct err *err)
{
    struct handover_out *out = handover_out_new(err);
    const int *fds;
    size_t count;
    int state = -1, rc = -1;

    if (out == NULL)
        return -1;
    resume_save(upgrade->server, is_init, out);
    state = handover_out_seal(out, err);
    if (state >= 0) {
        handover_fd(out, state);
        fds = handover_out_fds(out, &count);
        rc = rehearse(upgrade, state, fds, count, err);
        if (rc == 0)
            rc = become(upgrade, state, fds, count, err);
    }
    handover_out_free(out);
    return rc;
}

static void last_steps(struct upgrade *upgrade)
{
    struct err err = {0};

    hand_over(upgrade, &err);
    give_up(upgrade, err.code == ERR_INVALID ? 400 : error_http_status(err.code), "%s", err.msg);
}

/* ---- Waiting for worker threads ---- */

static void on_tick(struct loop_timer *timer)
{
    struct upgrade *upgrade = container_of(timer, struct upgrade, timer);
    int64_t now = time_mono_ms();
    int64_t since = now - upgrade->quiesce_mono_ms, stood = now - upgrade->held_mono_ms;

    bool still = upgrade->held && http_can_save(upgrade->server, upgrade->ex);

    watch_hub_hold(still); /* no longer than need be: the kernel's queues are small */
    if (still && watch_hub_parked()) {
        last_steps(upgrade);
        return;
    }
    if (since >= QUIESCE_MS) {
        give_up(upgrade, 503, "file transfers were under way for more than %d s",
                QUIESCE_MS / 1000);
        return;
    }
    if (upgrade->held && stood >= upgrade->hold_ms && since < QUIESCE_MS - LAST_MS) {
        hold(upgrade, false);
        if (upgrade->hold_ms < HOLD_MAX_MS)
            upgrade->hold_ms *= 2;
    } else if (!upgrade->held && (stood >= REST_MS || since >= QUIESCE_MS - LAST_MS))
        hold(upgrade, true);
    loop_timer_set(upgrade->server->loop, timer, TICK_MS, on_tick);
}

static void quiesce(struct upgrade *upgrade)
{
    upgrade->quiesce_mono_ms = time_mono_ms();
    upgrade->hold_ms = HOLD_MS;
    hold(upgrade, true);
    loop_timer_set(upgrade->server->loop, &upgrade->timer, 0, on_tick);
}

/* ---- Trying the program ---- */

static void on_try_timeout(struct loop_timer *timer)
{
    give_up(container_of(timer, struct upgrade, timer), 400,
            "the new envd did not say which states it reads in %d s", TRY_MS / 1000);
}

/* "envd-handover MIN MAX VERSION" */
static bool reads_ours(const char *line)
{
    int min, max, end = 0;
    char *rest;

    if (!str_starts(line, FORMAT_LINE " "))
        return false;
    min = (int)strtol(line + strlen(FORMAT_LINE " "), &rest, 10);
    max = (int)strtol(rest, &rest, 10);
    end = *rest == ' ';
    return end && min <= HANDOVER_FORMAT && HANDOVER_FORMAT <= max;
}

static void on_output(struct loop_io *io, uint32_t events)
{
    struct upgrade *upgrade = container_of(io, struct upgrade, output);

    (void)events;
    if (read_words(upgrade) > 0)
        return;
    stop_run(upgrade);
    loop_timer_stop(upgrade->server->loop, &upgrade->timer);
    if (reads_ours(buf_str(&upgrade->words)))
        quiesce(upgrade);
    else
        give_up(upgrade, 400, "the new envd does not read state of format %d: %.300s",
                HANDOVER_FORMAT, words_of(upgrade));
}

static int try_program(struct upgrade *upgrade, struct err *err)
{
    char *const argv[] = {(char[]){"envd"}, (char[]){"--handover-format"}, NULL};

    if (successor_start(upgrade->program, argv, NULL, 0, &upgrade->run, err) < 0 ||
        loop_add(upgrade->server->loop, &upgrade->output, upgrade->run.output, EPOLLIN, on_output,
                 err) < 0)
        return -1;
    loop_timer_set(upgrade->server->loop, &upgrade->timer, TRY_MS, on_try_timeout);
    return 0;
}

/* ---- The request: its body goes into the memfd as it comes ---- */

static void forget(struct upgrade *upgrade)
{
    fd_close(&upgrade->program);
    buf_clear(&upgrade->words);
    free(upgrade);
    current = NULL;
}

/* The body is not wanted any more. */
static void refuse_body(struct exchange *ex, int status, const char *message)
{
    ex->on_body = NULL;
    ex->on_gone = NULL;
    ex->owner = NULL;
    forget(current);
    http_reply_error(ex, status, "%s", message);
}

static void on_body(struct exchange *ex, const char *data, size_t len)
{
    struct upgrade *upgrade = ex->owner;

    if (len > UPGRADE_MAX_BYTES - upgrade->len)
        refuse_body(ex, 413, "the program is too large");
    else if (fd_write_full(upgrade->program, data, len) < 0)
        refuse_body(ex, 507, "there is no memory for the program");
    else
        upgrade->len += len;
}

static void on_gone(struct exchange *ex)
{
    ex->owner = NULL;
    forget(current);
}

/* envd-api section 7.4. */
bool upgrade_begin(struct exchange *ex)
{
    struct err err = {0};
    int program;

    if (!http_settings(ex)->initialised) {
        http_reply_error(ex, 409, "envd not initialized");
        return false;
    }
    if (current != NULL) {
        http_reply_error(ex, 409, "an upgrade is under way");
        return false;
    }
    program = successor_new(&err);
    if (program < 0) {
        http_reply_err(ex, &err);
        return false;
    }
    current = mem_zalloc(sizeof(*current));
    current->server = ex->server;
    current->program = program;
    current->run.pidfd = current->run.output = -1;
    buf_init(&current->words, WORDS_MAX);
    ex->owner = current;
    ex->on_body = on_body;
    ex->on_gone = on_gone;
    return true;
}

static bool is_program(const struct upgrade *upgrade)
{
    char head[4];

    return pread(upgrade->program, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
           memcmp(head, "\177ELF", sizeof(head)) == 0;
}

int handle_upgrade(struct exchange *ex, struct err *err)
{
    struct upgrade *upgrade = ex->owner;

    ex->owner = NULL;
    ex->on_body = NULL;
    ex->on_gone = NULL;
    upgrade->ex = exchange_ref(ex);
    if (!is_program(upgrade))
        give_up(upgrade, 400, "the body is no ELF program");
    else if (successor_seal(upgrade->program, err) < 0 || try_program(upgrade, err) < 0)
        give_up(upgrade, err->code == ERR_INVALID ? 400 : 500, "%s", err->msg);
    return 0;
}
