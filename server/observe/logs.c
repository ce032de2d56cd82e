/*
 * server/observe/logs.c - one thread that reads what every sandbox's envd says, and writes it.
 *
 * A pipe for each sandbox, non-blocking, in one epoll: an idle sandbox costs nothing. One that says
 * too much is left alone for a while: its pipe fills, and its envd drops lines by itself.
 * Lines gather in memory for at most LOG_FLUSH_MS and go to the journal in one transaction. Within
 * a sandbox no two lines have the same millisecond, so that a reader who goes on from the last one
 * misses none.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/observe/internal.h"
#include "server/observe/log_line.h"

#define READ_BYTES 65536 /* what a pipe holds */
#define LINE_MAX_BYTES 8192
#define PENDING_MAX 20000 /* lines in memory; more are lost */
#define FLUSH_LINES 256   /* so many are written at once: others wait for the journal meanwhile */
#define LINES_PER_S 200   /* of one sandbox, and … */
#define BURST_LINES 2000  /* … so many at once */
#define TRIM_LINES 1000   /* so many more than it may keep, before the oldest go */
#define EVENTS_MAX 64
#define PAUSE_MS 1000

/* A sandbox. Under the lock but for what the thread alone uses. */
struct source {
    char id[SANDBOX_ID_SIZE];
    int64_t last_unix_ms; /* of its newest line */
    bool wanted;          /* to be opened, or open */
    bool closing;         /* it has ended: read the rest, then forget it */
    bool in_todo;
    struct source *next_todo;
    /* the thread's */
    int fd;
    bool resting; /* out of the epoll until rested_mono_ms */
    int64_t rested_mono_ms;
    double tokens;
    int64_t tokens_mono_ms;
    unsigned since_trim;
    size_t have;
    char *part; /* LINE_MAX_BYTES of a line whose end has not come; NULL with none */
};

struct logs {
    struct observe *observe;
    pthread_t thread;
    bool started;
    int epoll, wake;
    char *buffer;            /* READ_BYTES; the thread's */
    struct source **resting; /* the thread's */
    size_t resting_count;
    pthread_mutex_t writing; /* one flush at a time, in order; taken before `lock` */
    pthread_mutex_t lock;    /* guards what follows */
    struct map sources;
    struct source *todo; /* to open or to close */
    struct journal_line *pending;
    size_t pending_count, pending_cap;
    bool stop;
};

static void wake(struct logs *logs)
{
    uint64_t one = 1;

    if (write(logs->wake, &one, sizeof(one)) < 0)
        return; /* the counter is full: it will wake anyway */
}

/* --- lines ----------------------------------------------------------------------------------- */

/* Lock held. When a line of SOURCE was said, later than the one before. */
static int64_t stamp(struct source *source)
{
    int64_t now = time_unix_ms();

    if (now <= source->last_unix_ms)
        now = source->last_unix_ms + 1;
    source->last_unix_ms = now;
    return now;
}

/* Lock held. LINE is taken. */
static void add_line(struct logs *logs, struct source *source, enum log_level level, json_t *line)
{
    struct journal_line *entry;

    if (logs->pending_count == PENDING_MAX) {
        atomic_fetch_add(&logs->observe->lines_lost, 1);
        json_decref(line);
        return;
    }
    if (logs->pending_count == logs->pending_cap) {
        logs->pending_cap = logs->pending_cap == 0 ? 64 : logs->pending_cap * 2;
        logs->pending = mem_realloc_array(logs->pending, logs->pending_cap, sizeof(*logs->pending));
    }
    entry = &logs->pending[logs->pending_count++];
    *entry =
        (struct journal_line){.at_unix_ms = stamp(source), .level = level, .text = json_text(line)};
    memcpy(entry->sandbox_id, source->id, sizeof(entry->sandbox_id));
    json_decref(line);
    atomic_fetch_add(&logs->observe->lines, 1);
}

/* Lock held. */
static struct source *source_of(struct logs *logs, const char *id)
{
    struct source *source = map_get(&logs->sources, id);

