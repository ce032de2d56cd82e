#include "envd/error_table.h"

#include "server/base/mem.h"

static const struct {
    const char *name;
    int status;
} connect_codes[] = {
    [CONNECT_NONE] = {"internal", 500},
    [CONNECT_CANCELED] = {"canceled", 499},
    [CONNECT_UNKNOWN] = {"unknown", 500},
    [CONNECT_INVALID_ARGUMENT] = {"invalid_argument", 400},
    [CONNECT_DEADLINE_EXCEEDED] = {"deadline_exceeded", 504},
    [CONNECT_NOT_FOUND] = {"not_found", 404},
    [CONNECT_ALREADY_EXISTS] = {"already_exists", 409},
    [CONNECT_PERMISSION_DENIED] = {"permission_denied", 403},
    [CONNECT_RESOURCE_EXHAUSTED] = {"resource_exhausted", 429},
    [CONNECT_FAILED_PRECONDITION] = {"failed_precondition", 400},
    [CONNECT_ABORTED] = {"aborted", 409},
    [CONNECT_OUT_OF_RANGE] = {"out_of_range", 400},
    [CONNECT_UNIMPLEMENTED] = {"unimplemented", 501},
    [CONNECT_INTERNAL] = {"internal", 500},
    [CONNECT_UNAVAILABLE] = {"unavailable", 503},
    [CONNECT_DATA_LOSS] = {"data_loss", 500},
    [CONNECT_UNAUTHENTICATED] = {"unauthenticated", 401},
};
_Static_assert(array_size(connect_codes) == CONNECT_CODE_COUNT, "a row per Connect code");

static const struct {
    enum connect_code connect;
    int status;
} errors[] = {
    [ERR_NONE] = {CONNECT_INTERNAL, 500},
    [ERR_INVALID] = {CONNECT_INVALID_ARGUMENT, 400},
    [ERR_UNAUTHENTICATED] = {CONNECT_UNAUTHENTICATED, 401},
    [ERR_FORBIDDEN] = {CONNECT_PERMISSION_DENIED, 403},
    [ERR_NOT_FOUND] = {CONNECT_NOT_FOUND, 404},
    [ERR_EXISTS] = {CONNECT_ALREADY_EXISTS, 409},
    [ERR_CONFLICT] = {CONNECT_FAILED_PRECONDITION, 409},
    [ERR_LIMIT] = {CONNECT_RESOURCE_EXHAUSTED, 429},
    [ERR_INTERNAL] = {CONNECT_INTERNAL, 500},
    [ERR_UNSUPPORTED] = {CONNECT_UNIMPLEMENTED, 501},
    [ERR_BUSY] = {CONNECT_UNAVAILABLE, 503},
    [ERR_TIMEOUT] = {CONNECT_DEADLINE_EXCEEDED, 504},
    [ERR_NO_SPACE] = {CONNECT_RESOURCE_EXHAUSTED, 507},
    [ERR_UNKNOWN] = {CONNECT_UNKNOWN, 422},
};
_Static_assert(array_size(errors) == ERR_CODE_COUNT, "a row per err code");

const char *connect_code_name(enum connect_code code)
{
    return connect_codes[code < CONNECT_CODE_COUNT ? code : CONNECT_INTERNAL].name;
}

int connect_code_status(enum connect_code code)
{
    return connect_codes[code < CONNECT_CODE_COUNT ? code : CONNECT_INTERNAL].status;
}

enum connect_code connect_code_of(enum err_code code)
{
    return errors[code < ERR_CODE_COUNT ? code : ERR_INTERNAL].connect;
}

int error_http_status(enum err_code code)
{
    return errors[code < ERR_CODE_COUNT ? code : ERR_INTERNAL].status;
}
