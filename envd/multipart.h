/*
 * envd/multipart.h - a streaming parser of multipart/form-data.
 *
 * Pure and pushed: bytes go in by any division, parts come out through callbacks; file content is
 * passed on as it comes, never gathered. Memory: one part's headers (MULTIPART_HEAD_MAX_BYTES).
 * One owner at a time.
 * Source: RFC 2046 section 5.1, RFC 7578; parameters as Go's mime package reads them (a backslash
 * before an ordinary character is kept, filename*=charset''percent-coded is understood).
 */
#ifndef SANDPIT_ENVD_MULTIPART_H
#define SANDPIT_ENVD_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/buf.h"
#include "server/base/err.h"

#define MULTIPART_BOUNDARY_MAX_BYTES 200 /* RFC 2046 says 70; be generous */
#define MULTIPART_HEAD_MAX_BYTES (16 << 10)
#define MULTIPART_PARTS_MAX 100000

struct multipart_part {
    const char *name;     /* "" when the part has none; borrowed, until the callback returns */
    const char *filename; /* as sent, slashes kept; NULL when the part has none */
};

/* Each may return -1 with *ERR: multipart_feed then returns -1 with it. */
struct multipart_events {
    int (*begin)(void *arg, const struct multipart_part *part, struct err *err);
    int (*data)(void *arg, const char *data, size_t len, struct err *err);
    int (*end)(void *arg, struct err *err);
};

enum multipart_state {
    MULTIPART_PREAMBLE, /* before the first boundary: dropped */
    MULTIPART_MARK,     /* after a boundary: "--", or white space and CRLF */
    MULTIPART_HEAD,
    MULTIPART_BODY,
    MULTIPART_DONE, /* after the closing boundary: dropped */
    MULTIPART_FAILED,
};

struct multipart {
    enum multipart_state state;
    const struct multipart_events *events;
    void *arg;
    char mark[MULTIPART_BOUNDARY_MAX_BYTES + 5]; /* "\r\n--boundary" */
    size_t mark_len;
    size_t matched; /* bytes of `mark` seen and not yet passed on */
    size_t implied; /* of these, the first ones that never were in the input */
    char after[2];  /* MULTIPART_MARK: what followed the boundary so far */
    size_t after_len;
    bool in_part;
    size_t parts;
    struct buf head;
};

/*
 * Start a parse with the boundary of CONTENT_TYPE. Returns 0 (then multipart_clear), or -1 with
 * ERR_INVALID: no or a bad boundary.
 */
int multipart_init(struct multipart *mp, const char *content_type,
                   const struct multipart_events *events, void *arg, struct err *err);
void multipart_clear(struct multipart *mp);

/* Take LEN more bytes. -1 with ERR_INVALID for malformed input, or a callback's error; final. */
int multipart_feed(struct multipart *mp, const char *data, size_t len, struct err *err);

/* The input is over: -1 with ERR_INVALID unless the closing boundary was there. */
int multipart_finish(const struct multipart *mp, struct err *err);

/*
 * The value of parameter NAME in a header value such as `form-data; name="a"`, into OUT (reset
 * first). Returns 1, 0 when it is absent, -1 for a malformed or too long one. Pure.
 */
int multipart_param(const char *value, const char *name, struct buf *out);

#endif
