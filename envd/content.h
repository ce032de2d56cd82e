/*
 * envd/content.h - headers of a file served over HTTP: type, name, dates, ranges, encodings.
 *
 * Pure. Any thread.
 * Source: RFC 9110 sections 12.5.3, 13.1, 14; RFC 2231; WHATWG MIME Sniffing for content_sniff.
 */
#ifndef SANDPIT_ENVD_CONTENT_H
#define SANDPIT_ENVD_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "server/base/buf.h"

#define CONTENT_SNIFF_BYTES 512
#define CONTENT_DATE_SIZE 32
#define CONTENT_RANGES_MAX 64 /* more in one request: the whole file is the answer */

/* The type that the extension of NAME stands for (static storage), or NULL. */
const char *content_type_of(const char *name);
/* The type that the first bytes (up to CONTENT_SNIFF_BYTES) look like. Static storage. */
const char *content_sniff(const void *data, size_t len);

/* `inline; filename=NAME`, quoted or RFC 2231 where the name wants it. Appends to OUT. */
void content_disposition(const char *name, struct buf *out);

/* "Sun, 06 Nov 1994 08:49:37 GMT". */
void content_date(time_t when, char out[CONTENT_DATE_SIZE]);
/* The same from a header, obsolete forms too. False when it is no date. */
bool content_date_parse(const char *text, time_t *out);

struct content_range {
    int64_t start;
    int64_t length; /* > 0 */
};

enum content_ranges {
    CONTENT_WHOLE,         /* no range asked for, or one to be ignored */
    CONTENT_PARTS,         /* *OUT has COUNT > 0 rows */
    CONTENT_MALFORMED,     /* 416 */
    CONTENT_UNSATISFIABLE, /* 416 with Content-Range: bytes */
};

/*
 * Parse a Range header (NULL: none) for a file of SIZE bytes. Ranges that together are larger than
 * the file, or more than CONTENT_RANGES_MAX of them, give CONTENT_WHOLE.
 */
enum content_ranges content_ranges_parse(const char *header, int64_t size,
                                         struct content_range out[CONTENT_RANGES_MAX],
                                         size_t *count);

enum content_encoding {
    CONTENT_IDENTITY,
    CONTENT_GZIP, /* the client refuses identity and takes gzip */
    CONTENT_NONE, /* 406 */
};
/* What to answer an Accept-Encoding header (NULL: none) with. Identity wherever it is allowed. */
enum content_encoding content_encoding_of(const char *accept);

#endif
