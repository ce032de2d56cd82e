/*
 * envd/connect/gzip.h - compressed request messages. Pure. Any thread.
 */
#ifndef ENVD_CONNECT_GZIP_H
#define ENVD_CONNECT_GZIP_H

#include <stddef.h>

#include "server/base/buf.h"
#include "server/base/err.h"

/* Append what LEN bytes of gzip hold. -1: ERR_INVALID; ERR_LIMIT when OUT's maximum is passed. */
int gzip_inflate(const char *data, size_t len, struct buf *out, struct err *err);

#endif
