#include "server/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    [ERR_NONE] = "NONE",
    [ERR_INVALID] = "INVALID",
    [ERR_UNAUTHENTICATED] = "UNAUTHENTICATED",
    [ERR_FORBIDDEN] = "FORBIDDEN",
    [ERR_NOT_FOUND] = "NOT_FOUND",
    [ERR_EXISTS] = "EXISTS",
    [ERR_CONFLICT] = "CONFLICT",
    [ERR_LIMIT] = "LIMIT",
    [ERR_INTERNAL] = "INTERNAL",
    [ERR_UNSUPPORTED] = "UNSUPPORTED",
    [ERR_BUSY] = "BUSY",
    [ERR_TIMEOUT] = "TIMEOUT",
    [ERR_NO_SPACE] = "NO_SPACE",
    [ERR_UNKNOWN] = "UNKNOWN",
};
_Static_assert(sizeof(names) / sizeof(names[0]) == ERR_CODE_COUNT, "one name per code");

enum err_code err_from_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_FORBIDDEN;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case EAGAIN:
    case EBUSY:
        return ERR_BUSY;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EMFILE:
    case ENFILE:
        return ERR_LIMIT;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    default:
        return ERR_INTERNAL;
    }
}

/* Everything but the texts. */
static void begin(struct err *err, enum err_code code)
{
    err->code = code;
    err->retry = ERR_RETRY_BY_CODE;
    err->retry_after_s = 0;
    err->error_code = NULL;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;

    begin(err, code);
    err->detail[0] = '\0';
    va_start(args, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, args);
    va_end(args);
    return -1;
}

int err_sys(struct err *err, int errnum, const char *fmt, ...)
{
    char buf[128];
    va_list args;

    begin(err, err_from_errno(errnum));
    va_start(args, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, args);
    va_end(args);
    snprintf(err->detail, sizeof(err->detail), "%.300s: %s", err->msg,
             strerror_r(errnum, buf, sizeof(buf)));
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char text[ERR_DETAIL_SIZE];
    char old[ERR_DETAIL_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    memcpy(old, err->detail, sizeof(old));
    snprintf(err->detail, sizeof(err->detail), "%.250s: %.250s", text, old[0] ? old : err->msg);
    return -1;
}

int err_detail(struct err *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(err->detail, sizeof(err->detail), fmt, args);
    va_end(args);
    return -1;
}

int err_name(struct err *err, const char *error_code)
{
    err->error_code = error_code;
    return -1;
}

int err_retry(struct err *err, enum err_retry retry, uint32_t after_s)
{
    err->retry = retry;
    err->retry_after_s = after_s;
    return -1;
}

const char *err_code_name(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT ? names[code] : "?";
}
