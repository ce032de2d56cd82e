/*
 * envd/connect/gzip.h - compressed messages. Pure. Any thread.
 */
#ifndef ENVD_CONNECT_GZIP_H
#define ENVD_CONNECT_GZIP_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/buf.h"
#include "server/base/err.h"

/* Append what LEN bytes of gzip hold. -1: ERR_INVALID; ERR_LIMIT when OUT's maximum is passed. */
int gzip_inflate(const char *data, size_t len, struct buf *out, struct err *err);

/* Append LEN bytes as gzip, at zlib's fastest level. -1: OUT's maximum is passed, or no memory. */
int gzip_deflate(const char *data, size_t len, struct buf *out);

/*
 * An Accept-Encoding (or Connect-Accept-Encoding) header takes gzip: it names gzip, x-gzip or "*"
 * with a weight above 0. RFC 9110 section 12.5.3.
 */
bool gzip_accepted(const char *header);

#endif
