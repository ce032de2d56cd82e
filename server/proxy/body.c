#include "server/proxy/body.h"

void body_init(struct body *body, enum body_kind kind, uint64_t length)
{
    *body = (struct body){.kind = kind, .left = length};
    body->done = kind == BODY_NONE || (kind == BODY_LENGTH && length == 0);
}

static int take_chunked(struct body *body, char *data, size_t len, size_t *used, size_t *send,
                        struct err *err)
{
    size_t kept = 0;
    bool bad;

    *used = chunked_feed(&body->chunked, data, len, body->strip ? &kept : NULL, &bad);
    if (bad)
        return err_set(err, ERR_INVALID, "malformed chunked body");
    *send = body->strip ? kept : *used;
    body->done = body->chunked.state == CHUNKED_DONE;
    return 0;
}

int body_take(struct body *body, char *data, size_t len, size_t *used, size_t *send,
              struct err *err)
{
    *used = 0;
    *send = 0;
    if (body->done)
        return 0;
    if (body->kind == BODY_CHUNKED)
        return take_chunked(body, data, len, used, send, err);
    *used = len;
    if (body->kind == BODY_LENGTH) {
        if (*used > body->left)
            *used = (size_t)body->left;
        body->left -= *used;
        body->done = body->left == 0;
    }
    *send = *used;
    return 0;
}

bool body_is_whole(const struct body *body, char *data, size_t len)
{
    struct chunked chunked = body->chunked;
    bool bad;

    if (body->done)
        return true;
    if (body->kind == BODY_LENGTH)
        return body->left <= len;
    if (body->kind != BODY_CHUNKED)
        return false;
    chunked_feed(&chunked, data, len, NULL, &bad);
    return !bad && chunked.state == CHUNKED_DONE;
}