    if (source != NULL)
        return source;
    source = mem_zalloc(sizeof(*source));
    str_copy(source->id, sizeof(source->id), id, strlen(id));
    source->fd = -1;
    source->tokens = BURST_LINES;
    source->tokens_mono_ms = time_mono_ms();
    map_put(&logs->sources, source->id, source);
    return source;
}

void logs_say(struct logs *logs, const char *id, enum log_level level, const char *logger,
              const char *message, json_t *fields)
{
    json_t *line = log_line_make(level, logger, message, fields);
    bool first;

    pthread_mutex_lock(&logs->lock);
    first = logs->pending_count == 0;
    add_line(logs, source_of(logs, id), level, line);
    pthread_mutex_unlock(&logs->lock);
    if (first)
        wake(logs); /* there is something to flush soon */
}

/* Up to FLUSH_LINES of what waits, to journal_lines_free. */
static struct journal_line *take_pending(struct logs *logs, size_t *count)
{
    struct journal_line *lines = NULL;

    pthread_mutex_lock(&logs->lock);
    *count = logs->pending_count < FLUSH_LINES ? logs->pending_count : FLUSH_LINES;
    if (*count > 0) {
        lines = mem_calloc(*count, sizeof(*lines));
        memcpy(lines, logs->pending, *count * sizeof(*lines));
        logs->pending_count -= *count;
        memmove(logs->pending, logs->pending + *count, logs->pending_count * sizeof(*lines));
    }
    pthread_mutex_unlock(&logs->lock);
    return lines;
}

void logs_flush(struct logs *logs)
{
    struct journal_line *lines;
    size_t count;

    pthread_mutex_lock(&logs->writing);
    while ((lines = take_pending(logs, &count)) != NULL) {
        struct err err = {0};
        if (journal_logs_add(logs->observe->journal, lines, count, &err) < 0) {
            log_err(LOG_WARN, "log lines of sandboxes were not kept", NULL, &err);
            atomic_fetch_add(&logs->observe->lines_lost, count);
        }
        journal_lines_free(lines, count);
    }
    pthread_mutex_unlock(&logs->writing);
}

static void trim(struct logs *logs, struct source *source)
{
    struct err err = {0};

    if (source->since_trim < TRIM_LINES)
        return;
    source->since_trim = 0;
    logs_flush(logs);
    if (journal_logs_trim(logs->observe->journal, source->id, &err) < 0)
        log_err(LOG_WARN, "old log lines of a sandbox stay", source->id, &err);
}

/* --- reading --------------------------------------------------------------------------------- */

static void take_line(struct logs *logs, struct source *source, const char *text, size_t len)
{
    enum log_level level;
    json_t *line = log_line_parse(text, len, &level);

    if (line == NULL)
        return;
    source->tokens -= 1;
    source->since_trim++;
    pthread_mutex_lock(&logs->lock);
    add_line(logs, source, level, line);
    pthread_mutex_unlock(&logs->lock);
}

/* The line that SOURCE has in part is over. */
static void take_part(struct logs *logs, struct source *source)
{
    take_line(logs, source, source->part, source->have);
    free(source->part);
    source->part = NULL;
    source->have = 0;
}

/* LEN bytes have come. A line that is too long is cut into several. */
static void take_bytes(struct logs *logs, struct source *source, const char *data, size_t len)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t n = end != NULL ? (size_t)(end - data) : len, room = LINE_MAX_BYTES - source->have;
        bool whole = end != NULL && n <= room;
        if (n > room)
            n = room;
        if (source->part == NULL && whole) { /* nearly always */
            take_line(logs, source, data, n);
        } else {
            if (source->part == NULL)
                source->part = mem_calloc(LINE_MAX_BYTES, 1);
            memcpy(source->part + source->have, data, n);
            source->have += n;
            if (whole || source->have == LINE_MAX_BYTES)
                take_part(logs, source);
        }
        data += n + whole;
        len -= n + whole;
    }
}

static void refill(struct source *source)
{
    int64_t now = time_mono_ms();

    source->tokens += (double)(now - source->tokens_mono_ms) * LINES_PER_S / 1000;
    if (source->tokens > BURST_LINES)
        source->tokens = BURST_LINES;
    source->tokens_mono_ms = now;
}

static void watch(struct logs *logs, struct source *source, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.ptr = source};

    epoll_ctl(logs->epoll, EPOLL_CTL_MOD, source->fd, &event);
}

