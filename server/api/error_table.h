/*
 * server/api/error_table.h - how an err is told to a client of the Platform API.
 *
 * Every error is {"code":<status>,"message":…,"error_code"?:…}. SDKs map by `code` or by the
 * status, so both are one number. Source: platform-api.md section 2.
 *
 * Whether the same call may be sent again is said by headers. Python's client repeats 429, 502, 503
 * and 504 for every method when it is told nothing, whatever has `Should-Retry: true`, and nothing
 * with `false`; JavaScript's repeats 429 alone, and only with Retry-After. So:
 *   503, a rate limit         nothing was changed: Should-Retry: true and Retry-After
 *   another limit             waiting does not help, but somebody's end does: Should-Retry: false
 *   500, 504                  something may have been changed: Should-Retry: false
 *   the rest                  neither client repeats it: nothing is said, unless the err says so
 */
#ifndef SANDPIT_API_ERROR_TABLE_H
#define SANDPIT_API_ERROR_TABLE_H

#include "server/base/err.h"
#include "server/http/http.h"

struct error_answer {
    int status;
    const char *error_code; /* NULL: none */
    enum err_retry retry;   /* BY_CODE: nothing is said */
    uint32_t retry_after_s; /* 0: not said */
};

/* How ERR is told: its code's row, and what it says itself. */
struct error_answer error_answer(const struct err *err);

/* The body of ERR. New reference. */
json_t *error_body(const struct err *err);

/* http_config.write_error of the API listener. */
void error_write(struct reply *reply, const struct err *err);

/*
 * What became of ERR, that a POST /sandboxes failed with: the contract's words and error_code for a
 * sandbox that has no place, or that came to nothing.
 */
void error_of_create(struct err *err);

/* Before ERR's message: the contract's words for a body that is no JSON object. Returns -1. */
int error_parse(struct err *err);
/* The same for a field or parameter of a wrong type or range. */
int error_schema(struct err *err);

#endif
