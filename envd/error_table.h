/*
 * envd/error_table.h - how an err looks from outside: Connect code, its HTTP status, and the status
 * of the plain HTTP endpoints.
 *
 * Pure. Source: envd-api section 2.4; the Connect protocol, "Error codes".
 */
#ifndef ENVD_ERROR_TABLE_H
#define ENVD_ERROR_TABLE_H

#include "server/base/err.h"

enum connect_code {
    CONNECT_NONE = 0,
    CONNECT_CANCELED,
    CONNECT_UNKNOWN,
    CONNECT_INVALID_ARGUMENT,
    CONNECT_DEADLINE_EXCEEDED,
    CONNECT_NOT_FOUND,
    CONNECT_ALREADY_EXISTS,
    CONNECT_PERMISSION_DENIED,
    CONNECT_RESOURCE_EXHAUSTED,
    CONNECT_FAILED_PRECONDITION,
    CONNECT_ABORTED,
    CONNECT_OUT_OF_RANGE,
    CONNECT_UNIMPLEMENTED,
    CONNECT_INTERNAL,
    CONNECT_UNAVAILABLE,
    CONNECT_DATA_LOSS,
    CONNECT_UNAUTHENTICATED,
    CONNECT_CODE_COUNT
};

/* "not_found" …; static storage. */
const char *connect_code_name(enum connect_code code);
/* The HTTP status of a unary error. */
int connect_code_status(enum connect_code code);
/* What an err is by default. */
enum connect_code connect_code_of(enum err_code code);
/* The status of a plain HTTP endpoint: NO_SPACE is 507 there. */
int error_http_status(enum err_code code);

#endif
