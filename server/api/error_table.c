#include "server/api/error_table.h"

#include <stdio.h>

#include "server/api/wire.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define BUSY_RETRY_AFTER_S 1

static const struct error_answer rows[] = {
    [ERR_NONE] = {500, "internal_server_error", ERR_RETRY_NO, 0},
    [ERR_INVALID] = {400, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_UNAUTHENTICATED] = {401, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_FORBIDDEN] = {403, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_NOT_FOUND] = {404, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_EXISTS] = {409, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_CONFLICT] = {409, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_LIMIT] = {429, NULL, ERR_RETRY_NO, 0},
    [ERR_INTERNAL] = {500, "internal_server_error", ERR_RETRY_NO, 0},
    [ERR_UNSUPPORTED] = {501, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_BUSY] = {503, NULL, ERR_RETRY_YES, BUSY_RETRY_AFTER_S},
    [ERR_TIMEOUT] = {504, NULL, ERR_RETRY_NO, 0},
    [ERR_NO_SPACE] = {507, NULL, ERR_RETRY_BY_CODE, 0},
    [ERR_UNKNOWN] = {422, NULL, ERR_RETRY_NO, 0},
};
_Static_assert(array_size(rows) == ERR_CODE_COUNT, "one row per code");

struct error_answer error_answer(const struct err *err)
{
    struct error_answer answer =
        rows[(unsigned)err->code < ERR_CODE_COUNT ? err->code : ERR_INTERNAL];

    if (err->error_code != NULL)
        answer.error_code = err->error_code;
    if (err->retry != ERR_RETRY_BY_CODE) {
        answer.retry = err->retry;
        answer.retry_after_s = err->retry_after_s;
    }
    return answer;
}

json_t *error_body(const struct err *err)
{
    struct error_answer answer = error_answer(err);
    json_t *body = json_object();

    json_put_i64(body, "code", answer.status);
    /* a peer's bytes may be in a message; JSON takes UTF-8 alone */
    json_t *message = json_string(err->msg);
    json_put(body, "message", message != NULL ? message : json_string("invalid request"));
    if (answer.error_code != NULL)
        json_put_str(body, "error_code", answer.error_code);
    return body;
}

void error_write(struct reply *reply, const struct err *err)
{
    struct error_answer answer = error_answer(err);
    char seconds[16];
    json_t *body;

    if (answer.retry_after_s > 0) {
        snprintf(seconds, sizeof(seconds), "%u", (unsigned)answer.retry_after_s);
        reply_header(reply, "retry-after", seconds);
    }
    if (answer.retry != ERR_RETRY_BY_CODE)
        reply_header(reply, "should-retry", answer.retry == ERR_RETRY_YES ? "true" : "false");
    body = error_body(err);
    if (str_starts(reply_target(reply), WIRE_CONTENT_PREFIX)) { /* its errors have text there */
        char status[8];
        snprintf(status, sizeof(status), "%d", answer.status);
        json_put_str(body, "code", status);
    }
    reply_json(reply, answer.status, body);
}

static int prefix(struct err *err, const char *words)
{
    const struct err before = *err;

    snprintf(err->msg, sizeof(err->msg), "%s: %.*s", words, (int)sizeof(err->msg) / 2, before.msg);
    return -1;
}

/* No place for it: nothing is left, and it may be tried again. */
static void no_place(struct err *err)
{
    err->code = ERR_BUSY;
    err_name(err, "sandbox_capacity_unavailable");
    prefix(err, "Failed to place sandbox");
}

void error_of_create(struct err *err)
{
    if (err->error_code != NULL)
        return; /* whoever set it knew better */
    if (err->code == ERR_BUSY || err->code == ERR_NO_SPACE) {
        no_place(err);
    } else if (err->code == ERR_TIMEOUT) {
        err_name(err, "sandbox_placement_timeout");
        prefix(err, "Failed to place sandbox");
    } else if (err->code == ERR_INTERNAL) {
        err_name(err, "sandbox_create_failed");
    }
}

int error_parse(struct err *err)
{
    return prefix(err, "Error when parsing request");
}

int error_schema(struct err *err)
{
    return prefix(err, "validation error");
}
