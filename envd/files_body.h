/*
 * envd/files_body.h - the body of an upload, unpacked when it is gzip.
 *
 * Worker thread; belongs to one request.
 */
#ifndef SANDPIT_ENVD_FILES_BODY_H
#define SANDPIT_ENVD_FILES_BODY_H

#include <stdbool.h>
#include <sys/types.h>
#include <zlib.h>

#include "envd/http.h"

struct files_body {
    struct exchange *ex;
    bool gzip;
    bool member_ended; /* gzip: between members, the only place where the body may end */
    z_stream stream;
    unsigned char *packed; /* gzip: bytes as they came */
};

/* By the request's Content-Encoding: none, identity or gzip; else ERR_INVALID. */
int files_body_init(struct files_body *body, struct exchange *ex, struct err *err);
void files_body_clear(struct files_body *body);

/* Up to LEN bytes; 0 at the end; -1 with *ERR (http_body_read's, or ERR_INVALID: bad gzip). */
ssize_t files_body_read(struct files_body *body, void *data, size_t len, struct err *err);

/* How long it will be: Content-Length of a body that is not packed, else -1. */
int64_t files_body_length(const struct files_body *body);

#endif
