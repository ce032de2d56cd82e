/*
 * server/api/error_table.h - how an err is told to a client of the Platform API.
 *
 * Every error is {"code":<status>,"message":…,"error_code"?:…}. SDKs map by `code` or by the
 * status, so both are one number. Source: platform-api.md section 2.
 */
#ifndef SANDPIT_API_ERROR_TABLE_H
#define SANDPIT_API_ERROR_TABLE_H

#include "server/base/err.h"
#include "server/http/http.h"

/* What else a status means to the Python client's retry rule, which by default repeats these. */
enum retry {
    RETRY_UNSAID,
    RETRY_SOON,  /* nothing was changed: Retry-After */
    RETRY_NEVER, /* something may have been changed: Should-Retry: false */
};

struct error_row {
    int status;
    const char *error_code; /* NULL: none */
    enum retry retry;
};

/* The row of CODE; static storage. */
const struct error_row *error_row(enum err_code code);

/* The body of ERR; ERROR_CODE NULL: the row's. New reference. */
json_t *error_body(const struct err *err, const char *error_code);

/* http_config.write_error of the API listener. */
void error_write(struct reply *reply, const struct err *err);

/* The same with the error_code of a failed POST /sandboxes; logs it. */
void error_write_create(struct reply *reply, const struct err *err);

/* Before ERR's message: the contract's words for a body that is no JSON object. Returns -1. */
int error_parse(struct err *err);
/* The same for a field or parameter of a wrong type or range. */
int error_schema(struct err *err);

#endif
