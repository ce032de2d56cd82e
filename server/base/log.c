#include "server/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define NUM_SLOTS 8
#define NUM_SIZE 24
#define TAIL_BYTES 4 /* room kept for `"}` and a newline */

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static _Atomic int min_level = LOG_INFO;
static _Atomic size_t file_max_bytes; /* 0: no bound */
static _Atomic int copy_fd = -1;
static __thread struct log_context work; /* what this thread works for */

void log_set_level(enum log_level level)
{
    atomic_store(&min_level, (int)level);
}

int log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < array_size(level_names); i++) {
        if (str_eq(name, level_names[i])) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load(&min_level);
}

void log_bound_file(size_t bytes)
{
    atomic_store(&file_max_bytes, bytes);
}

static void keep_bound(void)
{
    size_t max = atomic_load(&file_max_bytes);
    off_t end = max > 0 ? lseek(STDERR_FILENO, 0, SEEK_END) : -1;

    if (end > 0 && (size_t)end > max && ftruncate(STDERR_FILENO, 0) < 0)
        atomic_store(&file_max_bytes, 0); /* no file: nothing to bound */
}

/* Append S as the inside of a JSON string; bytes that are not UTF-8 become '?'. */
static size_t put_escaped(char *line, size_t at, size_t max, const char *s)
{
    bool utf8 = str_is_utf8(s, strlen(s));

    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        char esc[8];
        if (c == '"' || c == '\\')
            snprintf(esc, sizeof(esc), "\\%c", c);
        else if (c < 0x20)
            snprintf(esc, sizeof(esc), "\\u%04x", c);
        else
            snprintf(esc, sizeof(esc), "%c", c < 0x80 || utf8 ? c : '?');
        size_t len = strlen(esc);
        if (at + len > max)
            break;
        memcpy(line + at, esc, len);
        at += len;
    }
    /* never end inside a multi-byte character: a cut line stays valid UTF-8 */
    while (*s != '\0' && at > 0 && ((unsigned char)line[at - 1] & 0x80))
        at--;
    return at;
}

static size_t put_pair(char *line, size_t at, size_t max, const char *key, const char *value)
{
    size_t start = at, key_len = strlen(key);

    if (at + key_len + 8 > max)
        return start;
    if (at > 1)
        line[at++] = ',';
    line[at++] = '"';
    memcpy(line + at, key, key_len);
    at += key_len;
    memcpy(line + at, "\":\"", 3);
    at = put_escaped(line, at + 3, max - 1, value);
    line[at++] = '"';
    return at;
}

/* The line of MSG and its pairs. Returns its length. */
static size_t format(char line[LOG_LINE_MAX], enum log_level level, const char *msg, va_list args)
{
    const size_t max = LOG_LINE_MAX - TAIL_BYTES;
    char stamp[TIME_RFC3339_SIZE];
    const char *key, *value;
    bool named = false;
    size_t at = 1;

    line[0] = '{';
    time_rfc3339_ms(time_unix_ms(), stamp);
    at = put_pair(line, at, max, "time", stamp);
    at = put_pair(line, at, max, "level", level_names[level]);
    at = put_pair(line, at, max, "msg", msg);
    while ((key = va_arg(args, const char *)) != NULL) {
        value = va_arg(args, const char *);
        if (value != NULL)
            at = put_pair(line, at, max, key, value);
        named |= str_eq(key, "request_id");
    }
    if (!named && work.request_id[0] != '\0')
        at = put_pair(line, at, max, "request_id", work.request_id);
    if (!named && work.trace_id[0] != '\0')
        at = put_pair(line, at, max, "trace_id", work.trace_id);
    line[at++] = '}';
    line[at++] = '\n';
    return at;
}

void log_context_set(const struct log_context *context)
{
    work = context != NULL ? *context : (struct log_context){.request_id = ""};
}

void log_context_get(struct log_context *out)
{
    *out = work;
}

static void put_copy(const char *line, size_t len)
{
    int fd = atomic_load(&copy_fd);

    if (fd >= 0 && write(fd, line, len) < 0)
        return; /* full: that is what it may do */
}

void log_copy_to(int fd)
{
    atomic_store(&copy_fd, fd);
}

void log_copy_write(enum log_level level, const char *msg, ...)
{
    char line[LOG_LINE_MAX];
    va_list args;

    if (!log_enabled(level) || atomic_load(&copy_fd) < 0)
        return;
    va_start(args, msg);
    put_copy(line, format(line, level, msg, args));
    va_end(args);
}

void log_write(enum log_level level, const char *msg, ...)
{
    char line[LOG_LINE_MAX];
    va_list args;
    size_t len;

    if (!log_enabled(level))
        return;
    va_start(args, msg);
    len = format(line, level, msg, args);
    va_end(args);
    keep_bound();
    put_copy(line, len);
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nobody reads the log: nowhere to say so */
}

void log_err(enum log_level level, const char *msg, const char *id, const struct err *err)
{
    log_write(level, msg, "error", err->msg, "error_code", err_code_name(err->code), "detail",
              err->detail[0] != '\0' ? err->detail : NULL, "sandbox_id", id, (char *)0);
}

const char *log_num(long long value)
{
    static __thread char slots[NUM_SLOTS][NUM_SIZE];
    static __thread unsigned next;
    char *slot = slots[next++ % NUM_SLOTS];

    snprintf(slot, NUM_SIZE, "%lld", value);
    return slot;
}
