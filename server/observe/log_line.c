#include "server/observe/log_line.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define LOGGER_DEFAULT "envd"

static const char *const levels[] = {"debug", "info", "warn", "error"};

const char *log_level_name(enum log_level level)
{
    return levels[level];
}

/* Not in the middle of a character. */
static size_t cut_at(const char *text, size_t len, size_t max)
{
    if (len <= max)
        return len;
    while (max > 0 && ((unsigned char)text[max] & 0xc0) == 0x80)
        max--;
    return max;
}

static json_t *cut(const char *text, size_t len)
{
    json_t *json = json_stringn(text, cut_at(text, len, LOG_LINE_TEXT_MAX));

    return json != NULL ? json : json_string("?"); /* not UTF-8 */
}

json_t *log_line_make(enum log_level level, const char *logger, const char *message, json_t *fields)
{
    json_t *line = json_object();

    json_put_str(line, "level", levels[level]);
    json_put_str(line, "logger", logger);
    json_put(line, "message", cut(message, strlen(message)));
    if (fields != NULL) {
        json_object_update_missing(line, fields);
        json_decref(fields);
    }
    return line;
}

/* Bytes that are no text become '?'. */
static json_t *plain(const char *line, size_t len)
{
    _cleanup_free_ char *copy = mem_strndup(line, len);
    json_t *out;

    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)copy[i] < ' ' || (unsigned char)copy[i] > '~')
            copy[i] = '?';
    }
    out = log_line_make(LOG_INFO, LOGGER_DEFAULT, copy, NULL);
    return out;
}

static bool is_own(const char *key)
{
    static const char *const own[] = {"level", "logger", "message", "msg", "time"};

    for (size_t i = 0; i < array_size(own); i++) {
        if (str_eq(key, own[i]))
            return true;
    }
    return false;
}

static void copy_fields(json_t *line, const json_t *from)
{
    size_t count = 0;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)from, key, value) {
        if (is_own(key) || strlen(key) > 64 || count == LOG_LINE_FIELDS_MAX)
            continue;
        if (json_is_string(value))
            json_put(line, key, cut(json_string_value(value), json_string_length(value)));
        else if (json_is_number(value) || json_is_boolean(value))
            json_put(line, key, json_incref(value));
        else
            continue;
        count++;
    }
}

static const char *text_of(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

json_t *log_line_parse(const char *line, size_t len, enum log_level *level)
{
    struct err ignored = {0};
    _cleanup_json_ json_t *json = NULL;
    const char *word, *message, *logger;
    json_t *out;

    *level = LOG_INFO;
    if (len == 0)
        return NULL;
    json = line[0] == '{' ? json_parse_object(line, len, &ignored) : NULL;
    if (json == NULL)
        return plain(line, len);
    word = text_of(json, "level");
    if (word != NULL)
        log_level_parse(word, level);
    message = text_of(json, "msg");
    if (message == NULL)
        message = text_of(json, "message");
    logger = text_of(json, "logger");
    if (logger == NULL || strlen(logger) > 64)
        logger = LOGGER_DEFAULT;
    out = log_line_make(*level, logger, message != NULL ? message : "", NULL);
    copy_fields(out, json);
    return out;
}
