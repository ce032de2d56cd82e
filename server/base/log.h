/*
 * server/base/log.h - one JSON object a line on standard error.
 *
 * Fields are named one by one; a key, token, header or file content is never one of them.
 * Any thread; a line is one write(2). Source: docs/operations.md, "Log".
 */
#ifndef SANDPIT_BASE_LOG_H
#define SANDPIT_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

#define LOG_LINE_MAX 4096 /* bytes; a longer line is cut, still valid JSON */

/* Lines below LEVEL are dropped. Default LOG_INFO. Any thread. */
void log_set_level(enum log_level level);
/* "debug", "info", "warn", "error" to a level. Returns 0, or -1 for another word. */
int log_level_parse(const char *name, enum log_level *out);
bool log_enabled(enum log_level level);

/*
 * Write {"time":…,"level":…,"msg":MSG,"<key>":"<value>",…}. After MSG come pairs of strings and a
 * NULL (added by the macros); a pair whose value is NULL is left out.
 */
void log_write(enum log_level level, const char *msg, ...) __attribute__((sentinel));
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__, (char *)0)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__, (char *)0)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__, (char *)0)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__, (char *)0)

/*
 * Every line also goes to FD (-1: no longer), in one write whose failure is ignored: a pipe that is
 * non-blocking and full loses it. FD stays the caller's and open.
 */
void log_copy_to(int fd);
/* A line for that copy alone; nothing without one. */
void log_copy_write(enum log_level level, const char *msg, ...) __attribute__((sentinel));
#define log_copy_info(...) log_copy_write(LOG_INFO, __VA_ARGS__, (char *)0)

/*
 * What this thread works for: every line of it, until the next call, ends with "request_id" and
 * "trace_id", unless it names a request_id itself. "" for none. server/loop/work.h hands it on to
 * the worker that a request's work runs on.
 */
#define LOG_REQUEST_SIZE 40
#define LOG_TRACE_SIZE 33
struct log_context {
    char request_id[LOG_REQUEST_SIZE];
    char trace_id[LOG_TRACE_SIZE];
};
void log_context_set(const struct log_context *context); /* copied; NULL: nothing */
void log_context_get(struct log_context *out);

/* An err at LEVEL with its code, message and detail, and "sandbox_id" unless ID is NULL. */
void log_err(enum log_level level, const char *msg, const char *id, const struct err *err);

/* Standard error is a file that may have about BYTES: a line that finds more empties it first. */
void log_bound_file(size_t bytes);

/* A number as text in a buffer of this thread; good for 8 calls in one log line. */
const char *log_num(long long value);

#endif
