/*
 * server/base/err.h - the one error value of the code base.
 *
 * A function that can fail returns 0 or -1 and takes `struct err *err` last. The caller owns the
 * value: nothing to allocate or free, safe to move between threads. Success leaves it untouched.
 */
#ifndef SANDPIT_BASE_ERR_H
#define SANDPIT_BASE_ERR_H

#include <stdint.h>

#define ERR_MSG_SIZE 512    /* bytes with the NUL; longer text is cut */
#define ERR_DETAIL_SIZE 512 /* bytes with the NUL */

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,
    ERR_UNAUTHENTICATED,
    ERR_FORBIDDEN,
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_CONFLICT,
    ERR_LIMIT,
    ERR_INTERNAL,
    ERR_UNSUPPORTED,
    ERR_BUSY,
    ERR_TIMEOUT,
    ERR_NO_SPACE,
    ERR_UNKNOWN, /* whether an earlier call had its effect cannot be said any more */
    ERR_CODE_COUNT
};

/* What a client is told about sending the same call again; see server/api/error_table.h. */
enum err_retry {
    ERR_RETRY_BY_CODE, /* what the code's row says */
    ERR_RETRY_YES,     /* nothing was changed, and it may well succeed */
    ERR_RETRY_NO,
};

struct err {
    enum err_code code;
    enum err_retry retry;
    uint32_t retry_after_s;       /* not sooner than this; 0: nothing said, or the code's row */
    const char *error_code;       /* for programs ("idempotency_in_progress"); static; or NULL */
    char msg[ERR_MSG_SIZE];       /* may reach the client: what was wrong, what to do */
    char detail[ERR_DETAIL_SIZE]; /* log only: paths, errno text, a peer's words */
};

#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))

/* Set CODE and msg, clear the rest. Returns -1. Any thread. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) _printf_(3, 4);

/*
 * Set an error from ERRNUM (an errno value): code by err_from_errno, msg from FMT, detail is
 * "<msg>: <errno text>". Returns -1. Any thread.
 */
int err_sys(struct err *err, int errnum, const char *fmt, ...) _printf_(3, 4);

/* Put "<text>: " before detail; msg and code stay. Returns -1. Any thread. */
int err_wrap(struct err *err, const char *fmt, ...) _printf_(2, 3);

/* Set detail alone (log only), keeping code and msg. Returns -1. Any thread. */
int err_detail(struct err *err, const char *fmt, ...) _printf_(2, 3);

/* Set what programs know the error by; ERROR_CODE is static storage. Returns -1. Any thread. */
int err_name(struct err *err, const char *error_code);

/* Set what is said about a repetition. Returns -1. Any thread. */
int err_retry(struct err *err, enum err_retry retry, uint32_t after_s);

/* The code that fits an errno value; ERR_INTERNAL when none does. */
enum err_code err_from_errno(int errnum);

/* "INVALID", "NOT_FOUND" …; static storage. */
const char *err_code_name(enum err_code code);

#endif
