#include "envd/files_body.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

#include "server/base/mem.h"

#define PACKED_BYTES (256 << 10) /* read at once */

static int bad_gzip(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "error decompressing request body: %s", what);
}

int files_body_init(struct files_body *body, struct exchange *ex, struct err *err)
{
    const char *encoding = http_header(ex, "content-encoding");

    *body = (struct files_body){.ex = ex};
    if (encoding == NULL || encoding[0] == '\0' || strcasecmp(encoding, "identity") == 0)
        return 0;
    if (strcasecmp(encoding, "gzip") != 0)
        return err_set(err, ERR_INVALID,
                       "error decompressing request body: unsupported Content-Encoding: %.100s",
                       encoding);
    if (inflateInit2(&body->stream, MAX_WBITS + 16) != Z_OK)
        return err_set(err, ERR_INTERNAL, "cannot decompress");
    body->gzip = true;
    body->packed = mem_zalloc(PACKED_BYTES);
    return 0;
}

void files_body_clear(struct files_body *body)
{
    if (body->gzip)
        inflateEnd(&body->stream);
    free(body->packed);
    *body = (struct files_body){0};
}

/* More packed bytes. 1, 0 at the end of the body, -1. */
static int refill(struct files_body *body, struct err *err)
{
    ssize_t len = http_body_read(body->ex, body->packed, PACKED_BYTES, err);

    if (len <= 0)
        return (int)len;
    body->stream.next_in = body->packed;
    body->stream.avail_in = (uInt)len;
    if (body->member_ended) { /* RFC 1952: members follow each other */
        body->member_ended = false;
        inflateReset(&body->stream);
    }
    return 1;
}

static ssize_t read_gzip(struct files_body *body, void *data, size_t len, struct err *err)
{
    z_stream *stream = &body->stream;
    uInt room = len < UINT_MAX ? (uInt)len : UINT_MAX;

    stream->next_out = data;
    stream->avail_out = room;
    while (stream->avail_out == room) {
        int rc;
        if (stream->avail_in == 0) {
            rc = refill(body, err);
            if (rc == 0 && !body->member_ended)
                return bad_gzip(err, "unexpected EOF");
            if (rc <= 0)
                return rc;
        } else if (body->member_ended) {
            body->member_ended = false;
            inflateReset(stream);
        }
        rc = inflate(stream, Z_NO_FLUSH);
        if (rc == Z_STREAM_END)
            body->member_ended = true;
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return bad_gzip(err, stream->msg != NULL ? stream->msg : "invalid data");
    }
    return (ssize_t)(room - stream->avail_out);
}

ssize_t files_body_read(struct files_body *body, void *data, size_t len, struct err *err)
{
    if (body->gzip)
        return read_gzip(body, data, len, err);
    return http_body_read(body->ex, data, len, err);
}

int64_t files_body_length(const struct files_body *body)
{
    return body->gzip ? -1 : http_body_length(body->ex);
}