/* Leave it alone until it may say more. */
static void rest(struct logs *logs, struct source *source)
{
    if (source->resting)
        return;
    source->resting = true;
    source->rested_mono_ms = time_mono_ms() + PAUSE_MS;
    watch(logs, source, false);
    logs->resting =
        mem_realloc_array(logs->resting, logs->resting_count + 1, sizeof(*logs->resting));
    logs->resting[logs->resting_count++] = source;
}

static void read_source(struct logs *logs, struct source *source)
{
    ssize_t n = read(source->fd, logs->buffer, READ_BYTES);

    if (n > 0)
        take_bytes(logs, source, logs->buffer, (size_t)n);
    refill(source);
    trim(logs, source);
    /* Readable but empty: its other end is gone, and epoll would say so for ever. */
    if (source->tokens < 0 || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        rest(logs, source);
}

static void wake_rested(struct logs *logs)
{
    int64_t now = time_mono_ms();
    size_t left = 0;

    for (size_t i = 0; i < logs->resting_count; i++) {
        struct source *source = logs->resting[i];
        if (source->rested_mono_ms > now) {
            logs->resting[left++] = source;
            continue;
        }
        source->resting = false;
        refill(source);
        watch(logs, source, true);
    }
    logs->resting_count = left;
}

static void source_free(struct source *source)
{
    fd_close(&source->fd);
    free(source->part);
    free(source);
}

/* --- which ----------------------------------------------------------------------------------- */

static void ask(struct logs *logs, const char *id, bool closing)
{
    struct source *source;

    pthread_mutex_lock(&logs->lock);
    source = source_of(logs, id);
    source->wanted = !closing;
    source->closing = closing;
    if (!source->in_todo) {
        source->in_todo = true;
        source->next_todo = logs->todo;
        logs->todo = source;
    }
    pthread_mutex_unlock(&logs->lock);
    wake(logs);
}

void logs_open(struct logs *logs, const char *id)
{
    ask(logs, id, false);
}

void logs_close(struct logs *logs, const char *id)
{
    ask(logs, id, true);
}

static void drop_resting(struct logs *logs, const struct source *source)
{
    size_t left = 0;

    for (size_t i = 0; i < logs->resting_count; i++) {
        if (logs->resting[i] != source)
            logs->resting[left++] = logs->resting[i];
    }
    logs->resting_count = left;
}

static void close_source(struct logs *logs, struct source *source)
{
    ssize_t n;

    if (source->fd >= 0) {
        n = read(source->fd, logs->buffer, READ_BYTES); /* its last words */
        if (n > 0)
            take_bytes(logs, source, logs->buffer, (size_t)n);
        if (source->part != NULL)
            take_part(logs, source);
    }
    drop_resting(logs, source);
    source->resting = false;
    /* Closed alone it would stay in the epoll for as long as anybody has the same pipe end open. */
    if (source->fd >= 0)
        epoll_ctl(logs->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    fd_close(&source->fd);
}

static void open_source(struct logs *logs, struct source *source)
{
    struct engine *engine = logs->observe->engine;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    struct err err = {0};

    close_source(logs, source); /* it runs again: another pipe */
    if (engine->ops->open_log == NULL)
        return;
    if (engine->ops->open_log(engine, source->id, &source->fd, &err) < 0) {
        if (err.code != ERR_NOT_FOUND) /* ended already, or older than log pipes */
            log_err(LOG_WARN, "a sandbox's log cannot be read", source->id, &err);
        return;
    }
    if (epoll_ctl(logs->epoll, EPOLL_CTL_ADD, source->fd, &event) < 0)
        fd_close(&source->fd);
}

static struct source *next_todo(struct logs *logs, bool *wanted, bool *closing)
{
    struct source *source;

    pthread_mutex_lock(&logs->lock);
    source = logs->todo;
    if (source != NULL) {
        logs->todo = source->next_todo;
        source->in_todo = false;
        *wanted = source->wanted;
        *closing = source->closing;
    }
    pthread_mutex_unlock(&logs->lock);
    return source;
}

/* Forget SOURCE, unless somebody has asked for it again. */
static void forget(struct logs *logs, struct source *source)
{
    bool again;

    pthread_mutex_lock(&logs->lock);
    again = source->in_todo;
    if (!again)
        map_remove(&logs->sources, source->id);
    pthread_mutex_unlock(&logs->lock);
    if (!again)
        source_free(source);
}

static void do_todo(struct logs *logs)
{
    struct source *source;
    bool wanted, closing;

    while ((source = next_todo(logs, &wanted, &closing)) != NULL) {
        if (wanted)
            open_source(logs, source);
        else
            close_source(logs, source);
        if (closing)
            forget(logs, source);
    }
}

/* --- the thread ------------------------------------------------------------------------------ */

static bool has_pending(struct logs *logs, bool *stop)
{
    bool has;

    pthread_mutex_lock(&logs->lock);
    has = logs->pending_count > 0;
    *stop = logs->stop;
    pthread_mutex_unlock(&logs->lock);
    return has;
}

static int wait_ms(const struct logs *logs, bool pending)
{
    if (pending)
        return LOG_FLUSH_MS;
    return logs->resting_count > 0 ? PAUSE_MS : -1;
}

static void *logs_main(void *ctx)
{
    struct logs *logs = ctx;
    struct epoll_event events[EVENTS_MAX];
    int64_t flush_mono_ms = 0;
    bool stop = false, pending = false;
    uint64_t count;

    while (!stop) {
        int n = epoll_wait(logs->epoll, events, EVENTS_MAX, wait_ms(logs, pending));
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr != NULL)
                read_source(logs, events[i].data.ptr);
            else if (read(logs->wake, &count, sizeof(count)) < 0)
                continue;
        }
        do_todo(logs); /* after the events: it may free what they point to */
        wake_rested(logs);
        if (pending && time_mono_ms() >= flush_mono_ms) {
            logs_flush(logs);
            pending = false;
        }
        if (has_pending(logs, &stop) && !pending) {
            pending = true;
            flush_mono_ms = time_mono_ms() + LOG_FLUSH_MS;
        }
    }
    logs_flush(logs);
    return NULL;
}

