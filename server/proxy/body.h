/*
 * server/proxy/body.h - the framing of the body of one direction: how many of the bytes at hand
 * belong to it, and whether it is complete.
 *
 * Pure; one owner. Source: RFC 9112 section 6.3.
 */
#ifndef SANDPIT_PROXY_BODY_H
#define SANDPIT_PROXY_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/chunked.h"

enum body_kind {
    BODY_NONE,
    BODY_LENGTH,
    BODY_CHUNKED,
    BODY_TO_EOF, /* a response that ends with the connection; a tunnel */
};

struct body {
    enum body_kind kind;
    bool done;
    bool strip; /* take chunked framing out (for a client that speaks HTTP/1.0) */
    uint64_t left;
    struct chunked chunked;
};

/* LENGTH counts for BODY_LENGTH only. */
void body_init(struct body *body, enum body_kind kind, uint64_t length);
/*
 * Of the LEN bytes at DATA, the first *USED belong to the body; the first *SEND of them are to be
 * passed on (all of them unless framing is stripped, which changes DATA). ERR_INVALID: malformed.
 */
int body_take(struct body *body, char *data, size_t len, size_t *used, size_t *send,
              struct err *err);
/* The LEN bytes at DATA hold all of the body that is still to come. Changes nothing. */
bool body_is_whole(const struct body *body, char *data, size_t len);

#endif
