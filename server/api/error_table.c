#include "server/api/error_table.h"

#include "server/base/log.h"
#include "server/base/mem.h"

#define RETRY_AFTER_S "1"

static const struct error_row rows[] = {
    [ERR_NONE] = {500, "internal_server_error", RETRY_UNSAID},
    [ERR_INVALID] = {400, NULL, RETRY_UNSAID},
    [ERR_UNAUTHENTICATED] = {401, NULL, RETRY_UNSAID},
    [ERR_FORBIDDEN] = {403, NULL, RETRY_UNSAID},
    [ERR_NOT_FOUND] = {404, NULL, RETRY_UNSAID},
    [ERR_EXISTS] = {409, NULL, RETRY_UNSAID},
    [ERR_CONFLICT] = {409, NULL, RETRY_UNSAID},
    [ERR_LIMIT] = {429, NULL, RETRY_SOON}, /* JavaScript retries 429 only with Retry-After */
    [ERR_INTERNAL] = {500, "internal_server_error", RETRY_UNSAID},
    [ERR_UNSUPPORTED] = {501, NULL, RETRY_UNSAID},
    [ERR_BUSY] = {503, NULL, RETRY_SOON}, /* both SDKs: nothing changed, may be repeated */
    [ERR_TIMEOUT] = {504, NULL, RETRY_NEVER},
    [ERR_NO_SPACE] = {507, NULL, RETRY_UNSAID},
};
_Static_assert(array_size(rows) == ERR_CODE_COUNT, "one row per code");

const struct error_row *error_row(enum err_code code)
{
    return &rows[(unsigned)code < ERR_CODE_COUNT ? code : ERR_INTERNAL];
}

json_t *error_body(const struct err *err, const char *error_code)
{
    const struct error_row *row = error_row(err->code);
    json_t *body = json_object();

    if (error_code == NULL)
        error_code = row->error_code;
    json_put_i64(body, "code", row->status);
    /* a peer's bytes may be in a message; JSON takes UTF-8 alone */
    json_t *message = json_string(err->msg);
    json_put(body, "message", message != NULL ? message : json_string("invalid request"));
    if (error_code != NULL)
        json_put_str(body, "error_code", error_code);
    return body;
}

static void send_error(struct reply *reply, const struct err *err, const char *error_code)
{
    const struct error_row *row = error_row(err->code);

    if (row->retry == RETRY_SOON)
        reply_header(reply, "retry-after", RETRY_AFTER_S);
    else if (row->retry == RETRY_NEVER)
        reply_header(reply, "should-retry", "false");
    reply_json(reply, row->status, error_body(err, error_code));
}

void error_write(struct reply *reply, const struct err *err)
{
    send_error(reply, err, NULL);
}

void error_write_create(struct reply *reply, const struct err *err)
{
    static const char *const codes[ERR_CODE_COUNT] = {
        [ERR_BUSY] = "sandbox_capacity_unavailable",
        [ERR_TIMEOUT] = "sandbox_placement_timeout",
        [ERR_INTERNAL] = "sandbox_create_failed",
        [ERR_NO_SPACE] = "sandbox_capacity_unavailable",
    };
    const char *error_code = codes[(unsigned)err->code < ERR_CODE_COUNT ? err->code : ERR_INTERNAL];

    log_err(error_row(err->code)->status >= 500 ? LOG_ERROR : LOG_INFO, "create failed", NULL, err);
    send_error(reply, err, error_code);
}

static int prefix(struct err *err, const char *words)
{
    const struct err before = *err;

    return err_set(err, before.code, "%s: %s", words, before.msg);
}

int error_parse(struct err *err)
{
    return prefix(err, "Error when parsing request");
}

int error_schema(struct err *err)
{
    return prefix(err, "validation error");
}
