#include "envd/exchange.h"

#include "server/base/mem.h"

struct exchange *exchange_new(struct conn *conn)
{
    struct exchange *ex = mem_zalloc(sizeof(*ex));

    ex->refs = 1;
    ex->conn = conn;
    ex->server = conn->server;
    ex->settings = settings_get();
    buf_init(&ex->body, 0);
    buf_init(&ex->answer_headers, ANSWER_HEADERS_MAX_BYTES);
    return ex;
}

void exchange_trim(struct exchange *ex)
{
    request_head_forget(&ex->head);
    buf_clear(&ex->answer_headers);
    buf_clear(&ex->body);
    budget_release(ex);
    free(ex->user);
    ex->user = NULL;
    free(ex->bad_user);
    ex->bad_user = NULL;
}

struct exchange *exchange_ref(struct exchange *ex)
{
    ex->refs++;
    return ex;
}

void exchange_unref(struct exchange *ex)
{
    if (--ex->refs > 0)
        return;
    exchange_trim(ex);
    settings_unref(ex->settings);
    free(ex);
}
