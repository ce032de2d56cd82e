/*
 * server/observe/log_line.h - a line that envd wrote, as it is kept.
 *
 * Pure. Whoever is root in the sandbox may write anything there.
 */
#ifndef SANDPIT_OBSERVE_LOG_LINE_H
#define SANDPIT_OBSERVE_LOG_LINE_H

#include "server/base/json.h"
#include "server/base/log.h"

#define LOG_LINE_TEXT_MAX 4096 /* bytes of a message or of a field's value; more is cut */
#define LOG_LINE_FIELDS_MAX 32

/*
 * The object to keep: "level", "logger", "message", and what other strings, numbers and booleans
 * the line had. *LEVEL is its level. A LINE (LEN bytes, untrusted, no newline) that is no JSON
 * object is a message of level info. NULL: there is nothing in it.
 */
json_t *log_line_parse(const char *line, size_t len, enum log_level *level);
/* The same object of words of our own; FIELDS (taken) may be NULL. */
json_t *log_line_make(enum log_level level, const char *logger, const char *message,
                      json_t *fields);
const char *log_level_name(enum log_level level);

#endif
