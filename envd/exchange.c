#include "envd/exchange.h"

#include "server/base/mem.h"

struct exchange *exchange_ref(struct exchange *ex)
{
    ex->refs++;
    return ex;
}

void exchange_unref(struct exchange *ex)
{
    if (--ex->refs > 0)
        return;
    for (size_t i = 0; i < ex->answer_header_count; i++) {
        free(ex->answer_headers[i].name);
        free(ex->answer_headers[i].value);
    }
    request_head_clear(&ex->head);
    settings_unref(ex->settings);
    free(ex->user);
    free(ex->bad_user);
    buf_clear(&ex->body);
    free(ex);
}