int logs_new(struct observe *observe, struct logs **out, struct err *err)
{
    struct logs *logs = mem_zalloc(sizeof(*logs));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    logs->observe = observe;
    logs->buffer = mem_calloc(READ_BYTES, 1);
    pthread_mutex_init(&logs->lock, NULL);
    pthread_mutex_init(&logs->writing, NULL);
    map_init(&logs->sources);
    logs->epoll = epoll_create1(EPOLL_CLOEXEC);
    logs->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (logs->epoll < 0 || logs->wake < 0 ||
        epoll_ctl(logs->epoll, EPOLL_CTL_ADD, logs->wake, &event) < 0) {
        err_sys(err, errno, "cannot make the log reader");
        logs_free(logs);
        return -1;
    }
    *out = logs;
    return 0;
}

int logs_start(struct logs *logs, struct err *err)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&logs->thread, NULL, logs_main, logs);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_sys(err, rc, "cannot start the log reader");
    pthread_setname_np(logs->thread, "logs");
    logs->started = true;
    return 0;
}

void logs_stop(struct logs *logs)
{
    pthread_mutex_lock(&logs->lock);
    logs->stop = true;
    pthread_mutex_unlock(&logs->lock);
    wake(logs);
    if (logs->started)
        pthread_join(logs->thread, NULL);
    logs->started = false;
}

void logs_free(struct logs *logs)
{
    void *value;

    if (logs == NULL)
        return;
    logs_flush(logs);
    for (size_t at = 0; map_next(&logs->sources, &at, &value);) {
        source_free(value);
    }
    map_clear(&logs->sources);
    fd_close(&logs->epoll);
    fd_close(&logs->wake);
    pthread_mutex_destroy(&logs->lock);
    pthread_mutex_destroy(&logs->writing);
    free(logs->resting);
    free(logs->pending);
    free(logs->buffer);
    free(logs);
}

int observe_logs(struct observe *observe, const struct journal_log_query *query,
                 struct journal_line **out, size_t *count, struct err *err)
{
    logs_flush(observe->logs);
    return journal_logs_list(observe->journal, query, out, count, err);
}
