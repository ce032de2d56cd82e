/*
 * server/base/err.h - the one error value of the code base.
 *
 * A function that can fail returns 0 or -1 and takes `struct err *err` last. The caller owns the
 * value: nothing to allocate or free, safe to move between threads. Success leaves it untouched.
 */
#ifndef SANDPIT_BASE_ERR_H
#define SANDPIT_BASE_ERR_H

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
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    char msg[ERR_MSG_SIZE];       /* may reach the client: what was wrong, what to do */
    char detail[ERR_DETAIL_SIZE]; /* log only: paths, errno text, a peer's words */
};

#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))

/* Set CODE and msg, clear detail. Returns -1. Any thread. */
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

/* The code that fits an errno value; ERR_INTERNAL when none does. */
enum err_code err_from_errno(int errnum);

/* "INVALID", "NOT_FOUND" …; static storage. */
const char *err_code_name(enum err_code code);

#endif
