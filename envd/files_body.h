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
#include "envd/scratch.h"

#define FILES_BODY_GZIP_MAX 64 /* packed bodies at once: each keeps 44 KiB; more wait */

struct files_body {
    struct exchange *ex;
    bool gzip;
    bool member_ended; /* gzip: between members, the only place where the body may end */
    z_stream stream;
    struct scratch unpacked; /* gzip: while the handler runs */
};

/* By the request's Content-Encoding: none, identity or gzip; else ERR_INVALID. HTTP_AGAIN. */
int files_body_init(struct files_body *body, struct exchange *ex, struct err *err);
void files_body_clear(struct files_body *body);

/* As http_body_take; also ERR_INVALID for bad gzip. */
ssize_t files_body_take(struct files_body *body, const char **data, struct err *err);
/* The handler returns: what only a running one needs is given back. */
void files_body_rest(struct files_body *body);

/* How long it will be: Content-Length of a body that is not packed, else -1. */
int64_t files_body_length(const struct files_body *body);
/* As http_body_spliceable; 0 for a packed body. */
uint64_t files_body_spliceable(const struct files_body *body);

#endif
